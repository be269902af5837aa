-- name: upsert
-- Writes refunds of several partitions' orders under the version guard, of those that the writer still owns.
-- Older never wins. Within the second of `modified` the platform's own version decides where both have one
-- that differs, and otherwise the later fetch does. Of an erased seller nothing is written; of one that is back,
-- revisions go on rising. Answers as `upsert` of orders does, and lets go of a `modified` ahead of $17 like it.
with owner as materialized (
    select partition
    from partition_owners
    where (partition, epoch) in (select * from unnest($1::integer[], $2::bigint[]))
    order by partition
    for share
), incoming as (
    select t.*, coalesce(s.revision_floor, 0) + 1 as revision
    from unnest(
        $3::integer[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::bytea[],
        $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[]
    ) as t (
        partition, refund_id, seller_id, created, modified, status, content_hash, fetched_at, source, refund, step,
        tid, oid, refund_version
    )
    join owner using (partition)
    left join sellers as s on s.seller_id = t.seller_id
    where s.state is distinct from 'erased'
), written as (
    insert into refunds as r (
        refund_id, tid, oid, seller_id, created, modified, refund_version, status, content_hash, fetched_at,
        source, refund, step, revision
    )
    select
        refund_id, tid, oid, seller_id, created, modified, refund_version, status, content_hash, fetched_at,
        source, refund::jsonb, step::jsonb, revision
    from incoming
    order by refund_id
    on conflict (refund_id) do update
    set
        created = excluded.created,
        modified = excluded.modified,
        refund_version = excluded.refund_version,
        fetched_at = excluded.fetched_at,
        status = excluded.status,
        source = case when r.content_hash = excluded.content_hash then r.source else excluded.source end,
        refund = case when r.content_hash = excluded.content_hash then r.refund else excluded.refund end,
        step = case when r.content_hash = excluded.content_hash then r.step else excluded.step end,
        revision = r.revision + case when r.content_hash = excluded.content_hash then 0 else 1 end,
        content_hash = excluded.content_hash
    where r.modified < excluded.modified
       or (r.modified = excluded.modified and case
              when r.refund_version <> excluded.refund_version then r.refund_version < excluded.refund_version
              else r.fetched_at < excluded.fetched_at
          end)
       or (r.modified > $17::timestamptz and r.fetched_at < excluded.fetched_at)
    returning
        r.refund_id as key, r.revision, r.published_revision < r.revision as unpublished, r.xmax = 0 as inserted
), answers as (
    select array(select partition from owner) as owned, null as key, null as revision, null as unpublished,
        null as inserted
    union all
    select null, key, revision, unpublished, inserted from written
)
select * from answers order by owned nulls last


-- name: before
-- Of the given refunds, those that are stored with another hash, as they are stored.
select
    r.refund_id as key, r.refund::text as value, r.modified, r.content_hash,
    r.published_revision < r.revision as unpublished, r.step::text as step
from unnest($1::bigint[], $2::bytea[]) as t (refund_id, content_hash)
join refunds as r using (refund_id)
where r.content_hash <> t.content_hash


-- name: known
select refund_id as key, modified, fetched_at, published_revision >= revision as published, status
from refunds
where refund_id = any($1::bigint[])


-- name: unpublished
-- Of the given refunds, those whose newest version is not in the topic yet.
select
    refund_id as key, tid, oid, seller_id, revision, modified, status, fetched_at, refund::text as value, source,
    step::text as step
from refunds
where refund_id = any($1::bigint[]) and published_revision < revision
order by refund_id


-- name: unpublished_ids
-- Every refund whose newest version is not in the topic yet: what a crash between table and topic left.
select refund_id as key, tid from refunds where published_revision < revision order by refund_id


-- name: mark_published
-- Durable: were it undone by a crash of the database that the writer does not notice, the next version would
-- tell once more what was told.
update refunds as r
set published_revision = greatest(r.published_revision, t.revision)
from unnest($1::bigint[], $2::bigint[]) as t (refund_id, revision)
where r.refund_id = t.refund_id


-- name: outstanding
-- Of the refunds that the platform lists, those that are not yet stored and published as listed; see that of orders.
select t.refund_id as key
from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as t (refund_id, modified, settled_after)
left join refunds as r using (refund_id)
where r.refund_id is null
   or r.published_revision < r.revision
   or r.modified < t.modified
   or (
       r.fetched_at < t.settled_after
       and (r.modified = t.modified or t.modified is null or r.modified > $4::timestamptz)
   )
order by t.refund_id


-- name: states
select refund_id as key, modified, content_hash from refunds where seller_id = $1


-- name: values_of
select refund_id as key, refund::text as value from refunds where refund_id = any($1::bigint[])


-- name: stored
-- Of the given refunds, the newest versions, whether the topic has them or not; none of a seller that is erased.
select
    refund_id as key, tid, oid, seller_id, revision, modified, status, fetched_at, refund::text as value, source,
    step::text as step
from refunds as r
where refund_id = any($1::bigint[])
  and not exists (select from sellers as s where s.seller_id = r.seller_id and s.state = 'erased')
order by refund_id

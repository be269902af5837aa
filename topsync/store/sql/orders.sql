-- name: upsert
-- Writes orders of several partitions under the version guard, of those that the writer still owns.
-- Older never wins. Equal `modified` with other content wins only when fetched later: the platform's
-- resolution is a second. Fetched at the same moment, the greater hash wins, so that whatever comes first, the
-- outcome is the same. The same version fetched again only proves that it was still current.
-- What is stored with a `modified` ahead of the platform's time, $14, gives way to whatever is fetched later.
-- Of an erased seller nothing is written, however it got here; of one that is back, revisions go on rising.
-- Answers with the partitions that are owned, and then with the rows written.
with owner as materialized (
    select partition
    from partition_owners
    where (partition, epoch) in (select * from unnest($1::integer[], $2::bigint[]))
    order by partition
    for share
), incoming as (
    select t.*, coalesce(s.revision_floor, 0) + 1 as revision
    from unnest(
        $3::integer[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[], $8::text[],
        $9::bytea[], $10::timestamptz[], $11::text[], $12::text[], $13::text[]
    ) as t (partition, tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade, step)
    join owner using (partition)
    left join sellers as s on s.seller_id = t.seller_id
    where s.state is distinct from 'erased'
), written as (
    insert into orders as o (
        tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade, step, revision
    )
    select
        tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade::jsonb, step::jsonb,
        revision
    from incoming
    order by tid
    on conflict (tid) do update
    set
        modified = excluded.modified,
        fetched_at = excluded.fetched_at,
        status = excluded.status,
        source = case when o.content_hash = excluded.content_hash then o.source else excluded.source end,
        trade = case when o.content_hash = excluded.content_hash then o.trade else excluded.trade end,
        step = case when o.content_hash = excluded.content_hash then o.step else excluded.step end,
        revision = o.revision + case when o.content_hash = excluded.content_hash then 0 else 1 end,
        content_hash = excluded.content_hash
    where (o.modified, o.fetched_at, o.content_hash)
        < (excluded.modified, excluded.fetched_at, excluded.content_hash)
       or (o.modified > $14::timestamptz and o.fetched_at < excluded.fetched_at)
    returning
        o.tid as key, o.revision, o.published_revision < o.revision as unpublished, o.xmax = 0 as inserted
), answers as (
    select array(select partition from owner) as owned, null as key, null as revision, null as unpublished,
        null as inserted
    union all
    select null, key, revision, unpublished, inserted from written
)
select * from answers order by owned nulls last


-- name: before
-- Of the given orders, those that are stored with another hash, as they are stored.
select
    o.tid as key, o.trade::text as value, o.modified, o.content_hash,
    o.published_revision < o.revision as unpublished, o.step::text as step
from unnest($1::bigint[], $2::bytea[]) as t (tid, content_hash)
join orders as o using (tid)
where o.content_hash <> t.content_hash


-- name: known
select tid as key, modified, fetched_at, published_revision >= revision as published, status
from orders
where tid = any($1::bigint[])


-- name: refund_lines
select o.tid, o.fetched_at, l.oid, l.refund_id, l.refund_status
from orders as o
cross join lateral jsonb_to_recordset(o.trade -> 'orders') as l (oid bigint, refund_id bigint, refund_status text)
where o.tid = any($1::bigint[])


-- name: unpublished
-- Of the given orders, those whose newest version is not in the topic yet.
select
    tid as key, tid, null as oid, seller_id, revision, modified, status, fetched_at, trade::text as value, source,
    step::text as step
from orders
where tid = any($1::bigint[]) and published_revision < revision
order by tid


-- name: unpublished_ids
-- Every order whose newest version is not in the topic yet: what a crash between table and topic left.
select tid as key, tid from orders where published_revision < revision order by tid


-- name: mark_published
-- Durable: were it undone by a crash of the database that the writer does not notice, the next version would
-- tell once more what was told.
update orders as o
set published_revision = greatest(o.published_revision, t.revision)
from unnest($1::bigint[], $2::bigint[]) as t (tid, revision)
where o.tid = t.tid


-- name: outstanding
-- Of the orders that the platform lists, those that are not yet stored and published as listed. An equal
-- `modified` counts only when the stored state was fetched late enough to be final for that second; so does one
-- that lies ahead of the platform's time, $4, and any where the list does not say a time that can be.
select t.tid as key
from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as t (tid, modified, settled_after)
left join orders as o using (tid)
where o.tid is null
   or o.published_revision < o.revision
   or o.modified < t.modified
   or (
       o.fetched_at < t.settled_after
       and (o.modified = t.modified or t.modified is null or o.modified > $4::timestamptz)
   )
order by t.tid


-- name: take_over
insert into partition_owners as p (partition, epoch, owner) values ($1, 1, $2)
on conflict (partition) do update set epoch = p.epoch + 1, owner = excluded.owner, taken_at = now()
returning epoch


-- name: newest_epoch
select epoch from partition_owners where partition = $1


-- name: states
select tid as key, modified, content_hash from orders where seller_id = $1


-- name: values_of
select tid as key, trade::text as value from orders where tid = any($1::bigint[])


-- name: count_by_seller
select seller_id, count(*) as orders from orders group by seller_id


-- name: stored
-- Of the given orders, the newest versions, whether the topic has them or not; none of a seller that is erased.
select
    tid as key, tid, null as oid, seller_id, revision, modified, status, fetched_at, trade::text as value, source,
    step::text as step
from orders as o
where tid = any($1::bigint[])
  and not exists (select from sellers as s where s.seller_id = o.seller_id and s.state = 'erased')
order by tid

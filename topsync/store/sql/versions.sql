-- The statements of every table of versions (`orders`, `refunds`), written once. For each table,
-- `topsync/store/versions.py` fills in:
--   {table}, {key}, {value}: its name, the column with the id, and the column with the JSON;
--   {own}, {own_values}, {set_own}: the columns that only this table has, where they come from, and how they change;
--   {oid}: the line that a row belongs to;
--   {guard}: when a stored row (v) gives way to a version (excluded), the section `guard` of the table's own file.

-- name: upsert
-- Writes versions of several partitions under the version guard, of those that the writer still owns.
-- An older version never wins. The same version fetched again only proves that it was still current.
-- What is stored with a `modified` ahead of the platform's time, $4, gives way to whatever is fetched later.
-- Nothing of an erased seller is written, however it got here; if the seller is back, revisions go on rising.
-- Answers with the partitions that are owned, and then with the rows written.
with owner as materialized (
    select partition
    from partition_owners
    where (partition, epoch) in (select * from unnest($1::integer[], $2::bigint[]))
    order by partition
    for share
), incoming as (
    select t.*, coalesce(s.revision_floor, 0) + 1 as revision
    from unnest($3::version_row[]) as t
    join owner using (partition)
    left join sellers as s on s.seller_id = t.seller_id
    where s.state is distinct from 'erased'
), written as (
    insert into {table} as v (
        {key}, {own} seller_id, created, modified, status, content_hash, fetched_at, source, {value}, step, revision
    )
    select
        key, {own_values} seller_id, created, modified, status, content_hash, fetched_at, source, value::jsonb,
        step::jsonb, revision
    from incoming
    order by key
    on conflict ({key}) do update
    set
        {set_own}
        created = excluded.created,
        modified = excluded.modified,
        fetched_at = excluded.fetched_at,
        status = excluded.status,
        source = case when v.content_hash = excluded.content_hash then v.source else excluded.source end,
        {value} = case when v.content_hash = excluded.content_hash then v.{value} else excluded.{value} end,
        step = case when v.content_hash = excluded.content_hash then v.step else excluded.step end,
        revision = v.revision + case when v.content_hash = excluded.content_hash then 0 else 1 end,
        content_hash = excluded.content_hash
    where {guard}
       or (v.modified > $4::timestamptz and v.fetched_at < excluded.fetched_at)
    returning
        v.{key} as key, v.revision, v.published_revision < v.revision as unpublished, v.xmax = 0 as inserted
), answers as (
    select array(select partition from owner) as owned, null as key, null as revision, null as unpublished,
        null as inserted
    union all
    select null, key, revision, unpublished, inserted from written
)
select * from answers order by owned nulls last


-- name: before
-- Of these versions, the stored rows that have another hash. Says `= any` beside the join: joined alone, a plan that was
-- made while the table was small reads the whole table, and is used on while a bulk start fills it.
select
    v.{key} as key, v.{value}::text as value, v.modified, v.content_hash,
    v.published_revision < v.revision as unpublished, v.step::text as step
from unnest($1::bigint[], $2::bytea[]) as t ({key}, content_hash)
join {table} as v using ({key})
where v.{key} = any($1) and v.content_hash <> t.content_hash


-- name: known
select {key} as key, modified, fetched_at, published_revision >= revision as published, status
from {table}
where {key} = any($1::bigint[])


-- name: unpublished
-- Of these rows, the rows whose newest version is not in the topic yet.
select
    {key} as key, tid, {oid} as oid, seller_id, revision, modified, status, fetched_at, {value}::text as value, source,
    step::text as step
from {table}
where {key} = any($1::bigint[]) and published_revision < revision
order by {key}


-- name: unpublished_ids
-- All rows whose newest version is not in the topic yet: what a crash between table and topic left.
select {key} as key, tid from {table} where published_revision < revision order by {key}


-- name: stored
-- Of these, the newest versions, whether the topic has them or not; no version of a seller that is erased.
select
    {key} as key, tid, {oid} as oid, seller_id, revision, modified, status, fetched_at, {value}::text as value, source,
    step::text as step
from {table} as v
where {key} = any($1::bigint[])
  and not exists (select from sellers as s where s.seller_id = v.seller_id and s.state = 'erased')
order by {key}


-- name: mark_published
-- Durable: if a crash of the database undid it and the writer did not notice, the next version would report
-- the same again. For `= any` see `before`.
update {table} as v
set published_revision = greatest(v.published_revision, t.revision)
from unnest($1::bigint[], $2::bigint[]) as t ({key}, revision)
where v.{key} = t.{key} and v.{key} = any($1)


-- name: outstanding
-- Of what the platform lists, that which is not yet stored and published as listed. An equal `modified` counts only
-- when the stored state was fetched late enough to be final for that second. The same holds
-- for a stored time ahead of the platform's time, $4, and for any where the list says no possible time.
-- For `= any` see `before`.
select t.{key} as key
from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as t ({key}, modified, settled_after)
left join {table} as v on v.{key} = t.{key} and v.{key} = any($1)
where v.{key} is null
   or v.published_revision < v.revision
   or v.modified < t.modified
   or (
       v.fetched_at < t.settled_after
       and (v.modified = t.modified or t.modified is null or v.modified > $4::timestamptz)
   )
order by t.{key}


-- name: states
select {key} as key, modified, content_hash from {table} where seller_id = $1


-- name: count_of_day
-- How many of a seller are dated in a span: orders by their creation, their parts by their change.
select count(*) from {table} where seller_id = $1 and {dated} >= $2 and {dated} < $3


-- name: copies_of_day
select
    {key} as key, tid, created, modified, status, revision, published_revision >= revision as is_published
from {table}
where seller_id = $1 and {dated} >= $2 and {dated} < $3


-- name: copies
select
    {key} as key, tid, created, modified, status, revision, published_revision >= revision as is_published
from {table}
where {key} = any($1::bigint[])


-- name: doubt
-- What a row holds is not what its hash says: the next fetch of the same `modified` counts as another version, and
-- replaces it. Only while the row is the revision that was compared. Not a version itself: nothing is published.
update {table} as v
set content_hash = ''
from unnest($1::bigint[], $2::bigint[]) as t ({key}, revision)
where v.{key} = t.{key} and v.{key} = any($1) and v.revision = t.revision


-- name: reached
-- Of these objects of a seller, those that are stored: how far, and whether any version was published.
select {key} as key, modified, published_revision > 0 as was_published
from {table}
where {key} = any($1::bigint[]) and seller_id = $2


-- name: reached_revision
-- The revision above which the next version of an object of a seller comes. An object without a row was never stored, or
-- its seller was erased, which has left the floor.
select coalesce(
    (select revision from {table} where {key} = $1), (select revision_floor from sellers where seller_id = $2), 0
)


-- name: values_of
select {key} as key, {value}::text as value from {table} where {key} = any($1::bigint[])


-- name: published
-- What the topic should have. Rows of erased sellers need not be in it any more.
select {key} as key, published_revision as revision
from {table} as v
where published_revision > 0
  and ($1::bigint[] is null or {key} = any($1))
  and not exists (select from sellers as s where s.seller_id = v.seller_id and s.state = 'erased')


-- name: count_published
select count(*) from {table} where published_revision > 0


-- name: count
-- Everything, a seller's, or what belongs to some orders; nothing of erased sellers.
select count(*)
from {table} as v
where ($1::bigint is null or v.seller_id = $1)
  and ($2::bigint[] is null or v.tid = any($2))
  and not exists (select from sellers as s where s.seller_id = v.seller_id and s.state = 'erased')


-- name: count_of_seller
select count(*) from {table} where seller_id = $1


-- name: tids_among
select distinct tid from {table} where tid = any($1::bigint[])


-- name: candidates_of_all
select {key} as key, tid, pg_column_size({value}) as bytes from {table} where {key} > $1 order by {key} limit $2


-- name: candidates_of_seller
select {key} as key, tid, pg_column_size({value}) as bytes
from {table}
where seller_id = $3 and {key} > $1
order by {key}
limit $2


-- name: candidates_of_some
select {key} as key, tid, pg_column_size({value}) as bytes
from {table}
where tid = any($3::bigint[]) and {key} > $1
order by {key}
limit $2


-- name: catch_up
-- Brings rows up to the newest versions of the topic, $1 with their revisions $2: the table was restored from a backup.
-- What the topic shows is published. A row that is newer all the same gets a revision above it, and is published next.
-- Of an erased seller nothing is written. Answers with how many rows were new, and how many changed.
with incoming as (
    select t.*, r.revision
    from unnest($1::version_row[]) with ordinality as t (
        partition, key, tid, oid, seller_id, created, modified, platform_version, status, content_hash, fetched_at,
        source, value, step, place
    )
    join unnest($2::bigint[]) with ordinality as r (revision, place) using (place)
    left join sellers as s on s.seller_id = t.seller_id
    where s.state is distinct from 'erased'
), written as (
    insert into {table} as v (
        {key}, {own} seller_id, created, modified, status, content_hash, fetched_at, source, {value}, step, revision,
        published_revision
    )
    select
        key, {own_values} seller_id, created, modified, status, content_hash, fetched_at, source, value::jsonb,
        step::jsonb, revision, revision
    from incoming
    order by key
    on conflict ({key}) do update
    set
        {set_own}
        created = excluded.created,
        modified = excluded.modified,
        fetched_at = excluded.fetched_at,
        status = excluded.status,
        source = excluded.source,
        {value} = excluded.{value},
        step = excluded.step,
        content_hash = excluded.content_hash,
        revision = greatest(v.revision, excluded.revision),
        published_revision = greatest(v.published_revision, excluded.revision)
    where v.{value} <> excluded.{value} and ({guard})
    returning v.{key} as key, v.xmax = 0 as inserted
), raised as (
    -- The rows that the statement above left: those that were there, and are not older than the topic.
    update {table} as v
    set
        revision = greatest(v.revision, i.revision + case when v.{value} = i.value::jsonb then 0 else 1 end),
        published_revision = greatest(v.published_revision, i.revision)
    from incoming as i
    where v.{key} = i.key
      and v.{key} = any(array(select key from incoming))
      and not exists (select from written as w where w.key = i.key)
      and (v.revision < i.revision or v.published_revision < i.revision
           or (v.revision = i.revision and v.{value} <> i.value::jsonb))
    returning v.{key} as key
)
select
    (select count(*) from written where inserted) as inserted,
    (select count(*) from written where not inserted) + (select count(*) from raised) as changed

-- name: get
select * from export_slices where seller_id = $1 and number = $2


-- name: of_seller
select * from export_slices where seller_id = $1 order by kind, first_day, number


-- name: of_all
select s.*
from export_slices as s
join bootstraps as b using (seller_id)
where b.state <> 'live'
order by s.seller_id, s.kind, s.first_day, s.number


-- name: tasks
select task_id from export_slices where task_id is not null


-- name: add
insert into export_slices (seller_id, number, kind, way, first_day, last_day, expected, failed_tasks)
select $1, *
from unnest($2::integer[], $3::text[], $4::text[], $5::date[], $6::date[], $7::integer[], $8::integer[])


-- name: failed_tasks
select kind, first_day, last_day, max(failed_tasks) as failed_tasks
from export_slices
where seller_id = $1
group by kind, first_day, last_day


-- name: remove
-- Of a kind, what has not been loaded yet; of all kinds, everything.
delete from export_slices
where seller_id = $1 and ($2::text is null or (kind = $2 and state not in ('loaded', 'stored')))


-- name: remove_unloaded_rows
delete from slice_rows
where seller_id = $1
  and slice = any(array(
    select number from export_slices where seller_id = $1 and kind = $2 and state not in ('loaded', 'stored')
  ))


-- name: highest_number
select max(number) from export_slices where seller_id = $1


-- name: drop
delete from export_slices where seller_id = $1 and number = $2


-- name: remove_rows
-- By their key, because by `ctid` a plan made for an empty table would read all of it. Two slices may hold the same id:
-- then a few more go, which go anyway.
with picked as materialized (
    select slice, id from slice_rows where seller_id = $1 order by slice, id limit $2
)
delete from slice_rows
where seller_id = $1 and slice = any(array(select slice from picked)) and id = any(array(select id from picked))


-- name: requested
update export_slices
set
    state = 'requested', task_id = $3, created_at = $4, adopted = $5, check_code = null, file_bytes = null, failure = null
where seller_id = $1 and number = $2


-- name: set_state
update export_slices set state = $3 where seller_id = $1 and number = $2


-- name: move_first_day
update export_slices set first_day = $3 where seller_id = $1 and number = $2


-- name: task_failed
update export_slices set state = 'waiting', failed_tasks = failed_tasks + 1 where seller_id = $1 and number = $2


-- name: downloaded
update export_slices
set
    state = 'downloaded', check_code = $3, file_bytes = $4, lines = 0, published = 0, repaired = 0, refused = 0,
    missing = null, failure = null
where seller_id = $1 and number = $2


-- name: clear_rows
delete from slice_rows where seller_id = $1 and slice = $2


-- name: add_rows
-- The counts are of what was handed over before these rows: from there, the next run goes on.
with slice as (
    update export_slices
    set lines = $6, published = $7, repaired = $8, refused = $9
    where seller_id = $1 and number = $2
    returning seller_id, number
), added as (
    insert into slice_rows as r (seller_id, slice, id, order_id, modified)
    select s.seller_id, s.number, t.id, t.order_id, t.modified
    from slice as s
    cross join unnest($3::bigint[], $4::bigint[], $5::timestamptz[]) as t (id, order_id, modified)
    on conflict (seller_id, slice, id) do update set modified = greatest(r.modified, excluded.modified)
)
select count(*) from slice


-- name: add_missing
-- What is there already was noted by a former run, and is counted.
with slice as (
    select seller_id, number from export_slices where seller_id = $1 and number = $2 for no key update
), added as (
    insert into slice_rows (seller_id, slice, id, order_id, modified)
    select s.seller_id, s.number, t.id, t.order_id, t.modified
    from slice as s
    cross join unnest($3::bigint[], $4::bigint[], $5::timestamptz[]) as t (id, order_id, modified)
    on conflict do nothing
    returning 1
), counted as (
    update export_slices
    set missing = coalesce(missing, 0) + (select count(*) from added)
    where (seller_id, number) in (select seller_id, number from slice)
)
select count(*) from slice


-- name: count_missing
select missing from export_slices where seller_id = $1 and number = $2


-- name: begin_listing
update export_slices set state = 'waiting', lines = 0, repaired = 0, failure = null where seller_id = $1 and number = $2


-- name: loaded
update export_slices
set state = 'loaded', lines = $3, published = $4, repaired = $5, refused = $6, failure = null
where seller_id = $1 and number = $2


-- name: stored
update export_slices
set
    state = 'stored', objects = $3, counted = $4, counted_at = $5, missing = $6, unlisted = $7, failure = null
where seller_id = $1 and number = $2


-- name: failed
update export_slices set failure = $3 where seller_id = $1 and number = $2


-- name: count_rows
select count(*) from slice_rows where seller_id = $1 and slice = $2


-- name: count_by_day
select (modified at time zone interval '8 hours')::date as day, count(*) as objects
from slice_rows
where seller_id = $1 and slice = $2 and modified is not null
group by day


-- name: known
select id from slice_rows where seller_id = $1 and slice = $2 and id = any($3)


-- name: next_rows
-- Of the next few rows: the last, how many are not stored and published as they should be, and the first of those. Asks
-- for the objects by their ids: a plan that was made while the table was small would read the whole table, and is used on
-- while it fills.
with rows as materialized (
    select id, modified from slice_rows where seller_id = $1 and slice = $2 and id > $5 order by id limit $6
), found as materialized (
    -- each kind, joined by union all
    select {key} as id, modified, fetched_at, revision, published_revision
    from {table}
    where $4::text = '{kind}' and {key} = any(array(select id from rows))
    -- end
), judged as (
    select
        r.id,
        v.published_revision >= v.revision
        and (v.modified >= r.modified or (r.modified is null and v.fetched_at >= $3)) is true as is_stored
    from rows as r
    left join found as v using (id)
)
select
    max(id) as last,
    count(*) filter (where is_stored is not true) as unstored,
    (array_agg(id order by id) filter (where is_stored is not true))[1:$7] as some
from judged


-- name: rows_of
select id, coalesce(order_id, id) as order_id, modified
from slice_rows
where seller_id = $1 and slice = $2 and id = any($3)
order by id


-- name: unread
-- Of which only the id is known, and whether they are stored and published since.
with rows as materialized (
    select id, order_id, modified from slice_rows where seller_id = $1 and slice = $2 and modified is null
), found as materialized (
    -- each kind, joined by union all
    select {key} as id, fetched_at, revision, published_revision
    from {table}
    where $4::text = '{kind}' and {key} = any(array(select id from rows))
    -- end
)
select
    r.id,
    coalesce(r.order_id, r.id) as order_id,
    r.modified,
    (v.published_revision >= v.revision and v.fetched_at >= $3) is true as is_stored
from rows as r
left join found as v using (id)
order by r.id

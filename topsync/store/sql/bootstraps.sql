-- name: begin
-- A bulk start that is under way goes on; a bulk start that was finished begins anew.
insert into bootstraps as b (seller_id, state, first_day, day_zero, started_at)
select seller_id, 'subscribed', $2, $3, $4 from sellers where seller_id = $1 and state <> 'erased' for share
on conflict (seller_id) do update
set
    state = excluded.state, first_day = excluded.first_day, day_zero = excluded.day_zero,
    started_at = excluded.started_at, certified_at = null, certificate = null, failed_exports = 0
where b.state = 'live'


-- name: get
select
    b.seller_id, b.state, b.first_day, b.day_zero, b.started_at, b.failed_exports, b.certificate,
    e.task_id, e.created_at, e.adopted, e.check_code, e.file_bytes, e.lines, e.published, e.repaired, e.refused
from bootstraps as b
left join exports as e using (seller_id)
where b.seller_id = $1


-- name: set_state
update bootstraps set state = $2 where seller_id = $1


-- name: export_failed
update bootstraps set state = $2, failed_exports = failed_exports + 1 where seller_id = $1


-- name: move_day_zero
-- An adopted task may be older than this bootstrap: the increments must begin on the day of its creation.
update bootstraps set day_zero = least(day_zero, $2) where seller_id = $1


-- name: save_export
insert into exports (seller_id, task_id, created_at, adopted)
select seller_id, $2, $3, $4 from bootstraps where seller_id = $1 for key share
on conflict (seller_id) do update
set
    task_id = excluded.task_id, created_at = excluded.created_at, adopted = excluded.adopted,
    check_code = null, file_bytes = null, lines = null, published = null, repaired = null, refused = null


-- name: save_file
update exports set check_code = $2, file_bytes = $3 where seller_id = $1


-- name: save_counts
update exports set lines = $2, published = $3, repaired = $4, refused = $5 where seller_id = $1


-- name: clear_rows
delete from export_rows where seller_id = $1


-- name: add_rows
insert into export_rows as r (seller_id, tid, modified)
select e.seller_id, t.tid, t.modified
from exports as e
cross join unnest($2::bigint[], $3::timestamptz[]) as t (tid, modified)
where e.seller_id = $1
for key share of e
on conflict (seller_id, tid) do update set modified = greatest(r.modified, excluded.modified)


-- name: count_rows
select count(*) from export_rows where seller_id = $1


-- name: count_unstored
-- Costs as much as reading all of the seller's orders.
select count(*)
from export_rows as r
left join orders as o using (tid)
where r.seller_id = $1
  and (
    o.tid is null
    or o.published_revision < o.revision
    or o.modified < r.modified
    or (r.modified is null and o.fetched_at < $2)
  )


-- name: next_rows
-- Of the next few rows, the last, and whether all of them are stored and published. Asks for the orders by
-- their ids: a plan that was made while the table was small would read the whole table, and is used on while it fills.
with rows as materialized (
    select tid, modified from export_rows where seller_id = $1 and tid > $3 order by tid limit $4
), found as materialized (
    select tid, modified, fetched_at, revision, published_revision
    from orders
    where tid = any(array(select tid from rows))
)
select
    max(r.tid) as last,
    bool_and(
        o.published_revision >= o.revision
        and (o.modified >= r.modified or (r.modified is null and o.fetched_at >= $2))
    ) is true and count(*) = count(o.revision) as are_stored
from rows as r
left join found as o using (tid)


-- name: rows
select tid, modified from export_rows where seller_id = $1 order by tid


-- name: certify
update bootstraps set state = 'live', certified_at = $2, certificate = $3::jsonb where seller_id = $1

-- name: preview
select
    (select count(*) from refetches where seller_id = $1) as refetches,
    (select count(*) from bootstraps where seller_id = $1) as bootstraps,
    (select count(*) from certificates where seller_id = $1) as certificates,
    (select count(*) from slice_rows where seller_id = $1)
        + (select count(*) from export_rows where seller_id = $1) as slice_rows,
    (select count(*) from windows where seller_id = $1)
        + (select count(*) from window_days where seller_id = $1) as windows,
    (select count(*) from gaps where seller_id = $1) as gaps,
    (
        select count(*)
        from (
            select id from replays where seller_id = $1 union select replay from replay_pieces where seller_id = $1
        ) as of_seller
    ) as replays


-- name: stop
-- Whoever writes for a seller under a share of this row's lock has ended before; whoever comes later finds the state.
-- Another number, so that nobody who still knows the session can write it back.
update sellers
set
    state = 'erased',
    state_reason = $2,
    state_since = now(),
    session_cipher = '',
    session_version = session_version + 1,
    session_ends_at = null,
    authorised_at = null,
    refresh_cipher = null,
    refresh_ends_at = null,
    grant_facts = '{}',
    refused_at = null,
    replay_due = false,
    scheme = null,
    messages_cancelled = false,
    refresh_attempts = 0,
    refresh_begun_at = null,
    refresh_not_before = '-infinity',
    updated_at = now()
where seller_id = $1 and state <> 'erased'


-- name: begin
insert into erasures (seller_id, orders)
select $1, count(*)
from (
    -- each kind, joined by union
    select tid from {table} where seller_id = $1
    -- end
) as t
on conflict (seller_id) do update
set begun_at = now(), orders = excluded.orders, platform_told_at = null, finished_at = null


-- name: get
select e.begun_at, e.orders, e.platform_told_at is not null as platform_notified, e.finished_at
from erasures as e
join sellers as s using (seller_id)
where e.seller_id = $1 and s.state = 'erased'


-- name: platform_notified
update erasures set platform_told_at = now() where seller_id = $1


-- name: orders
-- There may be a refund whose order cannot be fetched.
-- each kind, joined by union
select tid from {table} where seller_id = $1
-- end


-- name: left
select
    (
        select count(*)
        from (
            -- each kind, joined by union
            select tid from {table} where seller_id = $1
            -- end
        ) as t
    ) as orders,
    (select count(*) from tombstones where seller_id = $1) as tombstones


-- name: erase_orders
-- Takes orders of erased sellers out of the tables, and their parts with them, if the writer still owns their
-- partition. What is left of each is its tombstone, until the topic has it.
with owner as materialized (
    select 1 from partition_owners where partition = $1 and epoch = $2 for share
),
-- each kind
gone_{table} as (
    delete from {table} as v
    using sellers as s
    where v.tid = any($3::bigint[])
      and s.seller_id = v.seller_id
      and s.state = 'erased'
      and exists (select from owner)
    returning '{kind}' as kind, v.{key} as id, v.tid, v.seller_id, v.revision + 1 as revision
),
-- end
gone as (
    -- each kind, joined by union all
    select * from gone_{table}
    -- end
), marked as (
    insert into tombstones (kind, id, tid, seller_id, revision, erased_at)
    select kind, id, tid, seller_id, revision, $4 from gone
), raised as (
    update sellers as s
    set revision_floor = g.revision
    from (select seller_id, max(revision) as revision from gone group by seller_id) as g
    where s.seller_id = g.seller_id and s.revision_floor < g.revision
)
select (select count(*) from owner) as owned, (select count(*) from gone where kind = 'order') as erased


-- name: tombstones
select kind, id, tid, seller_id, revision, erased_at from tombstones where tid = any($1::bigint[]) order by kind, id


-- name: all_tombstones
select kind, id, tid, seller_id, revision, erased_at from tombstones order by kind, id


-- name: forget_tombstones
delete from tombstones as d
using unnest($1::text[], $2::bigint[]) as t (kind, id)
where d.kind = t.kind and d.id = t.id and d.kind = any($1) and d.id = any($2)


-- name: clear_slice_rows
-- By their key, because by `ctid` a plan made for an empty table would read all of it. Two slices may hold the same id:
-- then a few more go, which go anyway.
with picked as materialized (
    select slice, id from slice_rows where seller_id = $1 order by slice, id limit $2
)
delete from slice_rows
where seller_id = $1 and slice = any(array(select slice from picked)) and id = any(array(select id from picked))


-- name: clear_export_rows
-- Of the former release, as `exports`.
delete from export_rows
where seller_id = $1 and tid = any(array(select tid from export_rows where seller_id = $1 order by tid limit $2))


-- name: clear_windows
delete from windows where id = any(array(select id from windows where seller_id = $1 order by pulled_at limit $2))


-- name: clear_window_days
delete from window_days where seller_id = $1


-- name: clear_refetches
delete from refetches where ctid = any(array(select ctid from refetches where seller_id = $1 limit $2))


-- name: lock_bootstrap
-- A bulk start that is under way adds rows under a share of these locks.
select 1 from bootstraps where seller_id = $1 for update


-- name: lock_export
select 1 from exports where seller_id = $1 for update


-- name: lock_slices
select 1 from export_slices where seller_id = $1 order by number for update


-- name: clear_rest_of_slice_rows
delete from slice_rows where seller_id = $1


-- name: clear_export_slices
delete from export_slices where seller_id = $1


-- name: clear_rest_of_export_rows
delete from export_rows where seller_id = $1


-- name: clear_exports
delete from exports where seller_id = $1


-- name: clear_bootstraps
delete from bootstraps where seller_id = $1


-- name: clear_certificates
delete from certificates where seller_id = $1


-- name: clear_gaps
delete from gaps where seller_id = $1


-- name: clear_replay_pieces
-- Replays of other sellers as well go on without this seller's pieces.
delete from replay_pieces where seller_id = $1


-- name: clear_replays
delete from replays where seller_id = $1


-- name: clear_republications
delete from republications where seller_id = $1


-- name: clear_comparisons
delete from comparisons where seller_id = $1


-- name: clear_differences
delete from differences where seller_id = $1


-- name: clear_comparison_failures
delete from comparison_failures where seller_id = $1


-- name: clear_session_warnings
delete from session_warnings where seller_id = $1


-- name: clear_detail_tasks
delete from detail_tasks where seller_id = $1


-- name: clear_open_letters
delete from open_letters where seller_id = $1


-- name: clear_last_lists
delete from last_lists where seller_id = $1


-- name: clear_visibility_changes
-- That the allowance was raised concerns everybody; by which order does not.
update visibility_changes set seller_id = null, object_id = null where seller_id = $1


-- name: clear_anomalies
delete from anomalies where seller_id = $1


-- name: clear_coverage
delete from coverage where seller_id = $1


-- name: finish
update erasures set finished_at = now() where seller_id = $1 and finished_at is null


-- name: set_reason
update sellers set state_reason = $2, updated_at = now() where seller_id = $1 and state = 'erased'


-- name: erased
select seller_id from sellers where state = 'erased' and ($1::bigint[] is null or seller_id = any($1))

-- name: begin
-- Says `backlog` itself, for the index of the backlog.
-- Takes the longest waiting of a seller's backlog into a task, which is to be requested next.
with taken as materialized (
    select tid
    from refetches
    where reason = 'backlog' and seller_id = $1 and source = any($3::text[])
    order by due_at, tid
    limit $4
    for update skip locked
), marked as (
    update refetches as r
    set reason = $2
    from taken as t
    where r.tid = t.tid and r.tid = any(array(select tid from taken))
    returning r.tid
)
insert into detail_tasks (seller_id, tids, asked_at)
select $1, array_agg(tid order by tid), $5 from marked having count(*) > 0
returning id, seller_id, tids, asked_at, failures, task_id, 0::float8 as seconds


-- name: open
-- The task that was looked at longest ago comes first.
select id, seller_id, tids, asked_at, failures, task_id, extract(epoch from now() - noted_at)::float8 as seconds
from detail_tasks
order by looked_at, id


-- name: requested
-- A process that comes late has requested what another found to have failed, and requested in other words.
update detail_tasks set task_id = $2, looked_at = now() where id = $1 and failures = $3


-- name: looked
update detail_tasks set looked_at = now() where id = $1


-- name: failed
-- Each failure is counted once, whoever finds it.
update detail_tasks set task_id = null, failures = failures + 1 where id = $1 and failures = $2


-- name: wanted
-- What of a task's orders still waits for it: others were answered or erased meanwhile.
select
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, attempts, parts,
    traceparent
from refetches
where tid = any($1::bigint[]) and reason = $2


-- name: hand_over
-- Orders without a wait are in the backlog again. Locked in the same sequence as all of `refetches`.
with held as materialized (
    select r.tid, t.wait
    from refetches as r
    join unnest($1::bigint[], $2::interval[]) as t (tid, wait) using (tid)
    where r.reason = $3 and r.tid = any($1::bigint[])
    order by r.tid
    for update of r
)
update refetches as r
set
    reason = case when held.wait is null then $5 else $4 end,
    due_at = case when held.wait is null then r.due_at else now() + held.wait end
from held
where r.tid = held.tid and r.tid = any($1::bigint[])


-- name: forget
delete from detail_tasks where id = $1

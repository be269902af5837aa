-- name: request
insert into replay_jobs (id, seller_id, span, dry_run, asked_by)
select $1, seller_id, tstzrange($3, $4, '[]'), $5, $6 from sellers where seller_id = $2 and state <> 'erased' for share
on conflict (id) do nothing


-- name: select
-- A job by its id, or the newest.
select
    id, seller_id, lower(span) as start, upper(span) as "end", dry_run, asked_by, state, requested_at, finished_at,
    starts, cancelled_at is not null as cancelled, outcome
from replay_jobs
where id = $1 or $1 is null
order by requested_at desc, id
limit $2


-- name: open
-- A job left running by a reconciler that died is taken again: there is one reconciler at a time.
select
    id, seller_id, lower(span) as start, upper(span) as "end", dry_run, asked_by, state, requested_at, finished_at,
    starts, cancelled_at is not null as cancelled, outcome
from replay_jobs
where state in ('requested', 'running') and (cancelled_at is not null) = $1
order by requested_at, id
limit $2


-- name: start
update replay_jobs set state = 'running', starts = starts + 1
where id = $1 and state in ('requested', 'running') and cancelled_at is null


-- name: give_back
update replay_jobs set starts = starts - 1 where id = $1 and state = 'running' and starts > 0


-- name: advance
update replay_jobs set outcome = $2::jsonb, starts = 1 where id = $1 and state = 'running'


-- name: cancel
update replay_jobs set cancelled_at = now()
where id = $1 and state in ('requested', 'running') and cancelled_at is null


-- name: finish
update replay_jobs set state = $2, outcome = $3::jsonb, finished_at = now()
where id = $1 and state in ('requested', 'running')

-- name: request
insert into replay_jobs (id, seller_id, span, dry_run)
select $1, seller_id, tstzrange($3, $4, '[]'), $5 from sellers where seller_id = $2 and state <> 'erased' for share
on conflict (id) do nothing


-- name: next
-- A job left running by a reconciler that died is taken again: there is one reconciler at a time.
select id, seller_id, lower(span) as start, upper(span) as "end", dry_run, state, outcome
from replay_jobs
where state in ('requested', 'running')
order by requested_at
limit 1


-- name: start
update replay_jobs set state = 'running' where id = $1


-- name: finish
update replay_jobs set state = $2, outcome = $3::jsonb, finished_at = now() where id = $1


-- name: get
select id, seller_id, lower(span) as start, upper(span) as "end", dry_run, state, outcome
from replay_jobs
where id = $1

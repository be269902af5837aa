-- name: request
-- The lock separates this and an erasure.
insert into replays (id, seller_id, span, dry_run, asked_by)
select $1, seller_id, tstzrange($3, $4, '[]'), $5, $6 from sellers where seller_id = $2 and state <> 'erased' for share
on conflict (id) do nothing


-- name: request_of_all
insert into replays (id, span, dry_run, asked_by) values ($1, tstzrange($2, $3, '[]'), $4, $5)
on conflict (id) do nothing


-- name: request_orders
insert into replays (id, orders, digest, named_by, dry_run, asked_by, planned)
values ($1, $2, $3, $4, $5, $6, true)
on conflict (id) do nothing


-- name: get
select
    id, seller_id, lower(span) as start, upper(span) as "end", orders, digest, named_by, dry_run, asked_by, state,
    requested_at, finished_at, starts, cancelled_at is not null as cancelled, planned, outcome
from replays
where id = $1


-- name: newest
select
    id, seller_id, lower(span) as start, upper(span) as "end", orders, digest, named_by, dry_run, asked_by, state,
    requested_at, finished_at, starts, cancelled_at is not null as cancelled, planned, outcome
from replays
order by requested_at desc, id
limit $1


-- name: open
-- A job left running by a reconciler that died is taken again: there is one reconciler at a time.
select
    id, seller_id, lower(span) as start, upper(span) as "end", orders, digest, named_by, dry_run, asked_by, state,
    requested_at, finished_at, starts, cancelled_at is not null as cancelled, planned, outcome
from replays
where state in ('requested', 'running') and (cancelled_at is not null) = $1
  -- Some named orders, or a short span of a seller; all where nothing is said.
  and coalesce(
      coalesce(orders <= $4, seller_id is not null and upper(span) - lower(span) <= $5::interval) = $3::boolean, true
  )
order by requested_at, id
limit $2


-- name: start
update replays set state = 'running', starts = starts + 1
where id = $1 and state in ('requested', 'running') and cancelled_at is null


-- name: give_back
update replays set starts = starts - 1 where id = $1 and state = 'running' and starts > 0


-- name: advance
update replays set outcome = $2::jsonb, starts = 1 where id = $1 and state = 'running'


-- name: cancel
update replays set cancelled_at = now()
where id = $1 and state in ('requested', 'running') and cancelled_at is null


-- name: finish
update replays set state = $2, outcome = $3::jsonb, finished_at = now()
where id = $1 and state in ('requested', 'running')

-- What the tables know of an order, for `topsync orders explain`. Nothing here reads what is in an order.

-- name: order
select
    'order' as kind, tid as id, seller_id, created, modified, status, fetched_at, source, revision,
    published_revision, step::text as step
from orders
where tid = $1


-- name: parts
-- each part, joined by union all
select
    '{kind}' as kind, {key} as id, seller_id, modified, status, fetched_at, source, revision, published_revision,
    step::text as step
from {table}
where tid = $1
-- end
order by kind, id


-- name: wait
select
    seller_id, event, occurred_at, settled_after, modified, source, reason, attempts, due_at, parts, parked
from refetches
where tid = $1


-- name: task
select task_id, asked_at, failures, noted_at, looked_at from detail_tasks where $1::bigint = any(tids) limit 1


-- name: open_letters
-- As `open_letters.among`: a letter with a mark is not open.
select o.kind, o.id, o.reason, o.event_id, o.seller_id, o.noted_at
from open_letters as o
where o.tid = $1
  and not exists (select from dead_letter_retries as r where r.event_id = o.event_id)
order by o.noted_at


-- name: tombstones
select kind, id, seller_id, revision, erased_at from tombstones where tid = $1 order by kind, id


-- name: exported
select r.modified, s.task_id, s.created_at
from export_slices as s
join slice_rows as r on r.seller_id = s.seller_id and r.slice = s.number and r.id = $1
where s.seller_id = $2 and s.kind = 'order' and s.task_id is not null
order by s.created_at
limit 1


-- name: windows
-- The first pulls of the time in which the order changed last: it was in their lists, or the platform was late.
select lower(span) as start, upper(span) as until, source, reason, pulled_at, listed, hinted, proven_to
from windows
where seller_id = $1 and lists = 'orders' and pulled_at >= $2::timestamptz and span @> $2::timestamptz
order by pulled_at
limit $3


-- name: window_days
-- The same of windows that are too old to be kept one by one. A day's sum does not say which of its windows had the
-- order: it may have been pulled before, on the same day, and then the next day's has it, too.
select
    day, source, windows, listed, hinted, first_pulled_at, last_pulled_at,
    (select lower(r) from unnest(pulled) as r where r @> $2::timestamptz) as start,
    (select upper(r) from unnest(pulled) as r where r @> $2::timestamptz) as until,
    proven @> $2::timestamptz as proves
from window_days
where seller_id = $1
  and lists = 'orders'
  and day >= ($2::timestamptz at time zone interval '8 hours')::date
  and last_pulled_at >= $2::timestamptz
  and pulled @> $2::timestamptz
order by day, source
limit $3


-- name: gaps
-- The open gaps, and the latest that are closed.
select began, ended, cause, opened_at, pulled_at, closed_at
from gaps
where seller_id = $1 and (closed_at is null or began >= $2)
order by closed_at is not null, began desc
limit $3


-- name: republications
select id, requested_at, finished_at, cancelled_at, topics
from republications
where requested_at >= $3 and (seller_id is null or seller_id = $2) and (tids is null or $1::bigint = any(tids))
order by requested_at desc
limit 5


-- name: findings
select finding from witness_findings where topic = 'orders' and id = $1 order by record_offset limit 5


-- name: owner
select owner, taken_at from partition_owners where partition = $1

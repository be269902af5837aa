-- Whatever changes several rows locks them in the order of `tid`. Writers, the reconciler and its tasks change the
-- same rows at the same time, and would otherwise cause deadlocks.

-- name: postpone
-- What waits already keeps its place in time: more hints of an order do not push it back. While its seller is
-- away, attempts do not count, and it is due as soon as the seller is back. Messages that only wait for others
-- hold nothing up: whatever else is wanted of the order is due when it would be without them.
insert into refetches as r (
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, due_at, parts,
    traceparent
)
select
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, now() + wait,
    parts::order_part[], traceparent
from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[],
    $6::timestamptz[], $7::text[], $8::text[], $9::bytea[], $10::interval[], $11::text[],
    $12::text[]
) as t (
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, wait, parts, traceparent
)
where not exists (select from sellers as s where s.seller_id = t.seller_id and s.state = 'erased')
order by tid
on conflict (tid) do update
set
    seller_id = excluded.seller_id,
    event = excluded.event,
    occurred_at = greatest(r.occurred_at, excluded.occurred_at),
    settled_after = greatest(r.settled_after, excluded.settled_after),
    modified = greatest(r.modified, excluded.modified),
    source = excluded.source,
    -- What a task asks for already stays with it: its answer is compared with what is promised now.
    -- And `lingering` says that only messages reported the order: so it never replaces another reason.
    reason = case
        when r.reason = 'in_task' and excluded.reason = 'backlog' then r.reason
        when excluded.reason = 'lingering' then r.reason
        else excluded.reason
    end,
    answer = coalesce(excluded.answer, r.answer),
    attempts = case when excluded.parked then 0 else r.attempts end,
    due_at = case
        when excluded.parked or 'lingering' in (r.reason, excluded.reason) then least(r.due_at, excluded.due_at)
        else r.due_at
    end,
    parts = array(select distinct unnest(r.parts || excluded.parts) order by 1),
    traceparent = coalesce(excluded.traceparent, r.traceparent)


-- name: forget_answered
-- Without sellers that are away, since their orders are not answered: so they cost nothing here. A part of a kind that
-- only a newer release knows is not answered either. Looks orders up by their ids, see `before` in versions.sql; the
-- state of a part is no `exists`, for which PostgreSQL might read the parts of all orders into memory.
with asked as materialized (
    select r.tid
    from refetches as r
    join sellers as s using (seller_id)
    where (r.due_at <= now() or r.attempts > 0) and s.state in ('new', 'live')
)
delete from refetches
where tid = any(array(
    select r.tid
    from refetches as r
    join orders as o using (tid)
    join sellers as s on s.seller_id = r.seller_id
    where r.tid = any(array(select tid from asked))
      and o.tid = any(array(select tid from asked))
      and (r.due_at <= now() or r.attempts > 0)
      and s.state in ('new', 'live')
      and (
          o.fetched_at >= r.settled_after
          or r.reason = 'lingering'
          and o.fetched_at >= r.occurred_at
          and o.modified >= date_trunc('second', r.occurred_at)
      )
      and (r.modified is null or o.modified >= r.modified)
      and not exists (
          select
          from unnest(r.parts) as wanted (kind, id)
          where not case wanted.kind
              -- each part
              when '{kind}' then coalesce(
                  (select v.fetched_at >= r.settled_after from {table} as v where v.{key} = wanted.id), false
              )
              -- end
              else false
          end
      )
    order by r.tid
    for update of r
))


-- name: due
-- Sellers without a session wait: asking for them would only fail. Backlogs are drained elsewhere,
-- except those of sellers that were never added, which become dead letters; what only waits for more
-- messages is in `lingered`.
select
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, attempts, parts,
    traceparent
from refetches as r
where not parked
  and due_at <= now()
  and case
      when reason in ('in_task', 'lingering') then false
      when reason = 'backlog' then not exists (select from sellers as s where s.seller_id = r.seller_id)
      else exists (select from sellers as s where s.seller_id = r.seller_id and s.state in ('new', 'live'))
  end
order by due_at
limit $1


-- name: lingered
-- Of any seller: the writer parks what cannot be fetched now.
select
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, attempts, parts,
    traceparent
from refetches
where not parked and reason = 'lingering' and due_at <= now()
order by due_at
limit $1


-- name: forget_hinted
-- A writer may have noted the hint anew, or another message, before this runs.
delete from refetches
where tid = any(array(
    select r.tid
    from refetches as r
    join unnest($1::bigint[], $2::timestamptz[]) as t (tid, settled_after) using (tid)
    where r.reason = 'lingering' and r.settled_after <= t.settled_after and r.tid = any($1)
    order by r.tid
    for update of r
))


-- name: returned
-- The seller's state is looked at here, every time: whichever comes first, its return or the note of an order,
-- the order is found. What has been asked for and has no answer yet leaves less room for the next.
with back as (
    select seller_id from sellers where state in ('new', 'live')
)
select
    r.tid, r.seller_id, r.event, r.occurred_at, r.settled_after, r.modified, r.source, r.reason, r.answer,
    r.attempts, r.parts, r.traceparent
from back
cross join lateral (
    select *
    from refetches
    where seller_id = back.seller_id and parked and due_at <= now()
    order by occurred_at
    limit $1
) as r
order by r.occurred_at, r.tid
limit greatest(0, $1 - (
    select count(*) from refetches join back using (seller_id) where parked and attempts > 0 and due_at > now()
))


-- name: backlogs
select r.seller_id, count(*) as orders
from refetches as r
join sellers as s using (seller_id)
where r.reason = $1 and r.source = any($2::text[]) and s.state in ('new', 'live')
group by r.seller_id


-- name: alone
select
    r.tid, r.seller_id, r.event, r.occurred_at, r.settled_after, r.modified, r.source, r.reason, r.answer,
    r.attempts, r.parts, r.traceparent
from refetches as r
join sellers as s using (seller_id)
where r.reason = $1 and s.state in ('new', 'live')
  and (r.seller_id = any($2::bigint[]) or r.source = any($3::text[]))
order by r.due_at
limit $4


-- name: being_brought
-- Orders that were asked for more than once do not count: a long wait for an order must not hold up others.
with asked as materialized (
    select tid, settled_after, modified from refetches where reason = $1 and attempts = 0 and due_at > now()
)
select count(*)
from asked as r
left join orders as o on o.tid = r.tid and o.tid = any(array(select tid from asked))
where o.tid is null
   or o.fetched_at < r.settled_after
   or o.modified < r.modified


-- name: reasons
select tid, reason from refetches where tid = any($1::bigint[])


-- name: bring
with held as materialized (
    select tid from refetches where tid = any($1::bigint[]) order by tid for update
)
update refetches as r
set reason = $2, due_at = now() + $3::interval
from held
where r.tid = held.tid and r.tid = any($1::bigint[])


-- name: asked
-- What is not due any more was asked for by another process at the same time, which has counted it.
with held as materialized (
    select r.tid, t.wait
    from refetches as r
    join unnest($1::bigint[], $2::interval[]) as t (tid, wait) using (tid)
    where r.tid = any($1) and r.due_at <= now()
    order by r.tid
    for update of r
)
update refetches as r
set attempts = r.attempts + 1, due_at = now() + held.wait
from held
where r.tid = held.tid and r.tid = any($1)


-- name: forget
-- What was promised since is another promise.
delete from refetches
where tid = any(array(
    select r.tid
    from refetches as r
    join unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as t (tid, settled_after, modified) using (tid)
    where r.tid = any($1)
      and r.settled_after <= t.settled_after
      and (r.modified is null or r.modified <= t.modified)
    order by r.tid
    for update of r
))


-- name: give_up
-- If an order with a dead letter were asked for again, it would leave another dead letter each time.
delete from refetches
where tid = any(array(
    select r.tid
    from refetches as r
    join unnest($1::bigint[], $2::timestamptz[]) as t (tid, settled_after) using (tid)
    where r.settled_after <= t.settled_after and r.tid = any($1)
    order by r.tid
    for update of r
))


-- name: not_there
-- Orders that the platform does not know, asked for since $2 and so often since.
select tid from refetches
where tid = any($1::bigint[]) and reason = 'not_there' and settled_after >= $2 and attempts >= $3


-- name: give_up_asked
-- Orders that only an operator named, and that the platform does not know: nothing promised them.
delete from refetches
where tid = any(array(
    select tid
    from refetches
    where tid = any($1::bigint[]) and source = 'operator' and modified is null and settled_after <= $2
    order by tid
    for update
))


-- name: waiting
select reason, count(*) as orders from refetches group by reason


-- name: parked
select seller_id, count(*) as orders from refetches where parked group by seller_id

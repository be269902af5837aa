-- name: postpone
-- What waits already keeps its place in time: more hints of an order do not push it back.
insert into refetches as r (
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, due_at, refund_ids
)
select
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, now() + $10::interval,
    refund_ids::bigint[]
from unnest(
    $1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[],
    $6::timestamptz[], $7::text[], $8::text[], $9::bytea[], $11::text[]
) as t (tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, refund_ids)
order by tid
on conflict (tid) do update
set
    seller_id = excluded.seller_id,
    event = excluded.event,
    occurred_at = greatest(r.occurred_at, excluded.occurred_at),
    settled_after = greatest(r.settled_after, excluded.settled_after),
    modified = greatest(r.modified, excluded.modified),
    source = excluded.source,
    reason = excluded.reason,
    answer = coalesce(excluded.answer, r.answer),
    refund_ids = array(select distinct unnest(r.refund_ids || excluded.refund_ids) order by 1)


-- name: forget_answered
delete from refetches as r
using orders as o
where r.due_at <= now()
  and o.tid = r.tid
  and o.fetched_at >= r.settled_after
  and (r.modified is null or o.modified >= r.modified)
  and not exists (
      select
      from unnest(r.refund_ids) as wanted (refund_id)
      left join refunds as f using (refund_id)
      where f.refund_id is null or f.fetched_at < r.settled_after
  )


-- name: due
-- Sellers without a session wait: asking for them would only fail.
select
    tid, seller_id, event, occurred_at, settled_after, modified, source, reason, answer, attempts, refund_ids
from refetches as r
where due_at <= now()
  and exists (select from sellers as s where s.seller_id = r.seller_id and s.state in ('new', 'live'))
order by due_at
limit $1


-- name: asked
update refetches as r
set attempts = r.attempts + 1, due_at = now() + t.wait
from unnest($1::bigint[], $2::interval[]) as t (tid, wait)
where r.tid = t.tid


-- name: forget
delete from refetches where tid = any($1::bigint[])


-- name: count
select count(*) from refetches

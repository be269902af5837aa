-- name: waiting
-- Counted up to a bound: after a long outage there may be millions.
select seller_id, reason, parked, count(*) as orders
from (
    select seller_id, reason, parked from refetches where $1::bigint is null or seller_id = $1 limit $2
) as counted
group by seller_id, reason, parked


-- name: letters
select seller_id, reason, count(*) as letters, min(noted_at) as since
from (
    select seller_id, reason, noted_at
    from open_letters as o
    where ($1::bigint is null or seller_id = $1)
      and not exists (select from dead_letter_retries as r where r.event_id = o.event_id)
    limit $2
) as counted
group by seller_id, reason


-- name: bulk_starts
select b.seller_id, b.started_at
from bootstraps as b
join sellers as s using (seller_id)
where b.state <> 'live' and s.state <> 'erased' and ($1::bigint is null or b.seller_id = $1)
order by b.started_at, b.seller_id
limit $2

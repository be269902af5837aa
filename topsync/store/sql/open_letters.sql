-- name: among
-- A dead letter with a mark is not open, also where a former version's command has marked it.
select o.tid, o.refund_id, o.reason
from open_letters as o
join unnest($1::bigint[], $2::bigint[], $3::text[]) as t (tid, refund_id, reason) using (tid, refund_id, reason)
where o.noted_at > now() - $4::interval
  and not exists (select from dead_letter_retries as r where r.event_id = o.event_id)


-- name: note
-- Several writers note at the same time: in the same sequence, so that they cause no deadlock.
with old as materialized (
    select ctid from open_letters where noted_at < now() - $6::interval for update skip locked
), forgotten as (
    delete from open_letters where ctid in (select ctid from old)
)
insert into open_letters as o (tid, refund_id, reason, event_id, seller_id)
select tid, refund_id, reason, event_id, seller_id
from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
    as t (tid, refund_id, reason, event_id, seller_id)
where not exists (select from sellers as s where s.seller_id = t.seller_id and s.state = 'erased')
order by tid, refund_id, reason
on conflict (tid, refund_id, reason) do update
set event_id = excluded.event_id, seller_id = excluded.seller_id, noted_at = now()


-- name: forget
delete from open_letters
where (tid, refund_id, reason) in (
    select tid, refund_id, reason
    from open_letters
    where event_id = any($1::text[])
    order by tid, refund_id, reason
    for update
)

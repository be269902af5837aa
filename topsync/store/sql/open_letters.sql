-- name: among
-- A dead letter with a mark is not open, also where a former version's command has marked it.
select o.tid, o.kind, o.id, o.reason
from open_letters as o
join unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) as t (tid, kind, id, reason)
    using (tid, kind, id, reason)
where o.noted_at > now() - $5::interval
  and not exists (select from dead_letter_retries as r where r.event_id = o.event_id)


-- name: note
-- Several writers note at the same time: in the same sequence, so that they cause no deadlock.
with old as materialized (
    select event_id from open_letters where noted_at < now() - $7::interval
    order by noted_at
    limit 1000
    for update skip locked
), forgotten as (
    delete from open_letters where event_id = any(array(select event_id from old)) and noted_at < now() - $7::interval
)
insert into open_letters as o (tid, kind, id, reason, event_id, seller_id)
select tid, kind, id, reason, event_id, seller_id
from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
    as t (tid, kind, id, reason, event_id, seller_id)
where not exists (select from sellers as s where s.seller_id = t.seller_id and s.state = 'erased')
order by tid, kind, id, reason
on conflict (tid, kind, id, reason) do update
set event_id = excluded.event_id, seller_id = excluded.seller_id, noted_at = now()


-- name: forget
with held as materialized (
    select 1 from open_letters where event_id = any($1::text[]) order by tid, kind, id, reason for update
)
delete from open_letters where event_id = any($1::text[]) and (select count(*) from held) > 0


-- name: of_orders
with noted as materialized (
    select tid, kind, id, reason, event_id, seller_id from open_letters where tid = any($1::bigint[])
), dealt_with as materialized (
    select event_id from dead_letter_retries where event_id = any(array(select event_id from noted))
)
select tid, kind, id, reason, event_id, seller_id
from noted
where event_id not in (select event_id from dealt_with)
order by tid, kind, id, reason


-- name: kin
-- The orders of a seller that failed for one reason, a page at a time.
select distinct o.tid
from open_letters as o
where o.seller_id = $1
  and o.reason = $2
  and o.tid > $3
  and not exists (select from dead_letter_retries as r where r.event_id = o.event_id)
order by o.tid
limit $4

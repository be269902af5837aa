-- name: guard
-- Equal `modified` with other content wins only when fetched later: the platform's resolution is a second. Fetched
-- at the same moment, the greater hash wins, so that whatever comes first, the outcome is the same.
-- Decides as `OrderVersion.is_older_than` does.
(v.modified, v.fetched_at, v.content_hash) < (excluded.modified, excluded.fetched_at, excluded.content_hash)


-- name: refund_lines
select o.tid, o.fetched_at, l.oid, l.refund_id, l.refund_status
from orders as o
cross join lateral jsonb_to_recordset(o.trade -> 'orders') as l (oid bigint, refund_id bigint, refund_status text)
where o.tid = any($1::bigint[])


-- name: take_over
insert into partition_owners as p (partition, epoch, owner) values ($1, 1, $2)
on conflict (partition) do update set epoch = p.epoch + 1, owner = excluded.owner, taken_at = now()
returning epoch


-- name: newest_epoch
select epoch from partition_owners where partition = $1


-- name: count_by_seller
select seller_id, count(*) as orders from orders where $1::bigint is null or seller_id = $1 group by seller_id


-- name: sellers_of
select tid, seller_id from orders where tid = any($1::bigint[])

-- name: open_for_all
-- A gap per seller, whatever its state: a seller that cannot be pulled now keeps its gap until it can. Only
-- an erased seller has no past that anything could be missing from. To a seller without messages, push lost nothing.
insert into gaps (seller_id, began, cause, connection, opened_at)
select seller_id, $1, $2, $3, $4 from sellers
where state <> 'erased' and coalesce(scheme, $5) = any($6::text[])
for share
on conflict (seller_id, connection, began) do nothing


-- name: open_for_one
insert into gaps (seller_id, began, ended, cause, opened_at) values ($1, $2, $3, $4, $3)


-- name: end_by
-- A gap ends where a connection begins, or, where the connection was there before, at its next proof; but never
-- before the loss was noticed: until then the platform may have sent messages to the connection that was lost,
-- however well another connection worked. A connection that was given up and writes again has lost nothing.
update gaps
set ended = greatest(case when began <= $1 then $1 else $2 end, lost.lost_at)
from push_connections as lost
where
    lost.id = gaps.connection
    and ended is null
    and closed_at is null
    and (began <= $1 or began < $2)
    and $2 >= coalesce(lost.lost_at, began)


-- name: end_without_messages
-- By the scheme as it is now: a gap that ended too early would leave out what is lost until push is back.
update gaps
set ended = greatest(began, $1)
from sellers as s
where
    s.seller_id = gaps.seller_id
    and ended is null
    and closed_at is null
    and coalesce(s.scheme, $2) <> all($3::text[])


-- name: open
select id, seller_id, began, ended, cause, opened_at, pulled_at from gaps where closed_at is null order by began, id


-- name: open_of
select id, seller_id, began, ended, cause, opened_at, pulled_at
from gaps
where closed_at is null and seller_id = any($1::bigint[])
order by began, id


-- name: pulled
update gaps set pulled_at = $2 where id = any($1::bigint[])


-- name: close
update gaps set closed_at = $2 where id = any($1::bigint[]) and closed_at is null

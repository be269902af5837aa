-- name: prove
-- Nothing is claimed of an erased seller, even by a pull under way: the lock separates this and the erasure.
insert into coverage as c (seller_id, proven)
select seller_id, tstzmultirange(tstzrange($2, $3, '[)')) from sellers where seller_id = $1 and state <> 'erased' for share
on conflict (seller_id) do update set proven = c.proven + excluded.proven


-- name: proven
select
    s.seller_id,
    (select array_agg(lower(r) order by lower(r)) from unnest(c.proven) as r) as starts,
    (select array_agg(upper(r) order by lower(r)) from unnest(c.proven) as r) as ends
from sellers as s
left join coverage as c using (seller_id)
order by s.seller_id


-- name: record_window
insert into windows (seller_id, span, source, reason, pulled_at, listed, hinted, proven_to, lists)
select seller_id, tstzrange($2, $3, '[]'), $4, $5, $6, $7, $8, $9, $10
from sellers
where seller_id = $1 and state <> 'erased'
for share


-- name: set_parts
update coverage set parts = $2 where seller_id = $1 and parts <> $2


-- name: claimed_without
select lower(proven) from coverage where seller_id = $1 and $2 <> all(parts) and not isempty(proven)


-- name: parts
select seller_id, parts from coverage


-- name: proven_of
select
    (select array_agg(lower(r) order by lower(r)) from unnest(proven) as r) as starts,
    (select array_agg(upper(r) order by lower(r)) from unnest(proven) as r) as ends
from coverage
where seller_id = $1

-- name: write
insert into certificates (seller_id, certified_at, document)
select seller_id, $2, $3 from sellers where seller_id = $1 and state <> 'erased' for share
on conflict (seller_id, certified_at) do update set document = excluded.document


-- name: all_of
select seller_id, certified_at, document from certificates where seller_id = $1 order by certified_at


-- name: last
select seller_id, certified_at, document from certificates where seller_id = $1 order by certified_at desc limit 1


-- name: rows
-- By id, so that what is in several slices stands together.
select slice, id, modified from slice_rows where seller_id = $1 and slice = any($2::integer[]) order by id, slice


-- name: erased_among
-- Of an erased seller nothing is left, once the topics have its tombstones; those that they lack are known here.
select t.id
from unnest($3::bigint[]) as t (id)
where exists (select from sellers where seller_id = $1 and state = 'erased')
   or exists (select from tombstones as d where d.kind = $2 and d.id = t.id)

-- name: raise_epochs
-- Above every epoch that a process of the time after the backup may still know.
update partition_owners set epoch = epoch + $1::bigint


-- name: raise_leases
-- Whoever held them before the backup does not any more.
update work_leases set epoch = epoch + $1::bigint, holder = null


-- name: forget_members
delete from reconcilers


-- name: drop_tombstones
-- Those that the topic has gone beyond: their orders came back, with a higher revision.
delete from tombstones as t
using unnest($2::bigint[], $3::bigint[]) as i (id, revision)
where t.kind = $1 and t.id = i.id and t.revision < i.revision and t.id = any($2::bigint[])


-- name: raise_floors
-- What comes back of a seller that was erased begins above all that its topics have shown.
with shown as (
    select seller_id, is_gone, max(revision) as revision
    from unnest($1::bigint[], $2::boolean[], $3::bigint[]) as t (seller_id, is_gone, revision)
    group by seller_id, is_gone
), floors as (
    select s.seller_id, max(i.revision) as revision
    from sellers as s join shown as i using (seller_id)
    where i.is_gone or s.state = 'erased'
    group by s.seller_id
)
update sellers as s
set revision_floor = f.revision
from floors as f
where s.seller_id = f.seller_id and s.revision_floor < f.revision


-- name: erased_later
-- Of sellers that are not erased, and of these ids: those that have a row, by seller.
select v.seller_id, count(*) as rows
from (
    -- each kind, joined by union all
    select seller_id from {table} where $1 = '{kind}' and {key} = any($2::bigint[])
    -- end
) as v
join sellers as s using (seller_id)
where s.state <> 'erased'
group by v.seller_id

-- name: join
-- The lock is there before the row, and goes with the connection: `bury` sees at once that a process has ended.
with alive as materialized (select pg_try_advisory_lock($3, hashtext($1::uuid::text)))
insert into reconcilers (id, name) select $1, $2 from alive


-- name: beat
-- Renews everything that the process holds: a lease is in force as long as its holder has a row.
update reconcilers set seen_at = clock_timestamp() where id = $1


-- name: leave
with gone as (delete from reconcilers where id = $1)
update work_leases set holder = null where holder = $1


-- name: bury
delete from reconcilers
where
    seen_at < clock_timestamp() - $1::interval
    or not exists (
        select from pg_locks
        where
            locktype = 'advisory'
            and database = (select oid from pg_database where datname = current_database())
            and classid = $2::integer::oid
            and objid = (hashtext(id::text)::bigint & 4294967295)::oid
            and objsubid = 2 -- a lock with two keys
    )
returning name


-- name: add
-- Erased sellers keep theirs: a counter that began anew could let a former holder in.
insert into work_leases (kind, key)
select kind, key
from (
    select 'seller' as kind, seller_id::text as key from sellers
    union all
    select 'duty', unnest($1::text[])
) as work
where not exists (select from work_leases as l where l.kind = work.kind and l.key = work.key)
order by kind, key
on conflict do nothing


-- name: members
select id, extract(epoch from clock_timestamp() - joined_at)::float8 as age from reconcilers


-- name: shares
-- A release may leave duties that it does not know to another release.
select l.kind, r.id as holder, count(*) as leases
from work_leases as l left join reconcilers as r on r.id = l.holder
where l.kind = 'seller' or l.key = any($1::text[])
group by l.kind, r.id


-- name: take
-- A lease whose former holder is just writing under it is passed over: it is there for the next look.
with free as (
    select kind, key from work_leases as l
    where
        kind = $2
        and (kind = 'seller' or key = any($3::text[]))
        and not exists (select from reconcilers as r where r.id = l.holder)
    order by epoch, key
    limit $4
    for update skip locked
)
update work_leases as l
set holder = $1, epoch = l.epoch + 1
from free
where l.kind = free.kind and l.key = free.key


-- name: give_back
update work_leases set holder = null where holder = $1 and kind = $2 and key = any($3::text[])


-- name: held
select kind, key, epoch, pulled_at from work_leases where holder = $1


-- name: pulled_at
select key::bigint as seller_id, pulled_at
from work_leases
where kind = 'seller' and key = any($1::text[]) and pulled_at is not null


-- name: fence
-- Whoever takes the lease raises its counter, and waits for this lock or is waited for: so what is written in the same
-- transaction is written before the lease went to another, or not at all.
select exists (select from work_leases where kind = $1 and key = $2 and epoch = $3 for share)


-- name: pulled
update work_leases set pulled_at = $4 where kind = $1 and key = $2 and epoch = $3

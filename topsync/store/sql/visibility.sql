-- name: learned
select allowance, since, changed_at from visibility


-- name: share
-- Held to the end of the claim: it is raised before the claim, or after it, and then the claim is seen.
select allowance from visibility for share


-- name: lock
select allowance, since, changed_at from visibility for update


-- name: set
update visibility
set
    allowance = $1,
    since = case when $1 = interval '0' then null else coalesce(since, $2) end,
    changed_at = $2


-- name: take_back
-- Of what is claimed from $1 on, only that stays which a window proves by the allowance $2 as well. The first second of
-- a seller's claims stays in any case: it says that its bulk start is done.
with doubted as materialized (
    select
        c.seller_id,
        c.proven,
        tstzmultirange(tstzrange(greatest($1, lower(c.proven) + interval '1 second'), null, '[)')) as since,
        coalesce(
            (
                select range_agg(tstzrange(lower(w.span), least(w.proven_to, w.pulled_at - $2::interval), '[)'))
                from windows as w
                where w.seller_id = c.seller_id
                  and w.pulled_at >= $1::timestamptz
                  and w.lists = 'orders'
                  and least(w.proven_to, w.pulled_at - $2::interval) > lower(w.span)
            ),
            '{}'::tstzmultirange
        ) as sound
    from coverage as c
    where upper(c.proven) > $1
), left_over as (
    select seller_id, proven, proven - (since - sound) as sure from doubted
)
update coverage as c
set proven = l.sure
from left_over as l
where c.seller_id = l.seller_id and l.sure <> l.proven
returning c.seller_id


-- name: note_change
-- Nothing of an erased seller is named, even by a pull under way: the lock separates this and the erasure.
with of as materialized (select seller_id from sellers where seller_id = $4 and state <> 'erased' for share)
insert into visibility_changes (
    at, before, allowance, seller_id, lists, object_id, modified, lacked_at, shown_at, arrivals, taken_from, taken_of
)
select
    $1, $2, $3, o.seller_id, $5, case when o.seller_id is not null then $6::bigint end, $7::timestamptz, $8::timestamptz,
    $9::timestamptz, $10::integer, $11::timestamptz, $12::integer
from (select) as one left join of as o on true


-- name: unnotified
select * from visibility_changes where notified_at is null order by id limit $1


-- name: mark_notified
update visibility_changes set notified_at = now() where id = any($1::bigint[]) and notified_at is null


-- name: last_raising
select * from visibility_changes where allowance > before order by at desc, id desc limit 1


-- name: oldest_awaited
select min(moment)
from last_lists cross join lateral unnest(awaited) as moment
where seller_id = $1 and lists = $2 and moment >= $3


-- name: last_lists
select starts, ends, asked_at, allowances, ids, modified, awaited_ids, awaited
from last_lists
where seller_id = $1 and lists = $2


-- name: remember
-- Nothing of an erased seller, even by a pull under way: the lock separates this and the erasure.
insert into last_lists as l (
    seller_id, lists, starts, ends, asked_at, allowances, ids, modified, awaited_ids, awaited
)
select seller_id, $2, $3, $4, $5, $6, $7, $8, $9, $10
from sellers
where seller_id = $1 and state <> 'erased'
for share
on conflict (seller_id, lists) do update
set
    starts = excluded.starts,
    ends = excluded.ends,
    asked_at = excluded.asked_at,
    allowances = excluded.allowances,
    ids = excluded.ids,
    modified = excluded.modified,
    awaited_ids = excluded.awaited_ids,
    awaited = excluded.awaited


-- name: count
-- In the order of the key, so that no two wait for each other.
insert into arrivals as a (hour, seconds, shown, lacked, longest)
select * from unnest($1::timestamptz[], $2::integer[], $3::bigint[], $4::bigint[], $5::interval[])
order by 1, 2
on conflict (hour, seconds) do update
set
    shown = a.shown + excluded.shown,
    lacked = a.lacked + excluded.lacked,
    longest = greatest(a.longest, excluded.longest)


-- name: longest
select coalesce(max(longest), interval '0') from arrivals where hour > $1::timestamptz - interval '1 hour'


-- name: histogram
select hour, seconds, shown, lacked, longest
from arrivals
where hour > $1::timestamptz - interval '1 hour'
order by hour, seconds


-- name: created_between
-- Of a seller's orders that were created in a span, those that have not changed since its end.
select tid, modified
from orders
where seller_id = $1 and created >= $2 and created < $3 and modified >= $2 and modified < $3
order by created desc
limit $4

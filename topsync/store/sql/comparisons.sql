-- name: progress
select day, since, counted_on, listed_on, unlisted from comparisons where seller_id = $1 and kind = $2


-- name: nights
select seller_id, max(counted_on) as last, min(counted_on) as first from comparisons group by seller_id


-- name: compared_on
select seller_id, kind, count(*) as days from comparisons where counted_on = $1 group by seller_id, kind


-- name: note_day
-- Nothing is noted of an erased seller: the lock separates this and the erasure.
insert into comparisons as c (seller_id, kind, day, since, counted_on, listed_on, unlisted)
select seller_id, $2, $3, $4, $4, case when $5 then $4::date end, $6
from sellers
where seller_id = $1 and state <> 'erased'
for share
on conflict (seller_id, kind, day) do update
set
    counted_on = greatest(c.counted_on, excluded.counted_on),
    listed_on = greatest(c.listed_on, excluded.listed_on),
    unlisted = case when $5 then excluded.unlisted else c.unlisted end


-- name: forget_days
delete from comparisons where day < $1


-- name: begin
insert into reports (id, night, began_at) values ($1, $2, $3) on conflict do nothing


-- name: get
select id, night, began_at, ended_at, days, days_left from reports where id = $1


-- name: newest
select id, night, began_at, ended_at, days, days_left from reports order by began_at desc, id limit $1


-- name: nights_under_way
select id, night, began_at, ended_at, days, days_left
from reports
where ended_at is null and night is not null
order by night


-- name: finish
-- Of two that finish the same report, one does.
update reports set ended_at = $2, days = $3, days_left = $4 where id = $1 and ended_at is null


-- name: leave_open
update differences set outcome = 'left' where report = $1 and outcome = 'open'


-- name: add
-- What was repaired in the same night and differs again is open again; what a newer look has settled stays as it is.
-- Nothing is added to a report that has ended: the lock separates this and its end.
insert into differences as before (report, kind, id, tid, seller_id, day, what, note, outcome, looked_at)
select $1, $3, d.id, d.tid, s.seller_id, $4, d.what, d.note, d.outcome, d.looked_at
from
    unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::timestamptz[])
    as d (id, tid, what, note, outcome, looked_at)
cross join (select seller_id from sellers where seller_id = $2 and state <> 'erased' for share) as s
cross join (select from reports where id = $1 and ended_at is null for share) as report
order by d.id
on conflict (report, kind, id) do update
set
    day = excluded.day,
    what = excluded.what,
    note = excluded.note,
    outcome = excluded.outcome,
    looked_at = excluded.looked_at
where coalesce(before.looked_at <= excluded.looked_at, true)


-- name: settle
-- Of two processes that repair the same, the one that has looked last is right. Nothing changes in a report that has ended.
update differences set outcome = $4, looked_at = $5
where
    report = $1
    and kind = $2
    and id = any($3::bigint[])
    and coalesce(looked_at <= $5, true)
    and exists (select from reports where id = $1 and ended_at is null)


-- name: open
select seller_id, kind, id, tid, day, what, note, outcome, looked_at
from differences
where report = $1 and seller_id = $2 and kind = $3 and day = $4 and outcome = 'open'
order by id


-- name: open_days
select distinct seller_id, kind, day from differences where report = $1 and outcome = 'open' order by seller_id, kind, day


-- name: differences
select seller_id, kind, id, tid, day, what, note, outcome, looked_at
from differences
where report = $1
order by seller_id, day, kind, id
limit $2


-- name: counts
select seller_id, kind, what, outcome, count(*) as objects
from differences
where report = $1
group by seller_id, kind, what, outcome
order by seller_id, kind, what, outcome


-- name: some_ids
select id from differences where report = $1 and seller_id = $2 and kind = $3 order by id limit $4


-- name: fail
insert into comparison_failures (report, seller_id, kind, reason)
select $1, seller_id, $3, $4 from sellers where seller_id = $2 and state <> 'erased' for share
on conflict (report, seller_id, kind) do update set reason = excluded.reason


-- name: clear_failure
delete from comparison_failures where report = $1 and seller_id = $2 and kind = $3


-- name: failures
select seller_id, kind, reason from comparison_failures where report = $1 order by seller_id, kind

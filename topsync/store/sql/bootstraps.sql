-- name: begin
-- A bulk start that is under way goes on; a bulk start that was finished begins anew.
insert into bootstraps as b (seller_id, state, scheme, first_day, day_zero, started_at)
select seller_id, 'subscribed', $2, $3, $4, $5 from sellers where seller_id = $1 and state <> 'erased' for share
on conflict (seller_id) do update
set
    state = excluded.state, scheme = excluded.scheme, first_day = excluded.first_day, day_zero = excluded.day_zero,
    started_at = excluded.started_at, certified_at = null, certificate = null, listed_because = null, planned_at = null
where b.state = 'live'


-- name: get
select
    seller_id, state, scheme, first_day, day_zero, started_at, planned_at, listed_because, certificate
from bootstraps
where seller_id = $1


-- name: first_days
select seller_id, first_day from bootstraps where seller_id = $1 or $1 is null


-- name: planned
update bootstraps set planned_at = $2, listed_because = $3 where seller_id = $1


-- name: list_because
update bootstraps set listed_because = coalesce($2, listed_because) where seller_id = $1


-- name: set_scheme
update bootstraps set scheme = $2 where seller_id = $1 and state <> 'live'


-- name: move_day_zero
-- A task of an earlier day: the increments must begin on the day of its creation.
update bootstraps set day_zero = least(day_zero, $2) where seller_id = $1


-- name: move_first_day
-- What the platform no longer gives is not claimed.
update bootstraps set first_day = greatest(first_day, $2) where seller_id = $1


-- name: certify
update bootstraps set state = 'live', certified_at = $2, certificate = $3::jsonb where seller_id = $1


-- name: count_under_way
select count(*) from bootstraps where state <> 'live'

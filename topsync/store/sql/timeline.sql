-- name: replayed
-- A window is pulled after its time: so the index by seller and time of the pull bounds what is read. Of windows that are
-- too old to be kept, the sums of their days tell.
(
    select lower(span) as start, upper(span) as "end"
    from windows
    where seller_id = $1 and pulled_at >= $2 and source = 'operator' and span && tstzrange($2, $3)
    order by pulled_at
    limit $4
)
union all
(
    select lower(part) as start, upper(part) as "end"
    from window_days as d
    cross join unnest(d.pulled) as part
    where
        d.seller_id = $1
        and d.day >= ($2::timestamptz at time zone interval '8 hours')::date
        and d.source = 'operator'
        and part && tstzrange($2, $3)
    order by d.day
    limit $4
)


-- name: gaps_of
select id, seller_id, began, ended, cause, opened_at, pulled_at, closed_at
from gaps
where seller_id = $1 and began < $3 and (closed_at is null or coalesce(ended, closed_at) > $2)
order by began desc
limit $4


-- name: gaps_open
select g.id, g.seller_id, g.began, g.ended, g.cause, g.opened_at, g.pulled_at, g.closed_at
from gaps as g
where g.closed_at is null and ($1::bigint is null or g.seller_id = $1)
order by g.began, g.id
limit $2


-- name: gaps_closed
-- A gap is never closed before it is opened, and gaps are numbered as they are opened: the newest numbers have those
-- that were closed lately, unless one was open for very long.
select id, seller_id, began, ended, cause, opened_at, pulled_at, closed_at
from (
    select * from gaps where $1::bigint is null or seller_id = $1 order by id desc limit $4
) as newest
where closed_at >= $2
order by closed_at desc, id desc
limit $3


-- name: count_open
select count(*) from gaps where closed_at is null and ($1::bigint is null or seller_id = $1)

-- What is too old, a piece at a time. For each table that goes by age (topsync/store/tables.py), a statement with its
-- name takes at most $2 of the oldest rows that are older than $1, and answers with how many; and `oldest_…` answers
-- with the age of the oldest row. Rows that somebody else has locked are left for the next piece: so no statement waits
-- for another, and two processes at once share the work.

-- name: now
select now()


-- name: windows
-- Summed up by the platform's day, in the same statement. One seller after the other, so that many windows become few
-- sums, and the index by seller finds them. Nothing is summed up of a seller that is being erased, and none is erased
-- meanwhile: the lock of its row separates the two.
with due as materialized (
    select s.seller_id
    from sellers as s
    where s.state <> 'erased'
      and (
          select w.pulled_at from windows as w where w.seller_id = s.seller_id order by w.pulled_at limit 1
      ) < $1::timestamptz
    order by s.seller_id
    limit $2
), old as materialized (
    select w.id, w.seller_id
    from due
    cross join lateral (
        select id, seller_id
        from windows
        where seller_id = due.seller_id and pulled_at < $1::timestamptz
        order by pulled_at
        limit $2
        for update skip locked
    ) as w
    limit $2
), held as materialized (
    select seller_id
    from sellers
    where seller_id = any(array(select seller_id from old)) and state <> 'erased'
    order by seller_id
    for share skip locked
), gone as (
    delete from windows
    where id = any(array(select o.id from old as o join held using (seller_id)))
    returning *
), summed as (
    insert into window_days as d (
        seller_id, day, lists, source, windows, proving, listed, hinted, pulled, proven, first_pulled_at,
        last_pulled_at
    )
    select
        seller_id,
        (pulled_at at time zone interval '8 hours')::date as day,
        lists,
        source,
        count(*),
        count(proven_to),
        sum(listed),
        sum(hinted),
        range_agg(span),
        coalesce(
            range_agg(tstzrange(lower(span), proven_to, '[)')) filter (where proven_to > lower(span)),
            '{}'::tstzmultirange
        ),
        min(pulled_at),
        max(pulled_at)
    from gone
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (seller_id, day, lists, source) do update
    set
        windows = d.windows + excluded.windows,
        proving = d.proving + excluded.proving,
        listed = d.listed + excluded.listed,
        hinted = d.hinted + excluded.hinted,
        pulled = d.pulled + excluded.pulled,
        proven = d.proven + excluded.proven,
        first_pulled_at = least(d.first_pulled_at, excluded.first_pulled_at),
        last_pulled_at = greatest(d.last_pulled_at, excluded.last_pulled_at)
)
select count(*) from gone


-- name: oldest_windows
select min((select w.pulled_at from windows as w where w.seller_id = s.seller_id order by w.pulled_at limit 1))
from sellers as s


-- name: window_days
-- Also those of a seller that the former release has erased, which does not know them.
with old as materialized (
    select ctid from window_days where day < ($1::timestamptz at time zone interval '8 hours')::date
    order by day
    limit $2
    for update skip locked
), erased as materialized (
    select d.ctid
    from window_days as d
    where d.seller_id = any(array(select seller_id from sellers where state = 'erased'))
    limit $2
    for update skip locked
), gone as (
    delete from window_days
    where ctid = any(array(select ctid from old union select ctid from erased limit $2))
    returning 1
)
select count(*) from gone


-- name: oldest_window_days
select min(day)::timestamp at time zone interval '8 hours' from window_days


-- name: gaps
with gone as (
    delete from gaps
    where id = any(array(
        select id from gaps where closed_at < $1::timestamptz order by closed_at limit $2 for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_gaps
select min(closed_at) from gaps where closed_at is not null


-- name: push_connections
with gone as (
    delete from push_connections
    where id = any(array(
        select c.id
        from push_connections as c
        where c.lost_at < $1::timestamptz
          and c.gap_opened
          and (select count(*) from gaps as g where g.connection = c.id) = 0
          and c.last_proof_at < (select max(last_proof_at) from push_connections)
        order by c.lost_at
        limit $2
        for update of c skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_push_connections
select min(lost_at) from push_connections


-- name: replays
-- Their pieces go with them.
with gone as (
    delete from replays
    where id = any(array(
        select id from replays where finished_at < $1::timestamptz
        order by finished_at
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_replays
select min(finished_at) from replays where finished_at is not null


-- name: republications
with gone as (
    delete from republications
    where id = any(array(
        select id from republications where coalesce(finished_at, cancelled_at) < $1::timestamptz
        order by coalesce(finished_at, cancelled_at)
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_republications
select min(coalesce(finished_at, cancelled_at)) from republications


-- name: session_warnings
with gone as (
    delete from session_warnings
    where ctid = any(array(
        select w.ctid
        from session_warnings as w
        join sellers as s using (seller_id)
        where w.given_at < $1::timestamptz and w.session_version < s.session_version
        limit $2
        for update of w skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_session_warnings
select min(w.given_at)
from session_warnings as w
join sellers as s using (seller_id)
where w.session_version < s.session_version


-- name: differences
-- Of reports that are too old, which go when they have none left. By their key, because by `ctid` a plan made for an
-- empty table would read all of it; a few more may go, which go anyway.
with old as materialized (
    select report, kind, id
    from differences
    where report = any(array(select id from reports where began_at < $1::timestamptz and ended_at is not null))
    order by report, kind, id
    limit $2
    for update skip locked
), gone as (
    delete from differences
    where
        report = any(array(select report from old))
        and kind = any(array(select kind from old))
        and id = any(array(select id from old))
    returning 1
)
select count(*) from gone


-- name: oldest_differences
select min(began_at)
from reports as r
where (select count(*) from (select from differences as d where d.report = r.id limit 1) as any_of_it) > 0


-- name: reports
with gone as (
    delete from reports
    where id = any(array(
        select r.id
        from reports as r
        where
            r.began_at < $1::timestamptz
            and r.ended_at is not null
            and not exists (select from differences as d where d.report = r.id)
        order by r.began_at
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_reports
select min(began_at) from reports where ended_at is not null


-- name: api_calls
with gone as (
    delete from api_calls
    where ctid = any(array(
        select ctid from api_calls where day < ($1::timestamptz at time zone interval '8 hours')::date
        order by day
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: service_calls
with gone as (
    delete from service_calls
    where ctid = any(array(
        select ctid from service_calls where day < ($1::timestamptz at time zone interval '8 hours')::date
        order by day
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_service_calls
select min(day)::timestamp at time zone interval '8 hours' from service_calls


-- name: oldest_api_calls
select min(day)::timestamp at time zone interval '8 hours' from api_calls


-- name: visibility_changes
with gone as (
    delete from visibility_changes
    where id = any(array(
        select id from visibility_changes where at < $1::timestamptz and notified_at is not null
        order by at
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_visibility_changes
select min(at) from visibility_changes where notified_at is not null


-- name: arrivals
with gone as (
    delete from arrivals
    where ctid = any(array(
        select ctid from arrivals where hour < $1::timestamptz
        order by hour
        limit $2
        for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_arrivals
select min(hour) from arrivals


-- name: anomalies
with gone as (
    delete from anomalies
    where ctid = any(array(
        select ctid from anomalies where last_at < $1::timestamptz order by last_at limit $2 for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_anomalies
select min(last_at) from anomalies


-- name: detail_hours
with gone as (
    delete from detail_hours
    where ctid = any(array(
        select ctid from detail_hours where hour < $1::timestamptz order by hour limit $2 for update skip locked
    ))
    returning 1
)
select count(*) from gone


-- name: oldest_detail_hours
select min(hour) from detail_hours

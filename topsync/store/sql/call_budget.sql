-- name: add
insert into call_budget (scope) select unnest($1::text[]) on conflict (scope) do nothing


-- name: lease
-- The rule of topsync/budget/leases.py, in a single statement. Locking the rows comes first: asks are
-- answered in turn, each at its own moment. Arrays hold one element for each line, the app's first.
with asked as (
    select * from unnest($1::text[], $2::float8[], $3::float8[], $4::bigint[])
        as a (scope, interval_seconds, guaranteed_seconds, quota)
), locked as materialized (
    select b.scope, b.next_at, b.lane_at[$5::int] as lane_at, b.day, b.spent
    from call_budget b
    where b.scope = any ($1::text[])
    order by b.scope
    for update
), moment as materialized (
    -- An aggregate, because it is computed when all rows are locked.
    select count(*) as lines, clock_timestamp() as now from locked
), today as materialized (
    select now, (now at time zone interval '8 hours')::date as day from moment
), line as materialized (
    select
        l.scope, a.interval_seconds, a.guaranteed_seconds, a.quota,
        least(
            greatest(extract(epoch from l.next_at - t.now)::float8, 0), $7::float8 + a.interval_seconds
        ) as ahead,
        greatest(extract(epoch from l.lane_at - t.now)::float8, 0) as priority_in,
        case
            when l.day < t.day and a.scope = 'app' then 0
            when a.scope = 'app' then greatest(l.spent - $9::bigint, 0)
            else 0
        end as spent
    from locked l join asked a using (scope) cross join today t
), banned as materialized (
    select b.scope, extract(epoch from b.until - t.now)::float8 as seconds
    from call_bans b cross join today t
    where b.until > t.now
), granted as materialized (
    select
        case
            when exists (select from banned where scope = 'app') then 0
            else greatest(0, least(
                $8::bigint,
                min(greatest(
                    floor(($6::float8 - ahead) / interval_seconds)::bigint + 1,
                    case when guaranteed_seconds is not null and priority_in <= 0 and ahead <= $7 then 1 else 0 end
                )),
                min(quota - spent)
            ))
        end as calls
    from line
), written as (
    update call_budget b
    set
        next_at = t.now + make_interval(secs => l.ahead + g.calls * l.interval_seconds),
        lane_at[$5::int] = t.now + make_interval(
            secs => coalesce(least(l.priority_in + g.calls * l.guaranteed_seconds, l.guaranteed_seconds), 0)
        ),
        day = t.day,
        spent = l.spent + g.calls
    from line l cross join granted g cross join today t
    where b.scope = l.scope and (g.calls > 0 or $9 > 0)
)
select
    t.now,
    g.calls,
    max(l.ahead) as starts_in,
    max(l.interval_seconds) as spacing,
    max(least(
        greatest(0, after.ahead - $6),
        case when after.priority_in is not null then greatest(after.priority_in, after.ahead - $7, 0) end
    )) as again_in,
    bool_or(coalesce(l.spent >= l.quota, false)) as day_is_spent,
    extract(epoch from (t.day + 1)::timestamp at time zone interval '8 hours' - t.now)::float8 as day_ends_in,
    sum(l.spent)::bigint + g.calls as spent,
    (select array_agg(scope) from banned) as banned,
    (select array_agg(seconds) from banned) as banned_seconds
from
    line l cross join granted g cross join today t
    cross join lateral (
        select
            l.ahead + g.calls * l.interval_seconds as ahead,
            -- Null for a priority without a share, which `least` ignores.
            least(l.priority_in + g.calls * l.guaranteed_seconds, l.guaranteed_seconds) as priority_in
    ) as after
group by t.now, t.day, g.calls


-- name: ban
-- A ban only moves to a later end. Listeners are notified when it is stored.
with stored as (
    insert into call_bans as b (scope, until) values ($1, clock_timestamp() + make_interval(secs => $2))
    on conflict (scope) do update set until = greatest(b.until, excluded.until)
    returning scope, until
)
select pg_notify('call_bans', scope || ' ' || extract(epoch from until - clock_timestamp())::float8) from stored


-- name: spent_today
select coalesce(sum(spent) filter (where day = (now() at time zone interval '8 hours')::date), 0)::bigint
from call_budget
where scope = 'app'


-- name: bans
select scope, until from call_bans where until > now() order by scope

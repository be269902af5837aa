-- name: add
with counted as materialized (
    select *
    from unnest($3::date[], $4::text[], $5::text[], $6::text[], $7::bigint[]) as t (day, api, lane, outcome, calls)
), by_service as (
    insert into service_calls as c (day, service, lane, calls, failed)
    select day, $1, lane, sum(calls), coalesce(sum(calls) filter (where outcome <> $2), 0)
    from counted
    group by day, lane
    order by day, lane
    on conflict (day, service, lane) do update
    set calls = c.calls + excluded.calls, failed = c.failed + excluded.failed
)
insert into api_calls as c (day, api, lane, outcome, calls)
select day, api, lane, outcome, calls from counted
on conflict (day, api, lane, outcome) do update set calls = c.calls + excluded.calls


-- name: by_api
select api, sum(calls)::bigint as calls from api_calls
where day = (select max(day) from api_calls)
group by api order by 2 desc


-- name: by_priority
select lane, sum(calls)::bigint as calls from api_calls
where day = (now() at time zone interval '8 hours')::date
group by lane


-- name: by_service
select service, lane, calls, failed from service_calls
where day = (now() at time zone interval '8 hours')::date
order by calls desc, service, lane


-- name: of_day
select api, lane, outcome, calls from api_calls
where day = (now() at time zone interval '8 hours')::date
order by calls desc, api, lane, outcome
limit $1

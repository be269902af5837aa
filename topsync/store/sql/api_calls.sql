-- name: add
insert into api_calls as c (day, api, lane, outcome, calls)
select * from unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::bigint[])
on conflict (day, api, lane, outcome) do update set calls = c.calls + excluded.calls


-- name: by_api
select api, sum(calls)::bigint as calls from api_calls
where day = (select max(day) from api_calls)
group by api order by 2 desc


-- name: by_priority
select lane, sum(calls)::bigint as calls from api_calls
where day = (now() at time zone interval '8 hours')::date
group by lane


-- name: of_day
select api, lane, outcome, calls from api_calls
where day = (now() at time zone interval '8 hours')::date
order by calls desc, api, lane, outcome
limit $1

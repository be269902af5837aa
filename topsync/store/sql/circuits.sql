-- name: testify
insert into call_evidence (scope, calls, failed) select * from unnest($1::text[], $2::int[], $3::int[])


-- name: evidence
-- A scope with a circuit counts from its present state on. What lies ahead of now was written before the clock was set back.
select e.scope, sum(e.calls)::bigint as calls, sum(e.failed)::bigint as failed
from call_evidence e left join circuits c on c.scope = e.scope and c.since <= $2
where e.at > $1 and e.at <= $2 and (c.since is null or e.at > c.since)
group by e.scope
having sum(e.failed) > 0 or bool_or(c.scope is not null)


-- name: prune
delete from call_evidence where at <= $1 or at > $2


-- name: all
select scope, state, since, opened_at, wait, calls, failed from circuits order by scope


-- name: write
insert into circuits (scope, state, since, opened_at, wait, calls, failed)
select * from unnest(
    $1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::interval[], $6::int[], $7::int[]
)
order by 1
on conflict (scope) do update set
    state = excluded.state, since = excluded.since, opened_at = excluded.opened_at, wait = excluded.wait,
    calls = excluded.calls, failed = excluded.failed


-- name: forget
delete from circuits where scope = any ($1::text[])


-- name: now
select clock_timestamp()

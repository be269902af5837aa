-- name: marks
select event_id, retried_at, closed_at, closed_because
from dead_letter_retries
where event_id = any($1::text[])


-- name: mark_retried
-- In the same sequence for all, so that two operators cause no deadlock.
insert into dead_letter_retries (event_id, retried_at)
select distinct event_id, now() from unnest($1::text[]) as t (event_id) order by event_id
on conflict (event_id) do update set retried_at = excluded.retried_at


-- name: mark_closed
-- Without a time of a retry: the column's default is what a former version relies on.
insert into dead_letter_retries (event_id, retried_at, closed_at, closed_because)
select distinct event_id, null::timestamptz, now(), $2::text from unnest($1::text[]) as t (event_id) order by event_id
on conflict (event_id) do update set closed_at = excluded.closed_at, closed_because = excluded.closed_because


-- name: forget_old
-- A dead letter is older than its marks: once the topic has dropped it, nobody asks for the marks.
delete from dead_letter_retries
where event_id = any(array(
    select event_id
    from dead_letter_retries
    where greatest(retried_at, closed_at) < now() - $1::interval
    order by greatest(retried_at, closed_at)
    limit 10000
))

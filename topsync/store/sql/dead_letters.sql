-- name: retried
select event_id, retried_at from dead_letter_retries where event_id = any($1::text[])


-- name: mark_retried
insert into dead_letter_retries (event_id)
select event_id from unnest($1::text[]) as t (event_id)
on conflict (event_id) do update set retried_at = now()


-- name: forget_old
-- A letter is older than its retry: once the topic has dropped it, nobody asks for the mark.
delete from dead_letter_retries where retried_at < now() - $1::interval

-- name: store
-- Adds a seller, or gives a known seller another session: an expired seller is what it was before, an erased
-- seller is new, but not before all of it is erased.
-- With $9, only in the place of that session: a slower process must not undo what a newer process stored.
insert into sellers as s (
    seller_id, nick, session_cipher, session_ends_at, authorised_at, refresh_cipher, refresh_ends_at, grant_facts,
    scheme
) values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $10)
on conflict (seller_id) do update
set
    nick = excluded.nick,
    session_cipher = excluded.session_cipher,
    session_version = s.session_version + 1,
    session_ends_at = excluded.session_ends_at,
    authorised_at = excluded.authorised_at,
    refresh_cipher = excluded.refresh_cipher,
    refresh_ends_at = excluded.refresh_ends_at,
    grant_facts = excluded.grant_facts,
    scheme = coalesce(excluded.scheme, s.scheme),
    refused_at = null,
    state = case
        when s.state not in ('expired', 'erased') then s.state
        when exists (select from bootstraps as b where b.seller_id = s.seller_id and b.state = 'live') then 'live'
        else 'new'
    end,
    state_reason = case when s.state in ('expired', 'erased') then null else s.state_reason end,
    state_since = case when s.state in ('expired', 'erased') then now() else s.state_since end,
    replay_due = true,
    refresh_attempts = 0,
    refresh_begun_at = null,
    refresh_not_before = '-infinity',
    updated_at = now()
where ($9::bigint is null or s.session_version = $9)
  and not exists (
    select from erasures as e where e.seller_id = s.seller_id and s.state = 'erased' and e.finished_at is null
  )


-- name: select
-- $1: how long a refresh may take; $2: a seller's id; $3: a nick or id, as an operator would name it.
select
    seller_id, nick, session_cipher, state, state_reason, state_since, session_version, session_ends_at,
    authorised_at, refresh_cipher, refresh_ends_at, grant_facts, refused_at, replay_due, refresh_attempts,
    scheme, messages_cancelled,
    refresh_not_before <= now() as refresh_allowed,
    coalesce(refresh_begun_at > now() - make_interval(secs => $1), false) as refresh_under_way
from sellers
where ($2::bigint is null or seller_id = $2) and ($3::text is null or nick = $3 or seller_id::text = $3)
order by seller_id


-- name: some
select
    seller_id, nick, session_cipher, state, state_reason, state_since, session_version, session_ends_at,
    authorised_at, refresh_cipher, refresh_ends_at, grant_facts, refused_at, replay_due, refresh_attempts,
    scheme, messages_cancelled,
    refresh_not_before <= now() as refresh_allowed,
    coalesce(refresh_begun_at > now() - make_interval(secs => $1), false) as refresh_under_way
from sellers
where seller_id = any($2::bigint[])


-- name: count_usable
select count(*) from sellers where state in ('new', 'live')


-- name: set_live
-- The end of a bulk start. A seller that an operator paused meanwhile, or that lost its session, stays so.
update sellers set state = 'live', state_reason = null, state_since = now(), updated_at = now()
where seller_id = $1 and state = 'new'


-- name: refuse
-- The platform refuses this very session; a newer session is not concerned. A paused seller stays paused.
update sellers
set
    refused_at = now(),
    state_reason = case when state = 'paused' then state_reason else $3 end,
    state_since = case when state = 'paused' then state_since else now() end,
    state = case when state = 'paused' then state else 'expired' end,
    updated_at = now()
where seller_id = $1 and session_version = $2 and refused_at is null


-- name: set_unreadable
-- The platform has refused nothing: with the key, the session is good again.
update sellers
set state = 'expired', state_reason = $3, state_since = now(), updated_at = now()
where seller_id = $1 and session_version = $2 and state in ('new', 'live')


-- name: set_readable
-- The next end of this session is another end, with warnings of its own.
with back as (
    update sellers as s
    set
        state = case
            when exists (select from bootstraps as b where b.seller_id = s.seller_id and b.state = 'live') then 'live'
            else 'new'
        end,
        state_reason = null,
        state_since = now(),
        replay_due = true,
        updated_at = now()
    where seller_id = $1 and session_version = $2 and state = 'expired' and state_reason = $3 and refused_at is null
    returning seller_id, session_version
),
forgotten as (
    delete from session_warnings as w using back
    where w.seller_id = back.seller_id and w.session_version = back.session_version and w.days = 0
)
select seller_id from back


-- name: cancel
-- As refuse, whatever the session, unless it was granted after the message; nothing is left to refresh.
update sellers
set
    refused_at = now(),
    refresh_cipher = null,
    state_reason = case when state = 'paused' then state_reason else $3 end,
    state_since = case when state = 'paused' then state_since else now() end,
    state = case when state = 'paused' then state else 'expired' end,
    updated_at = now()
where seller_id = $1
  and state <> 'erased'
  and (authorised_at is null or authorised_at < $2)
  and state_reason is distinct from $3
returning seller_id


-- name: pause
update sellers
set state = 'paused', state_reason = $2, state_since = now(), updated_at = now()
where seller_id = $1 and state not in ('paused', 'erased')


-- name: resume
update sellers as s
set
    state = case
        when s.refused_at is not null then 'expired'
        when exists (select from bootstraps as b where b.seller_id = s.seller_id and b.state = 'live') then 'live'
        else 'new'
    end,
    state_reason = case when s.refused_at is not null then $2 end,
    state_since = now(),
    replay_due = true,
    updated_at = now()
where seller_id = $1 and state = 'paused'


-- name: set_scheme
update sellers set scheme = $2, updated_at = now() where seller_id = $1 and state <> 'erased'


-- name: set_messages
update sellers set messages_cancelled = $2, updated_at = now()
where seller_id = $1 and messages_cancelled <> $2 and state <> 'erased'


-- name: begin_refresh
-- The claim to refresh: one claim at a time, over all processes. It lapses by itself if its owner dies.
update sellers
set
    refresh_attempts = refresh_attempts + 1,
    refresh_begun_at = now(),
    refresh_not_before = now() + make_interval(secs => $3)
where seller_id = $1 and session_version = $2 and refresh_cipher is not null and refresh_not_before <= now()


-- name: refresh_failed
update sellers
set refresh_begun_at = null, refresh_not_before = now() + make_interval(secs => $3)
where seller_id = $1 and session_version = $2


-- name: refresh_refused
-- The refresh token cannot be used any more. A session that still works goes on until its end.
update sellers
set
    refresh_cipher = null,
    refresh_begun_at = null,
    state_reason = case when state = 'expired' then $3 else state_reason end,
    updated_at = now()
where seller_id = $1 and session_version = $2


-- name: replay_planned
update sellers set replay_due = false
where seller_id = $1 and session_version = $2 and replay_due and state in ('new', 'live')
returning seller_id


-- name: reencrypt
-- Only what was read is replaced: a session refreshed meanwhile stays.
update sellers set session_cipher = $3, refresh_cipher = $4
where seller_id = $1 and session_version = $2 and session_cipher = $5 and refresh_cipher is not distinct from $6


-- name: warnings_given
select w.seller_id, w.days
from session_warnings as w
join sellers as s using (seller_id, session_version)


-- name: warning_given
insert into session_warnings (seller_id, session_version, days) values ($1, $2, $3) on conflict do nothing


-- name: nicks
select seller_id, nick from sellers where seller_id = any($1::bigint[])


-- name: count
select count(*) from sellers where state <> 'erased'

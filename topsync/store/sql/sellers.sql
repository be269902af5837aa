-- name: add
-- Adds a seller, or renews the session of one that is known: an expired seller is live again.
insert into sellers as s (seller_id, nick, session_cipher) values ($1, $2, $3)
on conflict (seller_id) do update
set
    nick = excluded.nick,
    session_cipher = excluded.session_cipher,
    state = case when s.state = 'expired' then 'live' else s.state end,
    updated_at = now()


-- name: all
select seller_id, nick, session_cipher, state from sellers order by seller_id


-- name: get
select seller_id, nick, session_cipher, state from sellers where seller_id = $1


-- name: find
select seller_id, nick, session_cipher, state from sellers where nick = $1 or seller_id::text = $1


-- name: set_state
update sellers set state = $2, updated_at = now() where seller_id = $1

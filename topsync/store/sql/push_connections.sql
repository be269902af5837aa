-- name: write
insert into push_connections as p (id, channel_group, connected_at, last_proof_at, lost_at, reason, cause)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do update
set
    last_proof_at = case
        when excluded.lost_at is null then greatest(p.last_proof_at, excluded.last_proof_at)
        else excluded.last_proof_at
    end,
    lost_at = excluded.lost_at,
    reason = excluded.reason,
    cause = excluded.cause,
    -- A connection that was given up as silent and writes again can be lost again.
    gap_opened = p.gap_opened and excluded.lost_at is not null,
    written_at = now()


-- name: lost
select
    id, channel_group, connected_at, last_proof_at, coalesce(reason, 'the push process stopped writing') as reason
from push_connections
where not gap_opened and (lost_at is not null or written_at < now() - $1::interval)
order by last_proof_at


-- name: close_stale
update push_connections set gap_opened = true, lost_at = coalesce(lost_at, last_proof_at) where id = $1


-- name: up
select id, channel_group, connected_at, last_proof_at
from push_connections
where lost_at is null and written_at >= now() - $1::interval
order by connected_at


-- name: last
select id, channel_group, connected_at, last_proof_at, lost_at, reason, cause
from push_connections
order by last_proof_at desc
limit 1

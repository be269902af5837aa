-- name: plan
-- What a former release has found of the span so far goes on in the piece.
with planned as (
    update replays set planned = true where id = $1 and not planned returning id, seller_id, outcome
)
insert into replay_pieces (replay, number, seller_id, outcome)
select
    p.id, row_number() over (order by s.seller_id), s.seller_id,
    case when p.seller_id is null then '{}' else coalesce(p.outcome, '{}') end
from planned as p
join sellers as s on s.seller_id = p.seller_id or (p.seller_id is null and s.state <> 'erased')


-- name: add
insert into replay_pieces (replay, number, seller_id, tids) values ($1, $2, $3, $4)


-- name: waiting
select replay, number, seller_id, tids, state, outcome
from replay_pieces
where replay = $1 and state = 'waiting' and number > $2
order by number
limit $3


-- name: all
select replay, number, seller_id, state, outcome from replay_pieces where replay = $1 order by number


-- name: of_sellers
-- By seller, those first of which something failed or is missing.
select
    p.seller_id, s.nick, count(*) as pieces, count(*) filter (where p.state = 'waiting') as waiting,
    count(*) filter (where p.state = 'failed') as failed, jsonb_agg(p.outcome order by p.number) as outcomes
from replay_pieces as p
left join sellers as s using (seller_id)
where p.replay = $1
group by p.seller_id, s.nick
order by count(*) filter (where p.state = 'failed' or p.outcome ? 'not_fetched') desc, p.seller_id
limit $2


-- name: count
select count(*) as pieces, count(*) filter (where state = 'waiting') as waiting, count(distinct seller_id) as sellers
from replay_pieces
where replay = $1


-- name: advance
update replay_pieces set outcome = $3::jsonb where replay = $1 and number = $2 and state = 'waiting'


-- name: finish
update replay_pieces set state = $3, outcome = $4::jsonb where replay = $1 and number = $2 and state = 'waiting'

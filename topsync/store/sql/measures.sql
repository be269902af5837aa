-- name: copies
-- Disjoint spans that do not touch: between two of them is a hole.
select
    c.seller_id,
    (select upper(r) from unnest(c.proven) as r order by r limit 1) as complete_until,
    (select count(*) from unnest(c.proven))::integer - 1 as holes
from coverage as c
join sellers as s using (seller_id)
where s.state = any($1::text[]) and not isempty(c.proven)


-- name: slices
select s.state, count(*)::integer as slices
from export_slices as s
join bootstraps as b using (seller_id)
where b.state <> 'live'
group by s.state


-- name: last_night
select id, ended_at from reports where night is not null and ended_at is not null order by night desc limit 1


-- name: differences
select what, outcome, count(*)::integer as objects from differences where report = $1 group by what, outcome


-- name: witness_findings
select topic, count(*)::integer as findings from witness_findings group by topic

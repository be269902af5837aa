-- name: sight
-- Adds what a process has seen. Of a kind that has $6 names already, new names are joined under $7. No example is of a
-- seller that is erased.
with seen as (
    select t.kind, t.name, t.seen, case when s.seller_id is not null then t.seller_id end as seller_id,
        case when s.seller_id is not null or t.seller_id is null then t.tid end as tid
    from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) as t (kind, name, seen, seller_id, tid)
    left join sellers as s on s.seller_id = t.seller_id and s.state <> 'erased'
), known as (
    select kind, count(*) as names from anomalies where kind = any($1) group by kind
), named as (
    select
        s.kind,
        case
            when coalesce(k.names, 0) < $6
                or exists (select from anomalies as a where a.kind = s.kind and a.name = s.name)
            then s.name
            else $7
        end as name,
        s.seen,
        s.seller_id,
        s.tid
    from seen as s
    left join known as k using (kind)
)
insert into anomalies as a (kind, name, seen, seller_id, tid)
select
    kind, name, sum(seen), (array_agg(seller_id order by tid nulls last))[1], (array_agg(tid order by tid nulls last))[1]
from named
group by kind, name
order by kind, name
on conflict (kind, name) do update
set
    seen = a.seen + excluded.seen,
    seller_id = excluded.seller_id,
    tid = excluded.tid,
    last_at = now(),
    ended_at = null


-- name: count_details
insert into detail_hours as d (hour, answers, behind) values (date_trunc('hour', now(), 'UTC'), $1, $2)
on conflict (hour) do update set answers = d.answers + excluded.answers, behind = d.behind + excluded.behind


-- name: detail_hours
select hour, answers, behind from detail_hours where hour = any($1::timestamptz[])


-- name: find
-- Writes what a judge has found, in place of what it found before. What comes again after its end is to be notified
-- again, where $10 says so.
insert into anomalies as a (kind, name, seller_id, tid, seen, among, expected, deviation, last_at)
select f.kind, f.name, f.seller_id, f.tid, f.seen, f.among, f.expected, f.deviation, coalesce(f.at, now())
from unnest(
    $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::double precision[],
    $8::double precision[], $9::timestamptz[]
) as f (kind, name, seller_id, tid, seen, among, expected, deviation, at)
order by f.kind, f.name
on conflict (kind, name) do update
set
    seller_id = excluded.seller_id,
    tid = excluded.tid,
    seen = excluded.seen,
    among = excluded.among,
    expected = excluded.expected,
    deviation = excluded.deviation,
    first_at = case when a.ended_at is not null and a.kind = any($10::text[]) then now() else a.first_at end,
    told_at = case when a.ended_at is not null and a.kind = any($10::text[]) then null else a.told_at end,
    last_at = greatest(a.last_at, excluded.last_at),
    ended_at = null


-- name: end_judged
-- Of a kind, those that are neither found nor in doubt any more.
update anomalies set ended_at = now() where kind = $1 and ended_at is null and name <> all($2::text[])


-- name: end_old
update anomalies as a
set ended_at = now()
from unnest($1::text[], $2::interval[]) as k (kind, lasts)
where a.kind = k.kind and a.ended_at is null and a.last_at < now() - k.lasts


-- name: forget_erased
delete from anomalies where seller_id = any(array(select seller_id from sellers where state = 'erased'))


-- name: lasting
select kind, name, seller_id, tid, seen, among, expected, deviation, first_at, last_at
from anomalies
where ended_at is null and ($1::bigint is null or seller_id = $1)
order by kind, first_at, name
limit $2


-- name: untold
select kind, name, seller_id, tid, seen, among, expected, deviation, first_at, last_at
from anomalies
where ended_at is null and told_at is null
order by kind, first_at, name
limit $1


-- name: decide
-- One process decides at most once in $4 for a kind: the row of the kind separates them. What is decided counts as
-- notified, because it stays here until Kafka has it.
with decided as (
    insert into anomaly_notices as n (kind, id, body) values ($1, $2, $3::jsonb)
    on conflict (kind) do update
    set id = excluded.id, body = excluded.body, decided_at = now(), published_at = null
    where n.published_at <= now() - $4::interval
    returning kind
), told as (
    update anomalies set told_at = now() where kind = $1 and name = any($5::text[]) and exists (select from decided)
)
select exists (select from decided)


-- name: pending
select kind, id, body::text as body, decided_at from anomaly_notices where published_at is null order by kind


-- name: published
update anomaly_notices set published_at = now() where kind = $1 and id = $2 and published_at is null


-- name: present
-- Of each shop: its orders of a window, how many of them a message brought, and when its first order was placed.
select
    s.seller_id,
    o.orders,
    o.by_messages,
    (select min(f.created) from orders as f where f.seller_id = s.seller_id) as first_order
from unnest($1::bigint[]) as s (seller_id)
cross join lateral (
    select count(*) as orders, count(*) filter (where source = 'push') as by_messages
    from orders
    where seller_id = s.seller_id and created >= $2::timestamptz and created < $3::timestamptz
) as o


-- name: earlier
-- Of each shop: its orders of each of these windows.
select s.seller_id, w.number, o.orders
from unnest($1::bigint[]) as s (seller_id)
cross join unnest($2::timestamptz[], $3::timestamptz[]) with ordinality as w (began, ended, number)
cross join lateral (
    select count(*) as orders
    from orders
    where seller_id = s.seller_id and created >= w.began and created < w.ended
) as o


-- name: unlisted
-- What comparisons since $1 say of orders that lists leave out.
select d.note, count(distinct d.id) as orders, max(d.id) as tid, max(r.began_at) as at
from differences as d
join reports as r on r.id = d.report
where d.report = any(array(select id from reports where began_at > $1)) and d.kind = $2 and d.what = $3
group by d.note


-- name: now
select now()

-- name: request
insert into republications (id, topics, seller_id, tids, per_second, expected) values ($1, $2, $3, $4, $5, $6)


-- name: add_parts
insert into republication_parts (id, topic, partition)
select $1, topic, partition from unnest($2::text[]) as topic, unnest($3::integer[]) as partition


-- name: get
select
    r.id, r.topics, r.seller_id, r.per_second, r.expected, r.requested_at, r.finished_at, r.cancelled_at,
    r.tids is not null as some_orders,
    array(
        select coalesce(sum(p.published), 0)::bigint
        from unnest(r.topics) with ordinality as t (topic, place)
        left join republication_parts as p on p.id = r.id and p.topic = t.topic
        group by t.place
        order by t.place
    ) as published
from republications as r
where r.id = $1


-- name: open
select id from republications where finished_at is null and cancelled_at is null


-- name: next_part
-- What a partition's owner has to do next, of the topics that it knows. The rate is shared by the partitions that have
-- still to do something.
select
    p.id, p.topic, p.partition, p.done_key, r.seller_id, r.tids, r.per_second,
    (
        select count(distinct o.partition)
        from republication_parts as o
        where o.id = p.id and o.finished_at is null
    ) as partitions
from republication_parts as p
join republications as r using (id)
where p.partition = $1
  and p.topic = any($2::text[])
  and p.finished_at is null
  and r.finished_at is null
  and r.cancelled_at is null
order by p.topic
limit 1


-- name: note
-- What two owners have both done counts once.
update republication_parts
set done_key = $4, published = published + $5
where id = $1 and topic = $2 and partition = $3 and done_key < $4


-- name: lock
-- Of two owners who finish the last parts at the same time, the second sees that the first has.
select 1 from republications where id = $1 for update


-- name: finish_part
update republication_parts set finished_at = clock_timestamp()
where id = $1 and topic = $2 and partition = $3 and finished_at is null


-- name: finish
update republications as r
set finished_at = clock_timestamp(), tids = case when tids is not null then '{}'::bigint[] end
where id = $1
  and finished_at is null
  and cancelled_at is null
  and not exists (select from republication_parts as p where p.id = r.id and p.finished_at is null)


-- name: clear_losses
-- What was noticed before all that the tables hold was asked for is mended; a loss since then is not.
delete from topic_losses as l
using republications as r
where r.id = $1
  and r.finished_at is not null
  and r.seller_id is null
  and r.tids is null
  and l.topic = any(r.topics)
  and l.noticed_at < r.requested_at


-- name: cancel
update republications
set cancelled_at = clock_timestamp(), tids = case when tids is not null then '{}'::bigint[] end
where id = $1 and finished_at is null and cancelled_at is null

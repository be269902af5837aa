-- name: save_progress
-- When a topic was made anew, the witness begins anew with it.
insert into witness_progress as w (topic, partition, first_offset, next_offset, topic_id)
select * from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::text[])
on conflict (topic, partition) do update
set
    first_offset = case
        when w.topic_id <> excluded.topic_id then excluded.first_offset
        else w.first_offset
    end,
    next_offset = case
        when w.topic_id <> excluded.topic_id then excluded.next_offset
        else greatest(w.next_offset, excluded.next_offset)
    end,
    topic_id = coalesce(excluded.topic_id, w.topic_id)


-- name: progress
select topic, partition, first_offset, next_offset from witness_progress


-- name: add_finding
insert into witness_findings (topic, partition, record_offset, id, finding) values ($1, $2, $3, $4, $5)
on conflict (topic, partition, record_offset) do nothing


-- name: findings
select topic, partition, record_offset, id, finding
from witness_findings
order by topic, partition, record_offset

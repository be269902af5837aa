-- name: save_progress
insert into witness_progress as w (topic, partition, first_offset, next_offset)
select * from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])
on conflict (topic, partition) do update set next_offset = greatest(w.next_offset, excluded.next_offset)


-- name: progress
select topic, partition, first_offset, next_offset from witness_progress


-- name: add_finding
insert into witness_findings (topic, partition, record_offset, id, finding) values ($1, $2, $3, $4, $5)
on conflict (topic, partition, record_offset) do nothing


-- name: findings
select topic, partition, record_offset, id, finding
from witness_findings
order by topic, partition, record_offset

-- name: save_progress
insert into witness_progress as w (partition, first_offset, next_offset)
select * from unnest($1::int[], $2::bigint[], $3::bigint[])
on conflict (partition) do update set next_offset = greatest(w.next_offset, excluded.next_offset)


-- name: progress
select partition, first_offset, next_offset from witness_progress


-- name: add_finding
insert into witness_findings (partition, record_offset, tid, finding) values ($1, $2, $3, $4)
on conflict (partition, record_offset) do nothing


-- name: findings
select partition, record_offset, tid, finding from witness_findings order by partition, record_offset

-- name: timeline
-- The timeline's number is the beginning of the name of each of its files.
select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer

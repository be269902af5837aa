-- without a transaction
-- By which old rows are found (store/sql/retention.sql). An attempt that was cut short leaves an index that is not
-- valid, and the next one removes it.
drop index concurrently if exists windows_by_age;
create index concurrently windows_by_age on windows (pulled_at);
drop index concurrently if exists gaps_by_end;
create index concurrently gaps_by_end on gaps (closed_at) where closed_at is not null;
-- Whether a gap refers to a connection, also for the foreign key.
drop index concurrently if exists gaps_by_connection;
create index concurrently gaps_by_connection on gaps (connection) where connection is not null;
drop index concurrently if exists replay_jobs_by_end;
create index concurrently replay_jobs_by_end on replay_jobs (finished_at) where finished_at is not null;

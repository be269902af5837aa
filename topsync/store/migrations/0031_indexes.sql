-- without a transaction
-- Built beside live traffic. An attempt that was cut short leaves an index that is not
-- valid, and the next one removes it.
drop index concurrently if exists gaps_by_end;
create index concurrently gaps_by_end on gaps (closed_at) where closed_at is not null;
-- Whether a gap refers to a connection, also for the foreign key.
drop index concurrently if exists gaps_by_connection;
create index concurrently gaps_by_connection on gaps (connection) where connection is not null;
drop index concurrently if exists dead_letter_retries_by_last_mark;
create index concurrently dead_letter_retries_by_last_mark on dead_letter_retries (greatest(retried_at, closed_at));
drop index concurrently if exists dead_letter_retries_by_age;
-- By which waiting orders are found: those of a reason, whatever else waits.
drop index concurrently if exists refetches_by_reason;
create index concurrently refetches_by_reason on refetches (reason, due_at);
-- By which an erasure finds what its writers still have to publish.
drop index concurrently if exists tombstones_by_order;
create index concurrently tombstones_by_order on tombstones (tid);
drop index concurrently if exists tombstones_by_seller;
create index concurrently tombstones_by_seller on tombstones (seller_id);

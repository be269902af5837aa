-- Orders of sellers that are away wait in `refetches` as well, however many and however long. The rounds that
-- ask again look past them: an index for what is due by time, and one for what a returned seller is owed.
alter table refetches
    add column parked boolean not null generated always as (reason in ('no_session', 'session_refused')) stored;
drop index refetches_due;
create index refetches_due on refetches (due_at) where not parked;
create index refetches_parked on refetches (seller_id, occurred_at) where parked;

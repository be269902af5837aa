-- Orders of sellers that are away wait in `refetches` as well, however many and however long. The rounds that
-- ask again look past them: an index for what is due by time, and one for what a returned seller is owed.
alter table refetches
    add column parked boolean not null generated always as (reason in ('no_session', 'session_refused')) stored;
drop index refetches_due;
create index refetches_due on refetches (due_at) where not parked;
create index refetches_parked on refetches (seller_id, occurred_at) where parked;

-- Dead letters that an operator has tried again: by the CloudEvents id, for as long as their topic keeps them.
create table dead_letter_retries (
    event_id    text        primary key,
    retried_at  timestamptz not null default now()      -- database clock
);
create index dead_letter_retries_by_age on dead_letter_retries (retried_at);

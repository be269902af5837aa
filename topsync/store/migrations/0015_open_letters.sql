-- Orders and refunds that have a dead letter, so that none is set aside again for the same reason while nobody has
-- dealt with it. A row is as old as its letter, and goes when the letters' topic has dropped that.
create table open_letters (
    tid         bigint      not null,
    refund_id   bigint      not null,                   -- 0: the order itself
    reason      text        not null,
    event_id    text        not null,                   -- the letter's CloudEvents id
    seller_id   bigint,                                 -- no foreign key: a stray record must not stop a writer
    noted_at    timestamptz not null default now(),     -- database clock
    primary key (tid, refund_id, reason)
);
create index open_letters_by_event on open_letters (event_id);
create index open_letters_by_age on open_letters (noted_at);

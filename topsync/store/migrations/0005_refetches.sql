-- Orders that the platform did not show, or not as promised: asked for again later. One row per order.
create table refetches (
    tid             bigint      primary key,
    seller_id       bigint      not null,            -- no foreign key: a stray record must not stop a writer
    event           text        not null,
    occurred_at     timestamptz not null,
    settled_after   timestamptz not null,            -- only a fetch that begins at or after this answers
    modified        timestamptz,                     -- the order has reached this; null: nobody told
    source          text        not null,
    reason          text        not null,            -- why it is asked for again
    answer          bytea,                           -- the last one that could not be read
    attempts        integer     not null default 0,  -- how often it has been asked for again
    due_at          timestamptz not null             -- database clock
);
create index refetches_due on refetches (due_at);

-- How many export tasks of this bulk start have failed: the next request must differ from theirs.
alter table bootstraps add column failed_exports integer not null default 0;

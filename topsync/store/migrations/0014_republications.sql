-- What is known of the compacted topics, so that it is noticed when one has lost its records; and requests to publish
-- again what the tables hold.

-- Each topic as it was at the last look: when another id, a later beginning or an earlier end is seen, records are lost.
create table compacted_topics (
    topic           text        primary key check (topic in ('orders', 'refunds')),
    topic_id        text,                                -- Kafka's id of the topic; null: the broker has none
    first_offsets   bigint[]    not null,                -- by partition
    end_offsets     bigint[]    not null,
    looks           bigint      not null default 1,      -- of two looks at the same time, one counts
    seen_at         timestamptz not null default now()   -- database clock
);

create table topic_losses (
    topic       text        not null check (topic in ('orders', 'refunds')),
    found_by    text        not null check (found_by in ('enricher', 'witness')),
    reason      text        not null,
    lacking     bigint,                                  -- how many records the topic lacks, where somebody counted
    noticed_at  timestamptz not null default clock_timestamp(),  -- database clock
    primary key (topic, found_by)
);

create table republications (
    id              text        primary key,
    topics          text[]      not null,
    seller_id       bigint      references sellers,      -- null: of all sellers
    tids            bigint[],                            -- null: all orders; emptied when it ends
    per_second      integer     not null check (per_second between 1 and 5000),
    orders          bigint      not null,                -- records to be published, as counted at the request
    refunds         bigint      not null,
    requested_at    timestamptz not null default clock_timestamp(),  -- database clock, like those below
    finished_at     timestamptz,
    cancelled_at    timestamptz
);
create unique index republications_one_at_a_time on republications ((true))
    where finished_at is null and cancelled_at is null;

-- What the owner of each partition of `changes` has done of a republication: its orders, and the refunds of them.
create table republication_parts (
    id          text    not null references republications on delete cascade,
    topic       text    not null check (topic in ('orders', 'refunds')),
    partition   integer not null,
    done_key    bigint  not null default 0,              -- published up to this tid or refund_id
    published   bigint  not null default 0,
    finished_at timestamptz,
    primary key (id, topic, partition)
);
create index republication_parts_open on republication_parts (partition) where finished_at is null;

-- Which topic was read: of one that was made anew, the witness begins at the start.
alter table witness_progress add column topic_id text;

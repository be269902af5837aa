-- What must survive: sellers and sessions, orders, coverage, gaps, replay jobs, exports, push connections.
-- Times named *_at or bounding a span are platform time, in UTC, unless the column says "database clock".

create table sellers (
    seller_id       bigint      primary key,            -- the platform's user id
    nick            text        not null unique,
    session_cipher  bytea       not null,                -- session token, encrypted (topsync/base/vault.py)
    state           text        not null default 'new' check (state in ('new', 'live', 'paused', 'expired')),
    created_at      timestamptz not null default now(),  -- database clock
    updated_at      timestamptz not null default now()   -- database clock
);

create table orders (
    tid                 bigint      primary key,
    seller_id           bigint      not null,            -- no foreign key: a stray record must not stop a writer
    created             timestamptz not null,
    modified            timestamptz not null,
    status              text        not null,
    content_hash        bytea       not null,            -- without receiver fields and oaid
    fetched_at          timestamptz not null,            -- the platform's answer is not older than this
    source              text        not null,
    revision            bigint      not null default 1,  -- counts this order's versions
    published_revision  bigint      not null default 0,
    published_modified  timestamptz,
    trade               jsonb       not null             -- the topic's value
);
create index orders_by_seller_and_creation on orders (seller_id, created);
create index orders_unpublished on orders (tid) where published_revision < revision;

-- Who may write a partition's orders. Taking over raises the epoch; a writer with an older one writes nothing.
create table partition_owners (
    partition   integer     primary key,
    epoch       bigint      not null,
    owner       text        not null,
    taken_at    timestamptz not null default now()       -- database clock
);

-- The coverage ledger: per seller, the time of which every change is proven to be stored and published.
create table coverage (
    seller_id   bigint          primary key references sellers,
    proven      tstzmultirange  not null default '{}'
);

-- One row for each window that was pulled: announced = listed, and what became of it.
create table windows (
    id          bigint      generated always as identity primary key,
    seller_id   bigint      not null references sellers,
    span        tstzrange   not null,
    source      text        not null,
    reason      text,
    pulled_at   timestamptz not null,
    listed      integer     not null,                    -- distinct orders in the window
    hinted      integer     not null,                    -- of these, missing or older here
    proven_to   timestamptz                              -- exclusive; null: nothing of it was proven
);
create index windows_by_seller on windows (seller_id, pulled_at);

-- Connections of the push service, written by it, read by the reconciler.
create table push_connections (
    id              uuid        primary key,
    channel_group   text        not null,
    connected_at    timestamptz not null,
    last_proof_at   timestamptz not null,                -- the last moment at which it provably worked
    lost_at         timestamptz,                         -- when the loss was noticed; null while it is up
    reason          text,
    gap_opened      boolean     not null default false,
    written_at      timestamptz not null default now()   -- database clock; stale means the process is gone
);
create index push_connections_without_gap on push_connections (written_at) where not gap_opened;

create table gaps (
    id          bigint      generated always as identity primary key,
    seller_id   bigint      not null references sellers,
    began       timestamptz not null,                    -- the last proof before the loss
    ended       timestamptz,                             -- the reconnection; null while push is away
    cause       text        not null,
    connection  uuid        references push_connections,
    opened_at   timestamptz not null,
    pulled_at   timestamptz,                             -- last time its windows were pulled
    closed_at   timestamptz,                             -- proven; null while open
    unique (seller_id, connection, began)
);
create index gaps_open on gaps (seller_id) where closed_at is null;

create table replay_jobs (
    id              text        primary key,
    seller_id       bigint      not null references sellers,
    span            tstzrange   not null,
    dry_run         boolean     not null,
    state           text        not null default 'requested'
                    check (state in ('requested', 'running', 'done', 'failed')),
    requested_at    timestamptz not null default now(),  -- database clock
    finished_at     timestamptz,                         -- database clock
    outcome         jsonb
);

-- The bulk start of a seller, and its exports.
create table bootstraps (
    seller_id       bigint      primary key references sellers,
    state           text        not null,
    first_day       date        not null,
    day_zero        date        not null,                -- the day on which the export was asked for
    started_at      timestamptz not null,
    certified_at    timestamptz,
    certificate     jsonb
);

create table exports (
    seller_id       bigint      primary key references bootstraps,
    task_id         bigint      not null,
    created_at      timestamptz not null,                -- the states in the file are not older than this
    adopted         boolean     not null,
    check_code      text,
    file_bytes      bigint,
    lines           integer,                             -- downloaded
    published       integer,                             -- to the topic snapshots
    repaired        integer,                             -- unreadable, hinted by id instead
    refused         integer                              -- no id could be read: dead letters
);

-- What the export listed, to know when all of it is stored.
create table export_rows (
    seller_id   bigint      not null references exports,
    tid         bigint      not null,
    modified    timestamptz,                             -- null: unreadable, only the id is known
    primary key (seller_id, tid)
);

-- Gateway calls by the platform's day.
create table api_calls (
    day     date    not null,
    api     text    not null,
    lane    text    not null,
    outcome text    not null,
    calls   bigint  not null,
    primary key (day, api, lane, outcome)
);

-- What a reader of the topic `orders` that was there from the start has seen.
create table witness_progress (
    partition       integer primary key,
    first_offset    bigint  not null,
    next_offset     bigint  not null
);
create table witness_findings (
    partition       integer not null,
    record_offset   bigint  not null,
    tid             bigint  not null,
    finding         text    not null,
    primary key (partition, record_offset)
);

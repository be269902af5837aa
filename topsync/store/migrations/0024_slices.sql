-- A bulk start in slices, each with a state of its own. The former release goes on with `exports` and `export_rows`
-- where it has begun; a later release takes those two away.

alter table bootstraps
    add column scheme           text,           -- as it was asked for when the slices were cut
    add column listed_because   text,           -- why the past comes from lists although an export was asked for
    add column planned_at       timestamptz;    -- since when the slices are cut; null: not yet

create table export_slices (
    seller_id       bigint      not null references bootstraps,
    number          integer     not null,
    kind            text        not null,
    way             text        not null check (way in ('export', 'list')),
    first_day       date        not null,               -- the platform's days, both included
    last_day        date        not null,
    state           text        not null default 'waiting'
        check (state in ('waiting', 'requested', 'running', 'downloaded', 'loaded', 'stored')),
    expected        integer,                            -- the platform's count when the slices were cut
    failed_tasks    integer     not null default 0,     -- given up by the platform, or of no use
    task_id         bigint,
    created_at      timestamptz,                        -- no state in the file is older than this
    adopted         boolean,
    check_code      text,
    file_bytes      bigint,
    lines           integer     not null default 0,     -- handed over so far
    published       integer     not null default 0,     -- of these, to the topic snapshots
    repaired        integer     not null default 0,     -- hinted by id instead
    refused         integer     not null default 0,     -- no id could be read: dead letters
    objects         integer,                            -- from here on: once it is stored
    counted         integer,
    counted_at      timestamptz,
    missing         integer,
    unlisted        integer,
    failure         text,                               -- what the last run failed on
    primary key (seller_id, number)
);

-- What each slice holds: to know when all of it is stored, and to check a certificate later.
-- There is no foreign key, because it would be checked for each row: rows are added while their slice is locked, and
-- go before it.
create table slice_rows (
    seller_id   bigint      not null,
    slice       integer     not null,
    id          bigint      not null,
    order_id    bigint,                                 -- null: it is an order
    modified    timestamptz,                            -- null: only the id is known
    primary key (seller_id, slice, id)
);

insert into export_slices (
    seller_id, number, kind, way, first_day, last_day, state, failed_tasks, task_id, created_at, adopted, check_code,
    file_bytes, lines, published, repaired, refused
)
select
    b.seller_id, 0, 'order', 'export', b.first_day, b.day_zero - 1,
    case b.state when 'live' then 'stored' when 'subscribed' then 'waiting' else b.state end,
    b.failed_exports, e.task_id, e.created_at, e.adopted, e.check_code, e.file_bytes,
    coalesce(e.lines, 0), coalesce(e.published, 0), coalesce(e.repaired, 0), coalesce(e.refused, 0)
from bootstraps as b
join exports as e using (seller_id)
where b.state <> 'subscribed';

insert into slice_rows (seller_id, slice, id, modified)
select r.seller_id, 0, r.tid, r.modified
from export_rows as r
join export_slices as s using (seller_id);

update bootstraps as b
set scheme = 'three', planned_at = b.started_at, state = case state when 'live' then 'live' else 'subscribed' end
where exists (select from export_slices as s where s.seller_id = b.seller_id);

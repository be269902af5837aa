-- How late the platform's lists show changes, and the visibility allowance that was learnt from it
-- (topsync/model/arrivals.py, topsync/model/learned_allowance.py). Times are the platform's.

-- The allowance that holds beside the setting and the calendar: one row. Who claims shares its lock, and who raises it
-- has it alone: so no claim that rests on less comes in after it was raised.
create table visibility (
    is_only     boolean         primary key default true check (is_only),
    allowance   interval        not null default '0',
    since       timestamptz,    -- when it began to be above zero
    changed_at  timestamptz
);
insert into visibility default values;

-- Each raising and lowering, until its notification is out and for as long as reports are kept.
create table visibility_changes (
    id          bigint          generated always as identity primary key,
    at          timestamptz     not null,
    before      interval        not null,
    allowance   interval        not null,
    -- Of a raising: the late arrival that called for most. An erasure takes seller and object out.
    seller_id   bigint          references sellers,
    lists       text,
    object_id   bigint,
    modified    timestamptz,
    lacked_at   timestamptz,
    shown_at    timestamptz,
    arrivals    integer         not null default 0,     -- how many exceeded what held
    -- What was taken back: claims after this moment that rested on less, of so many sellers.
    taken_from  timestamptz,
    taken_of    integer         not null default 0,
    notified_at timestamptz
);
create index visibility_changes_unnotified on visibility_changes (id) where notified_at is null;
create index visibility_changes_by_age on visibility_changes (at);

-- What the last lists of each seller have shown: what a list shows beyond that, though it changed before, came late.
create table last_lists (
    seller_id   bigint          not null references sellers,
    lists       text            not null,
    starts      timestamptz[]   not null,   -- of the parts, oldest first
    ends        timestamptz[]   not null,
    asked_at    timestamptz[]   not null,
    allowances  interval[]      not null,
    ids         bigint[]        not null,
    modified    timestamptz[]   not null,
    awaited_ids bigint[]        not null,   -- what the table has and the lists lacked
    awaited     timestamptz[]   not null,
    primary key (seller_id, lists)
);

-- The histogram, by the hour of the change: of all sellers and reconcilers.
create table arrivals (
    hour        timestamptz     not null,
    seconds     integer         not null,   -- where the step of the histogram begins
    shown       bigint          not null,   -- changes that a list first showed at this age
    lacked      bigint          not null,   -- changes that a list last lacked at this age
    longest     interval        not null,   -- by how much any of these was surely late
    primary key (hour, seconds)
);

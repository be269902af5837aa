-- The call budget that all processes share (topsync/budget/leases.py). Times are the database clock's.

-- One row for the app and one for each API with a limit of its own.
create table call_budget (
    scope   text            primary key,
    next_at timestamptz     not null default '-infinity',       -- the first place that is free
    lane_at timestamptz[]   not null default array_fill('-infinity'::timestamptz, array[5]),
    day     date            not null default '-infinity',       -- the platform's day that `spent` belongs to
    spent   bigint          not null default 0                  -- calls leased on that day, less those returned
) with (fillfactor = 50);   -- written for every lease: room for a new version on the same page

-- Scopes that the platform has closed. An API may have a ban without having a limit.
create table call_bans (
    scope   text        primary key,
    until   timestamptz not null
);

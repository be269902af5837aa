-- Reconcilers share their work. Each process that is alive has a row, which it renews; each piece of work (the pulls of a
-- seller, a duty) has a lease. The former release knows neither: it works only while it holds its advisory lock alone, and
-- this release only while it shares that lock, so the two never work at the same time.
create table reconcilers (
    id          uuid        primary key,
    name        text        not null,                               -- service, host and process id, for people
    joined_at   timestamptz not null default clock_timestamp(),     -- database clock
    seen_at     timestamptz not null default clock_timestamp()      -- database clock; stale means that it is gone
);

-- The counter goes up whenever the lease is taken, and never goes back: a row is kept when its work has gone.
-- Rows are small and few, and written at the end of each pull: room for that within the page.
create table work_leases (
    kind        text        not null check (kind in ('seller', 'duty')),
    key         text        not null,                   -- the seller's id, or the duty's name
    holder      uuid,                                   -- of `reconcilers`; null, or of no row there: free
    epoch       bigint      not null default 0,
    pulled_at   timestamptz,                            -- platform clock: when the seller's last finished pull began
    primary key (kind, key)
) with (fillfactor = 50);

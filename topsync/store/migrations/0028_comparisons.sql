-- The comparison with the platform: what was compared when, and what differed. All times are the platform's clock,
-- and each night is named by the platform's day (GMT+8) on which its hours begin.

-- How far each day of a seller is. Of orders it is the day of their creation, of their parts that of their change.
create table comparisons (
    seller_id       bigint      not null references sellers,
    kind            text        not null,
    day             date        not null,
    since           date        not null,                -- the first night
    counted_on      date        not null,                -- the last night in which it was compared to its end
    listed_on       date,                                -- the last night in which its ids were compared
    unlisted        integer     not null default 0,      -- ours that the platform's list left out then
    primary key (seller_id, kind, day)
);

create table reports (
    id              text        primary key,
    night           date        unique,                  -- null: an operator's audit
    began_at        timestamptz not null,
    ended_at        timestamptz,                         -- null: under way
    days            integer     not null default 0,      -- days of sellers that were compared
    days_left       integer     not null default 0       -- and that were not
);
create index reports_by_age on reports (began_at);

create table differences (
    report          text        not null references reports on delete cascade,
    kind            text        not null,
    id              bigint      not null,
    tid             bigint      not null,
    seller_id       bigint      not null references sellers,
    day             date        not null,
    what            text        not null,
    note            text        not null,                -- names of fields, or why; no values
    outcome         text        not null,
    primary key (report, kind, id)
);
create index differences_by_seller on differences (seller_id);

-- The sellers that could not be compared, or not wholly.
create table comparison_failures (
    report          text        not null references reports on delete cascade,
    seller_id       bigint      not null references sellers,
    kind            text        not null,
    reason          text        not null,                -- codes; no values
    primary key (report, seller_id, kind)
);
create index comparison_failures_by_seller on comparison_failures (seller_id);

-- How a writer hands versions over, whichever kind they are of: the one parameter of the statement that stores them
-- (store/sql/versions.sql). No table has this type, so a former version goes on without it.
create type version_row as (
    partition        integer,
    key              bigint,
    tid              bigint,      -- the order: the key itself, where it is one
    oid              bigint,      -- the order's line; null where it is of none
    seller_id        bigint,
    created          timestamptz,
    modified         timestamptz,
    platform_version bigint,      -- the platform's own count within a second; null where it has none
    status           text,
    content_hash     bytea,
    fetched_at       timestamptz,
    source           text,
    value            text,        -- JSON, for the table's own column
    step             text         -- JSON
);

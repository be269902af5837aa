-- Erasing a seller: a state that nothing is written in, how far the erasing has come, and the tombstones that
-- the topic does not have yet.
alter table sellers
    drop constraint sellers_state_check,
    add constraint sellers_state_check check (state in ('new', 'live', 'paused', 'expired', 'erased')),
    add constraint sellers_erased_have_no_session
        check (state <> 'erased' or (session_cipher = '' and refresh_cipher is null)),
    -- No order and no refund of this seller that was erased had a higher revision: what comes after begins above.
    add column revision_floor bigint not null default 0;

create table erasures (
    seller_id           bigint      primary key references sellers,
    begun_at            timestamptz not null default now(),  -- database clock
    orders              bigint      not null,                -- with a row of theirs or of a refund when it began
    platform_told_at    timestamptz,                         -- database clock; null: it may still send messages
    finished_at         timestamptz                          -- database clock; null: under way
);

-- What is gone from the table, and still has to be told in the topic: written by the owner of the partition.
create table tombstones (
    kind        text        not null check (kind in ('order', 'refund')),
    id          bigint      not null,            -- an order's tid, a refund's refund_id
    tid         bigint      not null,            -- its partition's owner publishes it
    seller_id   bigint      not null,
    revision    bigint      not null,            -- one above the last one
    erased_at   timestamptz not null,            -- platform time
    primary key (kind, id)
);

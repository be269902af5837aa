-- How a seller's orders are had; null: as the installation's (TOPSYNC_SCHEME). Processes of the former release do not
-- ask: they go on as under scheme three.
alter table sellers
    add column scheme text check (scheme in ('auto', 'three', 'two', 'one')),
    -- We have cancelled the seller's messages, because its scheme is without; until they are permitted again, the
    -- seller is polled.
    add column messages_cancelled boolean not null default false;

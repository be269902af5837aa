-- The life of a seller's session: when it ends, how it is renewed, why the seller stands where it stands.
-- Platform time, unless the column says "database clock".

alter table sellers
    add column session_version      bigint      not null default 1,     -- counts this seller's sessions
    add column session_ends_at      timestamptz,                        -- null: nobody said
    add column authorised_at        timestamptz,                        -- when the platform granted this session
    add column refresh_cipher       bytea,                              -- refresh token, encrypted; null: none
    add column refresh_ends_at      timestamptz,
    add column grant_facts          jsonb       not null default '{}',  -- what else the grant said
    add column refused_at           timestamptz,                        -- database clock; null: the session is good
    add column state_reason         text,
    add column state_since          timestamptz not null default now(), -- database clock
    add column replay_due           boolean     not null default false, -- is back, and not subscribed anew yet
    -- A refresh under way: the claim lapses by time, should its process die. Database clock.
    add column refresh_attempts     integer     not null default 0,     -- without success
    add column refresh_begun_at     timestamptz,                        -- null: no attempt is without an outcome
    add column refresh_not_before   timestamptz not null default '-infinity';

-- Which warnings of a session's end have been given: one for each threshold of each session.
create table session_warnings (
    seller_id       bigint      not null references sellers,
    session_version bigint      not null,
    days            integer     not null,
    given_at        timestamptz not null default now(),  -- database clock
    primary key (seller_id, session_version, days)
);

-- Replays of several sellers and of named orders. A replay is cut into pieces, each of one seller: a span, or some
-- hundred orders. The piece holds how far it came and what came of it, so no row grows with a replay.
--
-- The former release goes on with the replays that it knows, by the view that has its table's name; it neither sees
-- nor begins any other.
alter table replay_jobs rename to replays;
alter table replays
    alter column seller_id drop not null,                   -- null: of several sellers
    alter column span drop not null,                        -- null: of named orders
    add column orders   integer check (orders > 0),         -- how many were named
    add column digest   bytea,                              -- SHA-256 of the named orders: whether another list is the same
    add column named_by text,                               -- what names them otherwise: `dead letter 0/17`
    add column planned  boolean not null default false,     -- all of its pieces are noted
    add constraint replays_ask_for_a_span_or_orders check ((span is null) = (orders is not null)),
    add constraint replays_of_orders_have_a_digest check ((orders is null) = (digest is null));
create index replays_newest on replays (requested_at desc, id);
create index replays_open on replays (requested_at, id) where state in ('requested', 'running');

create view replay_jobs as
select id, seller_id, span, dry_run, state, requested_at, finished_at, outcome, asked_by, starts, cancelled_at
from replays
where seller_id is not null and span is not null;

create table replay_pieces (
    replay      text        not null references replays on delete cascade,
    number      integer     not null,
    seller_id   bigint      not null,                       -- no foreign key: nobody may have added the seller
    tids        bigint[],                                   -- null: the replay's span
    state       text        not null default 'waiting' check (state in ('waiting', 'done', 'failed')),
    outcome     jsonb       not null default '{}',          -- what was found so far
    primary key (replay, number)
);
create index replay_pieces_waiting on replay_pieces (replay, number) where state = 'waiting';
create index replay_pieces_by_seller on replay_pieces (seller_id);

-- The kin of a dead letter: what failed for the same reason.
create index open_letters_by_seller on open_letters (seller_id, reason);

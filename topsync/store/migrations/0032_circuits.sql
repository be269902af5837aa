-- Circuits: how often calls fail, and what follows (topsync/budget/circuit.py). Times are the database clock's.

-- What every process has counted within a second or so, by scope: only added, read for some minutes, then deleted. Not
-- logged: a crash of the server takes evidence of minutes with it, and the next calls bring new.
create unlogged table call_evidence (
    at      timestamptz         not null default clock_timestamp(),
    scope   text collate "C"    not null,       -- grouped by it again and again: bytes compare fast
    calls   integer             not null,
    failed  integer             not null
);

create index call_evidence_at on call_evidence (at);

-- The scopes whose circuit is open, half open, or was closed a short while ago; all others are closed.
create table circuits (
    scope       text collate "C"    primary key,
    state       text                not null,       -- open, half_open, closed
    since       timestamptz         not null,       -- in this state
    opened_at   timestamptz         not null,       -- out of closed
    wait        interval            not null,       -- how long it stays open before the next probes
    calls       integer             not null,       -- what opened it, or closed it at last ...
    failed      integer             not null        -- ... and how many of them failed
);

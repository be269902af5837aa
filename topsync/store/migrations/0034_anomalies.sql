-- Anomalies: what is odd, though nothing has failed for it (topsync/model/anomaly.py). Times are the database clock's.
-- The former release does not know the tables: what it leaves behind when it erases a seller, the judge deletes.

create table anomalies (
    kind        text collate "C"    not null,
    name        text collate "C"    not null,   -- of a code, a field, a type; a shop's id
    seller_id   bigint,                         -- whose it is, or of whom the example is
    tid         bigint,                         -- an example
    seen        bigint              not null,
    among       bigint,
    expected    double precision,               -- what is usual at this hour of the week ...
    deviation   double precision,               -- ... and how far counts usually are from it
    first_at    timestamptz         not null default now(),
    last_at     timestamptz         not null default now(),
    ended_at    timestamptz,                    -- null: it lasts
    told_at     timestamptz,                    -- when it was decided to notify it; null: not yet
    primary key (kind, name)
);

create index anomalies_by_last on anomalies (last_at);

-- The last notification of each kind. Whoever decides to write one puts it here first; so there is one an hour at most,
-- whatever dies, and what was decided is written in the end.
create table anomaly_notices (
    kind            text collate "C"    primary key,
    id              text                not null,   -- of the event
    body            jsonb               not null,
    decided_at      timestamptz         not null default now(),
    published_at    timestamptz                     -- null: Kafka may not have it yet
);

-- Answers with an object in full, of all processes, and how many of them were behind what a list or message had said.
create table detail_hours (
    hour        timestamptz     primary key,
    answers     bigint          not null,
    behind      bigint          not null
);

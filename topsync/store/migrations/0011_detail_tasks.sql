-- Tasks that ask for many orders at once (reference/top-api.md 3.7). A row is written before its request is
-- sent, so that a crash finds the same task again; it goes when its orders have been handed over.
create table detail_tasks (
    id          bigint      generated always as identity primary key,
    seller_id   bigint      not null,
    tids        bigint[]    not null,
    asked_at    timestamptz not null,               -- platform time, before the first request
    failures    integer     not null default 0,     -- the next request must differ from those
    task_id     bigint,                             -- the platform's; null: not known yet
    noted_at    timestamptz not null default now(), -- database clock
    looked_at   timestamptz not null default now()  -- database clock
);
create index refetches_backlog on refetches (seller_id, due_at) where reason = 'backlog';

-- Replays: who asked, how often one was begun without getting further, and whether it is cancelled.
alter table replay_jobs
    add column asked_by     text        check (asked_by in ('operator', 'signal')), -- null: noted by a former version
    add column starts       smallint    not null default 0, -- begun so often since it last got further; a process
                                                            -- that ends in good order takes its own back
    add column cancelled_at timestamptz;                    -- database clock; its outcome follows

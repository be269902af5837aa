-- Orders and refunds that have a dead letter, so that none is set aside again for the same reason while nobody has
-- dealt with it. A row is as old as its letter, and goes when the letters' topic has dropped that.
create table open_letters (
    tid         bigint      not null,
    refund_id   bigint      not null,                   -- 0: the order itself
    reason      text        not null,
    event_id    text        not null,                   -- the letter's CloudEvents id
    seller_id   bigint,                                 -- no foreign key: a stray record must not stop a writer
    noted_at    timestamptz not null default now(),     -- database clock
    primary key (tid, refund_id, reason)
);
create index open_letters_by_event on open_letters (event_id);
create index open_letters_by_age on open_letters (noted_at);

-- Former versions believed a `modified` that lies ahead of time, and it hid every change up to then. No state can be
-- younger than its fetch; six hours leave room for exports, which run some time after they are asked for. What is older
-- than its order now gives way to whatever is fetched next, by a former version's writer as well, and is asked for.
with doubtful as (
    update orders set modified = created where modified - fetched_at > interval '6 hours' returning tid, seller_id
), doubtful_refunds as (
    update refunds set modified = least(created, fetched_at)
    where modified - fetched_at > interval '6 hours'
    returning tid, seller_id, refund_id
), wanted as (
    select tid, seller_id, null::bigint as refund_id from doubtful
    union all
    select tid, seller_id, refund_id from doubtful_refunds
)
insert into refetches (tid, seller_id, event, occurred_at, settled_after, source, reason, due_at, refund_ids)
select
    tid, min(seller_id), 'repaired', now(), now(), 'sweep', 'modified_ahead', now(),
    array_remove(array_agg(refund_id order by refund_id), null)
from wanted
group by tid
on conflict (tid) do nothing;

-- The refunds that wait already, as parts of their orders: the trigger notes them. Locked in the order of `tid`, as
-- whatever changes several rows of this table does.
with held as materialized (
    select tid from refetches where refund_ids <> '{}' order by tid for update
)
update refetches as r set refund_ids = r.refund_ids from held where r.tid = held.tid;

-- Refunds, beside the orders. One row per refund: its newest version, and how much of it is published.
create table refunds (
    refund_id           bigint      primary key,
    tid                 bigint      not null,
    oid                 bigint      not null,
    seller_id           bigint      not null,            -- no foreign key: a stray record must not stop a writer
    created             timestamptz,
    modified            timestamptz not null,
    refund_version      bigint,                          -- the platform's own, within the second of `modified`
    status              text        not null,
    content_hash        bytea       not null,            -- without what masking or the order changes
    fetched_at          timestamptz not null,            -- the platform's answer is not older than this
    source              text        not null,
    revision            bigint      not null default 1,  -- counts this refund's versions
    published_revision  bigint      not null default 0,
    step                jsonb       not null,            -- what the newest version brings beside the one before
    refund              jsonb       not null             -- the topic's value
);
create index refunds_unpublished on refunds (refund_id) where published_revision < revision;
create index refunds_by_order on refunds (tid);
create index refunds_by_seller_and_creation on refunds (seller_id, created);
create index refunds_by_seller_and_change on refunds (seller_id, modified);
create index refunds_by_status on refunds (status, seller_id, modified);
-- Hashed, because a btree refuses rows with a long text, and a refund must not fail for an index.
create index refunds_by_waybill on refunds using hash ((refund ->> 'sid'));

-- Whether what is proven of a seller speaks of refunds as well. A pull that finds it does not, because it was
-- proven by a former version, or while refunds were switched off or refused, lists the refunds of all of it.
alter table coverage add column with_refunds boolean not null default false;

-- What a window listed; only those of orders make up the ledger.
alter table windows add column lists text not null default 'orders' check (lists in ('orders', 'refunds'));

-- The refunds to be asked for again with their order.
alter table refetches add column refund_ids bigint[] not null default '{}';

-- The witness reads more than one topic now. One of the former version fails at this until it is replaced,
-- and begins anew where it stood; nothing rests on it meanwhile.
alter table witness_progress add column topic text not null default 'orders';
alter table witness_progress drop constraint witness_progress_pkey, add primary key (topic, partition);
alter table witness_findings add column topic text not null default 'orders';
alter table witness_findings drop constraint witness_findings_pkey, add primary key (topic, partition, record_offset);
alter table witness_findings rename column tid to id;

create view erp.refunds as
select
    r.refund_id,
    r.tid,
    r.oid,
    r.seller_id,
    r.refund ->> 'seller_nick' as seller_nick,
    r.status,
    r.refund ->> 'order_status' as order_status,
    r.refund ->> 'good_status' as good_status,
    (r.refund ->> 'has_good_return')::boolean as has_good_return,
    r.refund ->> 'refund_phase' as refund_phase,
    r.refund ->> 'dispute_type' as dispute_type,
    r.created,
    r.modified,
    (r.refund ->> 'good_return_time')::timestamptz as good_return_time,
    (r.refund #>> '{refund_remind_timeout,timeout}')::timestamptz as timeout,
    (r.refund ->> 'refund_fee')::numeric as refund_fee,
    (r.refund ->> 'payment')::numeric as payment,
    (r.refund ->> 'total_fee')::numeric as total_fee,
    (r.refund ->> 'num_iid')::bigint as num_iid,
    r.refund ->> 'outer_id' as outer_id,
    r.refund ->> 'title' as title,
    (r.refund ->> 'num')::integer as num,
    (r.refund ->> 'price')::numeric as price,
    r.refund ->> 'reason' as reason,
    r.refund ->> 'desc' as "desc",
    (r.refund ->> 'cs_status')::integer as cs_status,
    (r.refund ->> 'advance_status')::integer as advance_status,
    r.refund ->> 'company_name' as company_name,
    r.refund ->> 'sid' as sid,
    r.refund ->> 'buyer_open_uid' as buyer_open_uid,
    r.refund ->> 'buyer_nick' as buyer_nick,
    r.refund_version,
    r.revision,
    r.fetched_at
from public.refunds as r;

comment on view erp.refunds is 'One row for each refund: its newest state. A line of an order may have had several.';
comment on column erp.refunds.refund_id is 'Id of the refund.';
comment on column erp.refunds.tid is 'Id of the order.';
comment on column erp.refunds.oid is 'Id of the order''s line; equals `tid` where the order has only one.';
comment on column erp.refunds.seller_id is 'The platform''s user id of the seller.';
comment on column erp.refunds.seller_nick is 'The seller''s nick.';
comment on column erp.refunds.status is 'E.g. `WAIT_SELLER_AGREE` (somebody has to answer), `WAIT_BUYER_RETURN_GOODS`, `WAIT_SELLER_CONFIRM_GOODS` (goods are on their way back), `SELLER_REFUSE_BUYER`, `SUCCESS` (the money went back), `CLOSED` (it did not).';
comment on column erp.refunds.order_status is 'The order''s status when the refund last changed; `erp.orders` is newer.';
comment on column erp.refunds.good_status is 'Where the goods were then: `BUYER_NOT_RECEIVED`, `BUYER_RECEIVED`, `BUYER_RETURNED_GOODS`.';
comment on column erp.refunds.has_good_return is 'The goods must go back.';
comment on column erp.refunds.refund_phase is '`onsale`, or `aftersale`: the order was finished before.';
comment on column erp.refunds.dispute_type is 'E.g. `REFUND`, `REFUND_AND_RETURN`, `TMALL_EXCHANGE`, `REPAIR`; new ones appear.';
comment on column erp.refunds.created is 'When the buyer asked for it.';
comment on column erp.refunds.modified is 'When it last changed; whole seconds.';
comment on column erp.refunds.good_return_time is 'When the buyer sent the goods back.';
comment on column erp.refunds.timeout is 'When the platform decides by itself, unless somebody acts before.';
comment on column erp.refunds.refund_fee is 'What the buyer gets back. Like every amount here: yuan.';
comment on column erp.refunds.payment is 'What the seller keeps: `total_fee` less `refund_fee`.';
comment on column erp.refunds.total_fee is 'What the order cost.';
comment on column erp.refunds.num_iid is 'The item.';
comment on column erp.refunds.outer_id is 'The merchant''s own code of the item; may be empty or stale.';
comment on column erp.refunds.title is 'The item''s title.';
comment on column erp.refunds.num is 'How many pieces.';
comment on column erp.refunds.price is 'Of one piece.';
comment on column erp.refunds.reason is 'Why, in the platform''s words.';
comment on column erp.refunds."desc" is 'Why, in the buyer''s words.';
comment on column erp.refunds.cs_status is 'Where the platform''s arbitration stands, 1 to 11; 1: nobody asked for it.';
comment on column erp.refunds.advance_status is 'Whether the platform has paid in advance, 0 to 5; 0: it has not.';
comment on column erp.refunds.company_name is 'Who carries the goods back.';
comment on column erp.refunds.sid is 'The waybill of the goods that go back.';
comment on column erp.refunds.buyer_open_uid is 'The buyer, opaque but stable: the key of a customer.';
comment on column erp.refunds.buyer_nick is 'Masked by the platform.';
comment on column erp.refunds.refund_version is 'The platform''s own count of versions, milliseconds since the epoch.';
comment on column erp.refunds.revision is 'Counts the refund''s versions, as in the topic.';
comment on column erp.refunds.fetched_at is 'The state is not older than this.';

do $$
begin
    if exists (select from pg_roles where rolname = 'topsync_reader') then
        grant select on erp.refunds to topsync_reader;
    end if;
end
$$;

-- What ERP systems read with SQL: typed views over the stored orders, and the indexes that they ask for.
-- Amounts are yuan, times have their zone, receiver fields are masked as the platform sent them.
-- Refunds have no view: they are not stored yet, only each line's latest `refund_status`.

create schema erp;
comment on schema erp is 'Typed views of the orders, for ERP systems. Names are the platform''s.';

create view erp.orders as
select
    o.tid,
    o.seller_id,
    o.trade ->> 'seller_nick' as seller_nick,
    o.trade ->> 'title' as title,
    o.trade ->> 'type' as type,
    o.status,
    o.trade ->> 'step_trade_status' as step_trade_status,
    o.created,
    (o.trade ->> 'pay_time')::timestamptz as pay_time,
    (o.trade ->> 'consign_time')::timestamptz as consign_time,
    (o.trade ->> 'end_time')::timestamptz as end_time,
    (o.trade ->> 'timeout_action_time')::timestamptz as timeout_action_time,
    o.modified,
    o.trade ->> 'buyer_open_uid' as buyer_open_uid,
    o.trade ->> 'buyer_nick' as buyer_nick,
    (o.trade ->> 'payment')::numeric as payment,
    (o.trade ->> 'total_fee')::numeric as total_fee,
    (o.trade ->> 'discount_fee')::numeric as discount_fee,
    (o.trade ->> 'adjust_fee')::numeric as adjust_fee,
    (o.trade ->> 'post_fee')::numeric as post_fee,
    (o.trade ->> 'received_payment')::numeric as received_payment,
    (o.trade ->> 'available_confirm_fee')::numeric as available_confirm_fee,
    (o.trade ->> 'commission_fee')::numeric as commission_fee,
    (o.trade ->> 'cod_fee')::numeric as cod_fee,
    (o.trade ->> 'step_paid_fee')::numeric as step_paid_fee,
    o.trade ->> 'shipping_type' as shipping_type,
    (o.trade ->> 'is_part_consign')::boolean as is_part_consign,
    o.trade ->> 'buyer_message' as buyer_message,
    o.trade ->> 'seller_memo' as seller_memo,
    (o.trade ->> 'seller_flag')::integer as seller_flag,
    o.trade ->> 'receiver_name' as receiver_name,
    o.trade ->> 'receiver_mobile' as receiver_mobile,
    o.trade ->> 'receiver_phone' as receiver_phone,
    o.trade ->> 'receiver_address' as receiver_address,
    o.trade ->> 'receiver_state' as receiver_state,
    o.trade ->> 'receiver_city' as receiver_city,
    o.trade ->> 'receiver_district' as receiver_district,
    o.trade ->> 'receiver_town' as receiver_town,
    o.trade ->> 'receiver_zip' as receiver_zip,
    o.trade ->> 'receiver_country' as receiver_country,
    o.trade ->> 'oaid' as oaid,
    jsonb_path_query_array(o.trade, '$.orders[*].num_iid') as items,
    o.revision,
    o.fetched_at
from public.orders as o;

create view erp.order_lines as
select
    l.oid,
    o.tid,
    o.seller_id,
    o.created,
    (o.trade ->> 'pay_time')::timestamptz as pay_time,
    o.modified,
    o.status as order_status,
    l.status,
    l.refund_status,
    l.refund_id,
    l.num_iid,
    l.sku_id,
    l.sku_properties_name,
    l.outer_iid,
    l.outer_sku_id,
    l.title,
    l.num,
    l.price,
    l.total_fee,
    l.payment,
    l.discount_fee,
    l.adjust_fee,
    l.part_mjz_discount,
    l.divide_order_fee,
    l.consign_time,
    l.end_time,
    l.logistics_company,
    l.invoice_no,
    l.is_oversold,
    l.seller_type,
    jsonb_path_query_array(o.trade, '$.orders[*].num_iid') as items
from public.orders as o
cross join lateral jsonb_to_recordset(o.trade -> 'orders') as l (
    oid bigint,
    status text,
    refund_status text,
    refund_id bigint,
    num_iid bigint,
    sku_id bigint,
    sku_properties_name text,
    outer_iid text,
    outer_sku_id text,
    title text,
    num integer,
    price numeric,
    total_fee numeric,
    payment numeric,
    discount_fee numeric,
    adjust_fee numeric,
    part_mjz_discount numeric,
    divide_order_fee numeric,
    consign_time timestamptz,
    end_time timestamptz,
    logistics_company text,
    invoice_no text,
    is_oversold boolean,
    seller_type text
);

-- A condition on `num_iid` alone would read every order: only `items` has an index.
create function erp.order_lines_of_item(item bigint) returns setof erp.order_lines
language sql stable parallel safe
begin atomic
    select * from erp.order_lines where items @> jsonb_build_array(item::text) and num_iid = item;
end;

comment on view erp.orders is 'One row for each order: its newest state.';
comment on column erp.orders.tid is 'Id of the order.';
comment on column erp.orders.seller_id is 'The platform''s user id of the seller.';
comment on column erp.orders.seller_nick is 'The seller''s nick.';
comment on column erp.orders.title is 'The shop''s name.';
comment on column erp.orders.type is 'E.g. `fixed`, `step` (presale), `cod` (cash on delivery); new ones appear.';
comment on column erp.orders.status is 'E.g. `WAIT_BUYER_PAY`, `WAIT_SELLER_SEND_GOODS` (to be shipped), `WAIT_BUYER_CONFIRM_GOODS` (shipped), `TRADE_FINISHED`, `TRADE_CLOSED` (refunded), `TRADE_CLOSED_BY_TAOBAO` (never paid).';
comment on column erp.orders.step_trade_status is 'Where a presale stands: `status` stays `WAIT_BUYER_PAY` until the rest is paid.';
comment on column erp.orders.created is 'When the order was placed.';
comment on column erp.orders.pay_time is 'When it was paid in full.';
comment on column erp.orders.consign_time is 'When it was shipped, or last shipped in part.';
comment on column erp.orders.end_time is 'When it was finished or closed.';
comment on column erp.orders.timeout_action_time is 'When the platform acts by itself, e.g. confirms the receipt.';
comment on column erp.orders.modified is 'When it last changed; whole seconds.';
comment on column erp.orders.buyer_open_uid is 'The buyer, opaque but stable: the key of a customer.';
comment on column erp.orders.buyer_nick is 'Masked by the platform.';
comment on column erp.orders.payment is 'What the buyer pays, with postage. Like every amount here: yuan.';
comment on column erp.orders.total_fee is 'Sum of price times number over the lines.';
comment on column erp.orders.discount_fee is 'Discounts on the order as a whole.';
comment on column erp.orders.adjust_fee is 'Manual change; 0 where there are several lines.';
comment on column erp.orders.post_fee is 'Postage.';
comment on column erp.orders.received_payment is 'Paid out to the seller so far.';
comment on column erp.orders.available_confirm_fee is 'Paid, but not confirmed by the buyer yet.';
comment on column erp.orders.commission_fee is 'Known after success only.';
comment on column erp.orders.cod_fee is 'Fee for cash on delivery.';
comment on column erp.orders.step_paid_fee is 'Paid of a presale so far.';
comment on column erp.orders.shipping_type is 'E.g. `express`, `virtual`.';
comment on column erp.orders.is_part_consign is 'Several parcels: then the lines say what was shipped when.';
comment on column erp.orders.buyer_message is 'The buyer''s note.';
comment on column erp.orders.seller_memo is 'The seller''s note.';
comment on column erp.orders.seller_flag is 'Colour of the seller''s note, 0 to 5.';
comment on column erp.orders.receiver_name is 'Masked by the platform, as received.';
comment on column erp.orders.receiver_mobile is 'Masked by the platform, as received.';
comment on column erp.orders.receiver_phone is 'Masked by the platform, as received.';
comment on column erp.orders.receiver_address is 'Masked by the platform, as received.';
comment on column erp.orders.receiver_state is 'Province; not masked.';
comment on column erp.orders.receiver_city is 'Not masked; empty for a county-level city, which is in the district.';
comment on column erp.orders.receiver_district is 'Not masked.';
comment on column erp.orders.receiver_town is 'Not masked.';
comment on column erp.orders.receiver_zip is 'Often `000000`.';
comment on column erp.orders.receiver_country is 'Where it is not China.';
comment on column erp.orders.oaid is 'The addressee, opaque; the same for a week at most. No key of a customer.';
comment on column erp.orders.items is 'Ids of the order''s items as JSON texts; the index by item is on this: `items @> ''["700000000001"]''`.';
comment on column erp.orders.revision is 'Counts the order''s versions, as in the topic.';
comment on column erp.orders.fetched_at is 'The state is not older than this.';

comment on view erp.order_lines is 'One row for each line of each order.';
comment on column erp.order_lines.oid is 'Id of the line; equals `tid` where the order has only one.';
comment on column erp.order_lines.tid is 'Id of the order.';
comment on column erp.order_lines.seller_id is 'The platform''s user id of the seller.';
comment on column erp.order_lines.created is 'When the order was placed.';
comment on column erp.order_lines.pay_time is 'When the order was paid in full.';
comment on column erp.order_lines.modified is 'When the order last changed; whole seconds.';
comment on column erp.order_lines.order_status is 'The order''s status.';
comment on column erp.order_lines.status is 'The line''s own status: as the order''s, without the values that speak of parts.';
comment on column erp.order_lines.refund_status is 'Of the latest refund; `NO_REFUND` where there is none, `SUCCESS` where money went back.';
comment on column erp.order_lines.refund_id is 'The latest refund; empty on the platform''s peak days.';
comment on column erp.order_lines.num_iid is 'The item.';
comment on column erp.order_lines.sku_id is 'The variant of the item.';
comment on column erp.order_lines.sku_properties_name is 'The variant in words, e.g. colour and size.';
comment on column erp.order_lines.outer_iid is 'The merchant''s own code of the item; may be empty or stale.';
comment on column erp.order_lines.outer_sku_id is 'The merchant''s own code of the variant; may be empty or stale.';
comment on column erp.order_lines.title is 'The item''s title.';
comment on column erp.order_lines.num is 'How many pieces.';
comment on column erp.order_lines.price is 'Of one piece. Like every amount here: yuan.';
comment on column erp.order_lines.total_fee is 'Price times number, with the line''s adjustment, less the line''s discount.';
comment on column erp.order_lines.payment is 'What the buyer pays for the line; with a single line, the whole order''s.';
comment on column erp.order_lines.discount_fee is 'Discount of the line itself.';
comment on column erp.order_lines.adjust_fee is 'Manual change by the seller.';
comment on column erp.order_lines.part_mjz_discount is 'The line''s share of the order''s discount.';
comment on column erp.order_lines.divide_order_fee is 'What the line really cost after sharing out the order''s discounts: the figure for accounts.';
comment on column erp.order_lines.consign_time is 'When the line was shipped.';
comment on column erp.order_lines.end_time is 'When the line was finished or closed.';
comment on column erp.order_lines.logistics_company is 'Who carries the parcel.';
comment on column erp.order_lines.invoice_no is 'The waybill.';
comment on column erp.order_lines.is_oversold is 'Sold beyond the stock.';
comment on column erp.order_lines.seller_type is '`B` Tmall, `C` Taobao.';
comment on column erp.order_lines.items is 'Ids of the items of the whole order, as JSON texts; `erp.order_lines_of_item` filters by this.';
comment on function erp.order_lines_of_item is 'The lines that sell an item, found by the index on items.';

-- By seller and day: `orders_by_seller_and_creation` is there already.
create index orders_by_status on orders (status, seller_id, created);
-- Hashed, because a btree refuses rows with a long text, and an order must not fail for an index.
create index orders_by_buyer on orders using hash ((trade ->> 'buyer_open_uid'));
create index orders_by_item on orders
    using gin (jsonb_path_query_array(trade, '$.orders[*].num_iid') jsonb_path_ops);

-- Who may read the views, and nothing else: `grant topsync_reader to somebody`. Where the migrating user may
-- not create roles, the views are there all the same; docs/reference/erp.md says what to run by hand.
do $$
begin
    if not exists (select from pg_roles where rolname = 'topsync_reader') then
        create role topsync_reader nologin;
    end if;
exception
    when insufficient_privilege then
        raise warning 'no role topsync_reader: this user may not create roles; see docs/reference/erp.md';
    when duplicate_object or unique_violation then  -- another database of the cluster was quicker
        null;
end
$$;
do $$
begin
    if exists (select from pg_roles where rolname = 'topsync_reader') then
        grant usage on schema erp to topsync_reader;
        grant select on erp.orders, erp.order_lines to topsync_reader;
    end if;
end
$$;

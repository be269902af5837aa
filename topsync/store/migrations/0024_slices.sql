create table export_slices (
    seller_id       bigint      not null,
    number          integer     not null,
    kind            text        not null,
    primary key (seller_id, number)
);

create table slice_rows (
    seller_id       bigint      not null,
    slice           integer     not null,
    id              bigint      not null,
    order_id        bigint      not null,
    modified        timestamptz,
    primary key (seller_id, slice, id)
);

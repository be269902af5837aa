-- The certificates of bulk starts: a row for each start that came to its end. As text, because the signature is over the
-- document as it was written, and jsonb keeps neither its order nor its digits.
create table certificates (
    seller_id       bigint      not null references sellers,
    certified_at    timestamptz not null,
    document        text        not null,
    primary key (seller_id, certified_at)
);

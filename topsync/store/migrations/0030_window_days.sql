-- What windows that are too old to be kept one by one came to, by the platform's day (GMT+8) of `pulled_at`. Whoever
-- deletes a window adds it here in the same transaction (store/sql/retention.sql), so that what was proven, and by what,
-- stays tellable. The former release does not know the table: what it leaves behind when it erases a seller goes by
-- itself.
create table window_days (
    seller_id       bigint          not null references sellers,
    day             date            not null,
    lists           text            not null,
    source          text            not null,
    windows         bigint          not null,
    proving         bigint          not null,   -- of these, how many proved anything
    listed          bigint          not null,
    hinted          bigint          not null,
    pulled          tstzmultirange  not null,   -- all that was listed
    proven          tstzmultirange  not null,   -- of that, what was proven
    first_pulled_at timestamptz     not null,
    last_pulled_at  timestamptz     not null,
    primary key (seller_id, day, lists, source)
);
create index window_days_by_day on window_days (day);

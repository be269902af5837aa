-- name: table_is_current
-- Asked first, since `create` needs the table's lock even where it changes nothing.
select exists (
    select from pg_attribute where attrelid = to_regclass('migrations') and attname = 'checksum' and not attisdropped
)


-- name: create
create table if not exists migrations (
    number      integer     primary key,
    name        text        not null,
    applied_at  timestamptz not null default now()  -- database clock
);
-- Of the file's text, SHA-256 in hexadecimal. Null: a former version applied it, without a checksum.
alter table migrations add column if not exists checksum text


-- name: applied
select number, name, checksum from migrations


-- name: numbers
select number from migrations


-- name: record
insert into migrations (number, name, checksum) values ($1, $2, $3)


-- name: note_checksum
update migrations set checksum = $2 where number = $1 and checksum is null


-- name: wait_for_locks
select set_config('lock_timeout', $1, false)

-- name: create
create table if not exists migrations (
    number      integer     primary key,
    name        text        not null,
    applied_at  timestamptz not null default now()  -- database clock
)


-- name: applied
select number from migrations


-- name: record
insert into migrations (number, name) values ($1, $2)

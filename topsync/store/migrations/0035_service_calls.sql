-- Gateway calls by the platform's day, by the service that made them. Beside `api_calls`, whose key the former release
-- names when it adds to it.
create table service_calls (
    day     date    not null,
    service text    not null,
    lane    text    not null,
    calls   bigint  not null,
    failed  bigint  not null,
    primary key (day, service, lane)
);

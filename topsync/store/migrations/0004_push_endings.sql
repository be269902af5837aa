-- What kind of end a connection to the channel had; `reason` says it in words.
alter table push_connections add column cause text;

-- Where an order that is asked for again goes on: the `traceparent` of the last record about it (docs/traces.md). Null
-- where none is known, as in rows of the former release.
alter table refetches add column traceparent text;

-- A former version still writes it, so it goes with a later one.
comment on column orders.published_modified is 'no longer written: what the topic has is told by published_revision';

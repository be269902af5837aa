-- What the newest version of an order brings beside the version before it (schemas/transitions.py): told to
-- subscribers when it is published. The default is for what the former version of the code still writes.
alter table orders add column step jsonb not null
    default '{"transitions": ["updated"], "status_from": null, "changed": []}';

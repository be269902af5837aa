-- A dead letter is dealt with when an operator has tried it again, or has closed it and said why. The commands of a
-- former version go on: they take a letter that was only closed for an open one.
alter table dead_letter_retries
    alter column retried_at drop not null,
    add column closed_at timestamptz,                   -- database clock
    add column closed_because text,                     -- the operator's words
    add check ((closed_at is null) = (closed_because is null));

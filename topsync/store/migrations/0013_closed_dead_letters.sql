-- A dead letter is dealt with when an operator has tried it again, or has closed it and said why. A command of the
-- former version fails at this until it is replaced; no service reads the table.
alter table dead_letter_retries rename to dead_letter_marks;
alter table dead_letter_marks rename constraint dead_letter_retries_pkey to dead_letter_marks_pkey;
alter table dead_letter_marks
    alter column retried_at drop not null,
    alter column retried_at drop default,
    add column closed_at timestamptz,                   -- database clock
    add column closed_because text,                     -- the operator's words
    add check ((closed_at is null) = (closed_because is null));
drop index dead_letter_retries_by_age;
create index dead_letter_marks_by_age on dead_letter_marks (greatest(retried_at, closed_at));

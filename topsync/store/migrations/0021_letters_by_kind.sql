-- What an open dead letter is about: the kind's word, and its id, which is the tid where it is the order itself. Ids of
-- two kinds of parts may be equal, so the kind is in the key. The former release knows the id of a refund, or 0, and its
-- key; with what has another kind it has nothing to do.
alter table open_letters add column kind text, add column id bigint;
update open_letters
set kind = case refund_id when 0 then 'order' else 'refund' end, id = case refund_id when 0 then tid else refund_id end;

alter table open_letters drop constraint open_letters_pkey;
alter table open_letters alter column refund_id drop not null, add primary key (tid, kind, id, reason);
create unique index open_letters_of_former_release on open_letters (tid, refund_id, reason);

create function open_letters_keep_in_step() returns trigger language plpgsql as $$
begin
    if new.kind is null then
        new.kind := case new.refund_id when 0 then 'order' else 'refund' end;
        new.id := case new.refund_id when 0 then new.tid else new.refund_id end;
    else
        new.refund_id := case new.kind when 'order' then 0 when 'refund' then new.id end;
    end if;
    return new;
end
$$;
create trigger open_letters_keep_in_step before insert on open_letters
    for each row execute function open_letters_keep_in_step();

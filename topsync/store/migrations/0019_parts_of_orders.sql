-- Which kinds there are is said in one place, by the code (`topsync/model/kind.py`): no table knows orders and refunds
-- alone any more. The former release goes on with its own columns, which triggers keep in step with the new ones. A
-- later release takes those columns away (refetches.refund_ids, coverage.with_refunds, republications.orders and
-- .refunds, open_letters.refund_id), and with them the triggers.

alter table tombstones drop constraint tombstones_kind_check;
alter table windows drop constraint windows_lists_check;
alter table compacted_topics drop constraint compacted_topics_topic_check;
alter table topic_losses drop constraint topic_losses_topic_check;
alter table republication_parts drop constraint republication_parts_topic_check;

-- Something that belongs to an order: its kind's word, and its id.
create type order_part as (kind text, id bigint);

-- The parts to be asked for again with their order. They only come, and go with their row.
alter table refetches add column parts order_part[] not null default '{}';

create function refetches_keep_in_step() returns trigger language plpgsql as $$
begin
    new.parts := array(
        select row(kind, id)::order_part
        from (
            select * from unnest(new.parts) union select 'refund', id from unnest(new.refund_ids) as id
        ) as p (kind, id)
        order by kind, id
    );
    new.refund_ids := array(select id from unnest(new.parts) as p (kind, id) where kind = 'refund' order by id);
    return new;
end
$$;
create trigger refetches_keep_in_step before insert or update of parts, refund_ids on refetches
    for each row when (new.parts <> '{}' or new.refund_ids <> '{}') execute function refetches_keep_in_step();

-- Of which kinds of parts the claims about a seller speak as well.
alter table coverage add column parts text[] not null default '{}';
update coverage set parts = '{refund}' where with_refunds;

create function coverage_keep_in_step() returns trigger language plpgsql as $$
begin
    if new.parts <> old.parts then
        new.with_refunds := 'refund' = any(new.parts);
    elsif new.with_refunds <> old.with_refunds then
        new.parts := array_remove(new.parts, 'refund') || case when new.with_refunds then '{refund}' else '{}'::text[] end;
    end if;
    return new;
end
$$;
create trigger coverage_keep_in_step before update of parts, with_refunds on coverage
    for each row execute function coverage_keep_in_step();

-- Records to be published, as counted at the request: for each of `topics`, in the same order. What one release counts,
-- the other does not show.
alter table republications
    add column expected bigint[] not null default '{}',
    alter column orders set default 0,
    alter column refunds set default 0;
update republications
set expected = array(
    select case topic when 'orders' then orders else refunds end
    from unnest(topics) with ordinality as t (topic, place)
    order by place
);

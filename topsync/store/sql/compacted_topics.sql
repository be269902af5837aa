-- name: all
select topic, topic_id, first_offsets, end_offsets, looks from compacted_topics


-- name: first_look
insert into compacted_topics (topic, topic_id, first_offsets, end_offsets) values ($1, $2, $3, $4)
on conflict (topic) do nothing


-- name: next_look
-- No row where somebody else has looked since: this look may be older.
update compacted_topics
set topic_id = $2, first_offsets = $3, end_offsets = $4, looks = looks + 1, seen_at = now()
where topic = $1 and looks = $5


-- name: add_loss
-- The same again is no new loss where it is a state (a topic that is not there, records that are missing).
insert into topic_losses as l (topic, found_by, reason, lacking) values ($1, $2, $3, $4)
on conflict (topic, found_by) do update
set
    reason = excluded.reason,
    lacking = excluded.lacking,
    noticed_at = case
        when excluded.reason = l.reason and excluded.reason in ('gone', 'lacking') then l.noticed_at
        else excluded.noticed_at
    end


-- name: clear_loss
delete from topic_losses where topic = $1 and found_by = $2 and reason = any($3::text[])


-- name: losses
select topic, found_by, reason, lacking, noticed_at from topic_losses order by topic, found_by

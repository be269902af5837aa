-- When the platform and the copy were looked at that a difference's outcome rests on, by the platform's clock: the outcome
-- of an older look never takes the place of a newer one. Null where the former release wrote the row: then it does not count.
alter table differences add column looked_at timestamptz;

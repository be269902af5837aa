-- name: guard
-- Within the second of `modified` the platform's own version decides where both have it and it differs;
-- otherwise the later fetch decides. Decides as `RefundVersion.is_older_than` does.
v.modified < excluded.modified
or (v.modified = excluded.modified and case
       when v.refund_version <> excluded.refund_version then v.refund_version < excluded.refund_version
       else v.fetched_at < excluded.fetched_at
   end)

-- name: processes
-- Our processes by the names of their connections. A process that died has no connection; a proxy
-- that pools connections must hand the name on.
select application_name as name, min(backend_start) as since
from pg_stat_activity
where datname = current_database() and application_name like $1 || '_% _%'
group by application_name
order by application_name

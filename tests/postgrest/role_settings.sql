-- What ALTER ROLE … SET says and anybody may set, the settings for this database last.
select r.rolname as role, s.name, s.value
from pg_db_role_setting as d
inner join pg_roles as r on r.oid = d.setrole
cross join lateral (
    select split_part(u.setting, '=', 1), substr(u.setting, strpos(u.setting, '=') + 1)
    from unnest(d.setconfig) as u (setting)
) as s (name, value)
left join pg_settings as k on lower(k.name) = lower(s.name)
where d.setdatabase in (0, (select oid from pg_database where datname = current_database()))
    and coalesce(k.context, 'user') = 'user'
order by d.setdatabase

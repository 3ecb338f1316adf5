-- The functions of the schemas $1, with what a call must know. Types are named with their schema where pg_catalog does not
-- have them, because this is read with an empty search_path.
select
    n.nspname as schema,
    p.proname as name,
    p.provolatile = 'v' as volatile,
    p.proretset as set,
    case
        when p.prorettype = 'void'::regtype then 'void'
        when p.proargmodes && '{o,b,t}' then 'row'
        when p.prorettype = 'record'::regtype then 'record'
        when coalesce(b.typtype, t.typtype) = 'c' then 'row'
        else 'scalar'
    end as shape,
    coalesce(a.parameters, '[]') as parameters,
    coalesce(c.settings, '{}') as settings
from pg_proc as p
inner join pg_namespace as n on n.oid = p.pronamespace
inner join pg_type as t on t.oid = p.prorettype
left join pg_type as b on b.oid = t.typbasetype
left join lateral (
    select
        json_agg(
            json_build_object(
                'name', coalesce(p.proargnames[u.place], ''),
                'type', format_type(u.type, -1),
                'variadic', coalesce(p.proargmodes[u.place], 'i') = 'v',
                'required', u.input <= p.pronargs - p.pronargdefaults
            ) order by u.place
        ) as parameters
    from (
        select g.type, g.place, row_number() over (order by g.place) as input
        from unnest(coalesce(p.proallargtypes, p.proargtypes::oid [])) with ordinality as g (type, place)
        where coalesce(p.proargmodes[g.place], 'i') in ('i', 'b', 'v')
    ) as u
) as a on true
left join lateral (
    select json_object_agg(split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1)) as settings
    from unnest(p.proconfig) as s (setting)
    where split_part(s.setting, '=', 1) in ('statement_timeout', 'default_transaction_isolation')
) as c on true
where n.nspname = any ($1) and p.prokind = 'f' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
order by n.nspname, p.proname, p.oid

-- Fill a tenant with example records: an object with the arrays pages, profiles, missions, journal and memories, whose
-- elements have the columns of their tables. Times are given as age_days before now; a mission names its profile.
-- Pages are added when their key is new; the rest only to a tenant that has no climate profile yet.
create or replace function seed_tenant(p_tenant_id uuid, p_seed jsonb) returns void language plpgsql as $$
begin
    insert into frontend_configs (tenant_id, page, config)
    select p_tenant_id, r.page, r.config
    from jsonb_to_recordset(p_seed -> 'pages') as r (page text, config jsonb)
    on conflict (tenant_id, page) do nothing;

    if exists (select from climate_profiles as p where p.tenant_id = p_tenant_id) then
        return;
    end if;

    insert into climate_profiles (
        tenant_id, profile_type, name, energy_source, transport_mode, diet_type, location_type, country,
        household_size, estimated_footprint_kg, is_primary
    )
    select p_tenant_id, r.profile_type, r.name, r.energy_source, r.transport_mode, r.diet_type, r.location_type,
        r.country, r.household_size, r.estimated_footprint_kg, coalesce(r.is_primary, false)
    from jsonb_to_recordset(p_seed -> 'profiles') as r (
        profile_type text, name text, energy_source text, transport_mode text, diet_type text, location_type text,
        country text, household_size integer, estimated_footprint_kg numeric, is_primary boolean
    );

    insert into climate_missions (
        tenant_id, profile_id, title, description, category, status, estimated_impact_kgco2, created_at
    )
    select p_tenant_id, p.id, r.title, r.description, r.category, coalesce(r.status, 'planned'),
        r.estimated_impact_kgco2, zora_now() - make_interval(secs => coalesce(r.age_days, 0) * 86400)
    from jsonb_to_recordset(p_seed -> 'missions') as r (
        profile text, title text, description text, category text, status text, estimated_impact_kgco2 numeric,
        age_days double precision
    )
    left join climate_profiles as p on p.tenant_id = p_tenant_id and p.name = r.profile;

    insert into journal_entries (tenant_id, category, event_type, title, body, details, author, created_at)
    select p_tenant_id, r.category, r.event_type, r.title, r.body, coalesce(r.details, '{}'), r.author,
        zora_now() - make_interval(secs => coalesce(r.age_days, 0) * 86400)
    from jsonb_to_recordset(p_seed -> 'journal') as r (
        category text, event_type text, title text, body text, details jsonb, author text, age_days double precision
    )
    order by r.age_days desc;

    insert into memory_events (tenant_id, agent, memory_type, content, tags, metadata, created_at)
    select p_tenant_id, r.agent, r.memory_type, r.content, coalesce(r.tags, '{}'), coalesce(r.metadata, '{}'),
        zora_now() - make_interval(secs => coalesce(r.age_days, 0) * 86400)
    from jsonb_to_recordset(p_seed -> 'memories') as r (
        agent text, memory_type text, content text, tags text [], metadata jsonb, age_days double precision
    )
    order by r.age_days desc;
end
$$;

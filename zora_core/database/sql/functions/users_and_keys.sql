-- Users and their API keys. The owner's connections manage them; the API only asks whether a key is good.

-- The user with this e-mail address, made when new. A role may be given; for a user who exists it must be the same.
create or replace function ensure_user(
    p_tenant_id uuid, p_email text, p_role text default null
) returns setof users language plpgsql as $$
declare
    v_user users;
begin
    if coalesce(p_email, '') !~ '^[^@\s]+@[^@\s]+$' then
        raise exception '% is not an e-mail address', quote_nullable(p_email) using errcode = 'PT400';
    elsif p_role not in ('founder', 'brand_admin', 'member', 'viewer') then
        raise exception 'unknown role % (known: founder, brand_admin, member, viewer)', quote_literal(p_role)
            using errcode = 'PT400';
    end if;
    insert into users (tenant_id, email, role, created_at)
    values (p_tenant_id, lower(p_email), coalesce(p_role, 'member'), zora_now())
    on conflict (tenant_id, email) do nothing;
    select * into v_user from users as u where u.tenant_id = p_tenant_id and u.email = lower(p_email);
    if v_user.role <> p_role then
        raise exception '% has the role %, not %: name no role, or another user', v_user.email, v_user.role, p_role
            using errcode = 'PT409';
    end if;
    return next v_user;
end
$$;

-- The tenant's first founder, made when there is none.
create or replace function ensure_founder(p_tenant_id uuid) returns setof users language plpgsql as $$
begin
    return query
    select * from users as u where u.tenant_id = p_tenant_id and u.role = 'founder' order by u.created_at, u.id limit 1;
    if not found then
        return query select * from ensure_user(p_tenant_id, 'founder@localhost', 'founder');
    end if;
end
$$;

-- The user with this e-mail address, or PT404.
create or replace function find_user(p_tenant_id uuid, p_email text) returns setof users language plpgsql stable as $$
begin
    return query select * from users as u where u.tenant_id = p_tenant_id and u.email = lower(p_email);
    if not found then
        raise exception 'no user %: make one with `zora keys create NAME --user EMAIL --role ROLE`', p_email
            using errcode = 'PT404';
    end if;
end
$$;

-- Keep a key that the caller has made: its prefix and its SHA-256. One that an agent holds names the agent.
create or replace function create_api_key(
    p_tenant_id uuid, p_user_id uuid, p_name text, p_prefix text, p_hash bytea, p_expires_at timestamptz default null,
    p_agent_id text default null
) returns table (
    id uuid, name text, prefix text, email text, role text, agent_id text, created_at timestamptz,
    expires_at timestamptz
) language plpgsql as $$
begin
    if coalesce(length(trim(p_name)), 0) not between 1 and 200 then
        raise exception 'a key needs a name of 1 to 200 characters' using errcode = 'PT400';
    elsif p_expires_at <= zora_now() then
        raise exception 'the key would have expired already, at %', p_expires_at using errcode = 'PT400';
    end if;
    return query
    with made as (
        insert into api_keys as k (tenant_id, user_id, name, prefix, hash, expires_at, agent_id, created_at)
        values (p_tenant_id, p_user_id, trim(p_name), p_prefix, p_hash, p_expires_at, p_agent_id, zora_now())
        returning k.*
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
        )
        select m.tenant_id, 'config_change', 'api_key_created', 'API key created: ' || m.name,
            jsonb_build_object('api_key_id', m.id, 'prefix', m.prefix, 'user_id', m.user_id,
                'agent_id', m.agent_id, 'expires_at', m.expires_at),
            'operator', array[m.id, m.user_id], zora_now()
        from made as m
    )
    select m.id, m.name, m.prefix, u.email, u.role, m.agent_id, m.created_at, m.expires_at
    from made as m
    inner join users as u on u.id = m.user_id;
end
$$;

-- A tenant's keys, newest first, those that no longer work included. The state is told here, by the clock that decides.
create or replace function list_api_keys(
    p_tenant_id uuid
) returns table (
    id uuid, name text, prefix text, email text, role text, agent_id text, created_at timestamptz,
    expires_at timestamptz, revoked_at timestamptz, state text
) language sql stable as $$
    select k.id, k.name, k.prefix, u.email, u.role, k.agent_id, k.created_at, k.expires_at, k.revoked_at,
        case
            when k.revoked_at is not null then 'revoked'
            when k.expires_at <= zora_now() then 'expired'
            else 'works'
        end
    from api_keys as k
    inner join users as u on u.id = k.user_id
    where k.tenant_id = p_tenant_id
    order by k.created_at desc, k.id desc
    limit 1000
$$;

-- Revoke a key by its prefix or id. Processes that know it forget it within a second. Doing it twice is no error.
create or replace function revoke_api_key(
    p_tenant_id uuid, p_key text
) returns table (id uuid, name text, prefix text, revoked_at timestamptz) language plpgsql as $$
declare
    v_key api_keys;
begin
    select * into v_key from api_keys as k
    where k.tenant_id = p_tenant_id and (k.prefix = p_key or k.id::text = lower(p_key))
    for update;
    if not found then
        raise exception 'no API key %: see `zora keys list`', quote_literal(p_key) using errcode = 'PT404';
    end if;
    if v_key.revoked_at is null then
        update api_keys as k set revoked_at = zora_now() where k.id = v_key.id returning * into v_key;
        insert into journal_entries (
            tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
        )
        values (v_key.tenant_id, 'config_change', 'api_key_revoked', 'API key revoked: ' || v_key.name,
            jsonb_build_object('api_key_id', v_key.id, 'prefix', v_key.prefix, 'user_id', v_key.user_id), 'operator',
            array[v_key.id, v_key.user_id], zora_now());
    end if;
    return query select v_key.id, v_key.name, v_key.prefix, v_key.revoked_at;
end
$$;

-- The keys with these prefixes that work now, each with whom it stands for. Runs with the owner's rights, because whose
-- key it is must be known before a tenant can be named; it gives nothing to whoever does not know a prefix, and only a
-- hash to whoever does.
create or replace function working_api_keys(
    p_prefixes text []
) returns table (
    prefix text, hash bytea, tenant_id uuid, user_id uuid, role text, agent_id text
) language sql stable security definer set search_path = public, pg_temp as $$
    select k.prefix, k.hash, k.tenant_id, k.user_id, u.role, k.agent_id
    from api_keys as k
    inner join users as u on u.id = k.user_id
    where k.prefix = any (p_prefixes) and k.revoked_at is null and (k.expires_at is null or k.expires_at > zora_now())
$$;

-- Whether the tenant of this transaction exists: a token's claim names it, and the token may outlive it.
create or replace function has_tenant(p_tenant_id uuid) returns boolean language sql stable as $$
    select exists (select from tenants as t where t.id = p_tenant_id)
$$;

-- After it exists: access.sql comes first in the script.
do $$
begin
    revoke execute on function working_api_keys(text []) from public;
    if exists (select from pg_roles where rolname = 'zora_api') then
        grant execute on function working_api_keys(text []) to zora_api;
    end if;
end
$$;

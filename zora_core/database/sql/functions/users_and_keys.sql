-- Users and their credentials: API keys, sessions of the admin pages, and one-time links to sign in with.

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
    p_agent_id text default null, p_by_user_id uuid default null
) returns table (
    id uuid, name text, prefix text, email text, role text, agent_id text, created_at timestamptz,
    expires_at timestamptz
) language plpgsql as $$
begin
    if coalesce(length(trim(p_name)), 0) not between 1 and 200 then
        raise exception 'a key needs a name of 1 to 200 characters' using errcode = 'PT400';
    elsif p_expires_at <= zora_now() then
        raise exception 'the key would have expired already, at %', p_expires_at using errcode = 'PT400';
    elsif not exists (select from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id) then
        raise exception 'no user %', p_user_id using errcode = 'PT404';
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
            user_name(p_tenant_id, p_by_user_id), array[m.id, m.user_id], zora_now()
        from made as m
    )
    select m.id, m.name, m.prefix, u.email, u.role, m.agent_id, m.created_at, m.expires_at
    from made as m
    inner join users as u on u.id = m.user_id;
end
$$;

-- A tenant's keys, or its sessions, newest first, those that no longer work included. The state is told here, by the
-- clock that decides.
create or replace function list_api_keys(
    p_tenant_id uuid, p_kind text default 'key'
) returns table (
    id uuid, name text, prefix text, email text, role text, agent_id text, created_at timestamptz,
    expires_at timestamptz, revoked_at timestamptz, state text
) language sql stable as $$
    select k.id, k.name, k.prefix, u.email, u.role, k.agent_id, k.created_at, k.expires_at, k.revoked_at,
        case
            when k.revoked_at is not null or m.revoked_at is not null then 'revoked'
            when k.expires_at <= zora_now() or m.expires_at <= zora_now() then 'expired'
            else 'works'
        end
    from api_keys as k
    inner join users as u on u.id = k.user_id
    left join api_keys as m on m.id = k.made_with and m.kind = 'key'
    where k.tenant_id = p_tenant_id and k.kind = p_kind
    order by k.created_at desc, k.id desc
    limit 1000
$$;

-- A tenant's users, by their role and address.
create or replace function list_users(p_tenant_id uuid) returns setof users language sql stable as $$
    select u.*
    from users as u
    where u.tenant_id = p_tenant_id
    order by array_position(array['founder', 'brand_admin', 'member', 'viewer'], u.role), u.email
    limit 1000
$$;

-- Give a user another role. The last founder stays one, so that somebody can undo it.
create or replace function set_user_role(
    p_tenant_id uuid, p_id uuid, p_role text, p_user_id uuid default null
) returns setof users language plpgsql as $$
declare
    v_user users;
begin
    if p_role is null or p_role not in ('founder', 'brand_admin', 'member', 'viewer') then
        raise exception 'unknown role % (known: founder, brand_admin, member, viewer)', quote_nullable(p_role)
            using errcode = 'PT400';
    end if;
    -- All founders, in order: two of them who step down at once must not both be second to last.
    perform from users as u where u.tenant_id = p_tenant_id and (u.role = 'founder' or u.id = p_id) order by u.id for update;
    select * into v_user from users as u where u.tenant_id = p_tenant_id and u.id = p_id;
    if not found then
        raise exception 'no user %', p_id using errcode = 'PT404';
    elsif v_user.role = p_role then
        return next v_user;
        return;
    elsif v_user.role = 'founder'
        and not exists (
            select from users as u where u.tenant_id = p_tenant_id and u.role = 'founder' and u.id <> p_id
        )
    then
        raise exception '% is the only founder: make another user founder first', v_user.email using errcode = 'PT409';
    end if;
    insert into journal_entries (
        tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
    )
    values (p_tenant_id, 'config_change', 'user_role_changed',
        format('%s is %s now, was %s', v_user.email, p_role, v_user.role),
        jsonb_build_object('user_id', p_id, 'before', v_user.role, 'after', p_role),
        user_name(p_tenant_id, p_user_id), array[p_id], zora_now());
    return query update users as u set role = p_role where u.tenant_id = p_tenant_id and u.id = p_id returning u.*;
end
$$;

-- A link with which its user can sign in once; kept like a key, by its SHA-256.
create or replace function create_sign_in_link(
    p_tenant_id uuid, p_user_id uuid, p_prefix text, p_hash bytea, p_seconds integer, p_by_user_id uuid default null
) returns table (id uuid, email text, role text, expires_at timestamptz) language plpgsql as $$
begin
    if p_seconds is null or p_seconds not between 60 and 604800 then
        raise exception 'a link works for a minute to a week, not for % s', p_seconds using errcode = 'PT400';
    elsif not exists (select from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id) then
        raise exception 'no user %', p_user_id using errcode = 'PT404';
    end if;
    return query
    with made as (
        insert into api_keys as k (tenant_id, user_id, name, prefix, hash, kind, expires_at, created_at)
        values (p_tenant_id, p_user_id, 'one-time link', p_prefix, p_hash, 'link',
            zora_now() + make_interval(secs => p_seconds), zora_now())
        returning k.*
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
        )
        select m.tenant_id, 'config_change', 'sign_in_link_created', 'Sign-in link created for ' || u.email,
            jsonb_build_object('api_key_id', m.id, 'prefix', m.prefix, 'user_id', m.user_id, 'expires_at', m.expires_at),
            user_name(p_tenant_id, p_by_user_id), array[m.id, m.user_id], zora_now()
        from made as m
        inner join users as u on u.id = m.user_id
    )
    select m.id, u.email, u.role, m.expires_at
    from made as m
    inner join users as u on u.id = m.user_id;
end
$$;

-- Begin a session with a key or a link that the caller has checked; a link is used up by it, and PT409 when it was
-- already.
create or replace function start_session(
    p_tenant_id uuid, p_made_with text, p_prefix text, p_hash bytea, p_seconds integer
) returns table (id uuid, user_id uuid, expires_at timestamptz) language plpgsql as $$
declare
    v_with api_keys;
begin
    select * into v_with from api_keys as k where k.tenant_id = p_tenant_id and k.prefix = p_made_with for update;
    if not found or v_with.kind = 'session' or v_with.revoked_at is not null or v_with.expires_at <= zora_now() then
        raise exception 'this link was used or has expired' using errcode = 'PT409';
    elsif v_with.kind = 'link' then
        update api_keys as k set revoked_at = zora_now() where k.id = v_with.id;
    end if;
    return query
    with made as (
        insert into api_keys as k (
            tenant_id, user_id, name, prefix, hash, kind, made_with, agent_id, expires_at, created_at
        )
        values (p_tenant_id, v_with.user_id, case v_with.kind when 'key' then v_with.name else 'link' end, p_prefix,
            p_hash, 'session', v_with.id, v_with.agent_id, zora_now() + make_interval(secs => p_seconds), zora_now())
        returning k.*
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
        )
        select m.tenant_id, 'system_event', 'user_signed_in', u.email || ' signed in with a ' || v_with.kind,
            jsonb_build_object('api_key_id', m.id, 'prefix', m.prefix, 'user_id', m.user_id, 'made_with', v_with.prefix),
            u.email, array[m.id, m.user_id], zora_now()
        from made as m
        inner join users as u on u.id = m.user_id
    )
    select m.id, m.user_id, m.expires_at from made as m;
end
$$;

-- Revoke a key by its prefix or id. Processes that know it forget it within a second. Doing it twice is not an error.
create or replace function revoke_api_key(
    p_tenant_id uuid, p_key text, p_by_user_id uuid default null
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
        values (v_key.tenant_id, 'config_change', 'api_key_revoked',
            case v_key.kind when 'key' then 'API key' when 'link' then 'Sign-in link' else 'Session' end
            || ' revoked: ' || v_key.name,
            jsonb_build_object('api_key_id', v_key.id, 'prefix', v_key.prefix, 'user_id', v_key.user_id),
            user_name(p_tenant_id, p_by_user_id), array[v_key.id, v_key.user_id], zora_now());
    end if;
    return query select v_key.id, v_key.name, v_key.prefix, v_key.revoked_at;
end
$$;

-- The credentials with these prefixes that work now, each with whom it stands for; links only when they are asked for,
-- because they open nothing but a session. Runs with the owner's rights, because whose key it is must be known before a
-- tenant can be named; it returns nothing without a known prefix, and otherwise only a hash.
create or replace function working_api_keys(
    p_prefixes text [], p_links boolean default false
) returns table (
    prefix text, hash bytea, kind text, tenant_id uuid, user_id uuid, email text, role text, agent_id text
) language sql stable security definer as $$
    select k.prefix, k.hash, k.kind, k.tenant_id, k.user_id, u.email, u.role, k.agent_id
    from api_keys as k
    inner join users as u on u.id = k.user_id
    left join api_keys as m on m.id = k.made_with and m.kind = 'key'
    where k.prefix = any (p_prefixes) and (k.kind <> 'link' or p_links)
        and k.revoked_at is null and (k.expires_at is null or k.expires_at > zora_now())
        and m.revoked_at is null and (m.expires_at is null or m.expires_at > zora_now())
$$;

-- Whether the tenant of this transaction exists: a token's claim names it, and the token may outlive it.
create or replace function has_tenant(p_tenant_id uuid) returns boolean language sql stable as $$
    select exists (select from tenants as t where t.id = p_tenant_id)
$$;

-- After it exists: access.sql comes first in the script.
do $$
begin
    revoke execute on function working_api_keys(text [], boolean) from public;
    if exists (select from pg_roles where rolname = 'zora_api') then
        grant execute on function working_api_keys(text [], boolean) to zora_api;
    end if;
end
$$;

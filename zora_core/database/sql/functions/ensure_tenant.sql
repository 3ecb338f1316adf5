-- Make sure that a tenant exists; returns whether it was created now, or got this name now: one that was made without a
-- name is called by its id until then. PT409 when another tenant has the slug.
create or replace function ensure_tenant(p_id uuid, p_name text, p_slug text) returns boolean language plpgsql as $$
begin
    insert into tenants (id, name, slug) values (p_id, p_name, p_slug) on conflict do nothing;
    if found then
        return true;
    end if;
    if not exists (select from tenants as t where t.id = p_id) then
        raise exception 'the slug % is that of another tenant', quote_literal(p_slug) using errcode = 'PT409';
    end if;
    begin
        update tenants as t set name = p_name, slug = p_slug
        where t.id = p_id and t.slug = p_id::text and t.name = t.slug and p_slug <> t.slug;
        return found;
    exception
        when unique_violation then
            raise exception 'the slug % is that of another tenant', quote_literal(p_slug) using errcode = 'PT409';
    end;
end
$$;

-- The id of the tenant with this slug or id, or PT404 naming the known slugs.
create or replace function find_tenant(p_tenant text) returns uuid language plpgsql stable as $$
declare
    v_id uuid;
begin
    select t.id into v_id from tenants as t where t.slug = lower(p_tenant) or t.id::text = lower(p_tenant);
    if v_id is null then
        raise exception 'no tenant % (known: %)', quote_literal(p_tenant),
            (select coalesce(string_agg(k.slug, ', '), 'none') from (select slug from tenants order by slug limit 20) as k)
            using errcode = 'PT404';
    end if;
    return v_id;
end
$$;

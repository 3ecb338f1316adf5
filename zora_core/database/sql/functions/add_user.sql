-- Add a user, by a user who may; PT409 when there is one with this e-mail address already. `ensure_user` is for programs:
-- it takes a user who exists as well, and the journal does not tell of it.
create or replace function add_user(
    p_tenant_id uuid, p_email text, p_role text, p_by_user_id uuid default null
) returns setof users language plpgsql as $$
declare
    v_user users;
begin
    select * into v_user from users as u where u.tenant_id = p_tenant_id and u.email = lower(p_email);
    if found then
        raise exception '% is a user already, with the role %', v_user.email, v_user.role using errcode = 'PT409';
    end if;
    select * into v_user from ensure_user(p_tenant_id, p_email, p_role);
    insert into journal_entries (
        tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
    )
    values (p_tenant_id, 'config_change', 'user_added', format('%s is a user now, as %s', v_user.email, v_user.role),
        jsonb_build_object('user_id', v_user.id, 'role', v_user.role), user_name(p_tenant_id, p_by_user_id),
        array[v_user.id], zora_now());
    return next v_user;
end
$$;

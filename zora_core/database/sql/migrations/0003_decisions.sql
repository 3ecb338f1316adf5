-- People decide: what a suggestion would change exactly, who decided, how it is taken back; policies, pauses, schedules.

-- Hexadecimal SHA-256 of a text. As a function of its own because an index or a generated column may only use what
-- never changes, which PostgreSQL does not believe of convert_to before version 18; in UTF-8 databases it is so.
create function text_digest(p_text text) returns text language sql immutable strict parallel safe as $$
    select encode(sha256(convert_to(p_text, 'UTF8')), 'hex')
$$;

-- What an approval is bound to: everything that says what will be done.
create function effect_digest(
    p_suggestion_type text, p_target jsonb, p_value jsonb, p_effect jsonb
) returns text language sql immutable parallel safe as $$
    select text_digest(
        p_suggestion_type || E'\n' || p_target::text || E'\n' || coalesce(p_value::text, '') || E'\n'
        || coalesce(p_effect::text, '')
    )
$$;

-- Whether two proposals are the same.
create function proposal_digest(
    p_agent_id text, p_suggestion_type text, p_target jsonb, p_value jsonb
) returns text language sql immutable parallel safe as $$
    select text_digest(
        p_agent_id || E'\n' || p_suggestion_type || E'\n' || p_target::text || E'\n' || coalesce(p_value::text, '')
    )
$$;

-- Whether two proposals rest on the same. Where in its run a piece was read says nothing of it.
create function evidence_digest(p_evidence jsonb) returns text language sql immutable parallel safe as $$
    select text_digest(coalesce(string_agg(
        case jsonb_typeof(e.piece) when 'object' then e.piece - 'read' else e.piece end::text, ',' order by e.number
    ), ''))
    from jsonb_array_elements(p_evidence) with ordinality as e (piece, number)
$$;

-- effect is what would be done, as apply_effect() takes it; null when there is nothing to apply (plain advice).
-- decided_as says who decided: an e-mail address, user:<id>, operator or policy. inverse takes the effect back.
alter table agent_suggestions
alter column task_id drop not null,
add column findings text [] not null default '{}',
add column effect jsonb,
add column edited_value jsonb,
add column inverse jsonb,
add column decided_as text,
add column applied_at timestamptz,
add column undone_at timestamptz,
add column undone_by uuid references users (id),
add column expires_at timestamptz,
add column remind_at timestamptz,
add column supersedes uuid,
add column superseded_by uuid,
add column effect_digest text not null generated always as (
    effect_digest(suggestion_type, target, suggested_value, effect)
) stored,
add column proposal_digest text not null generated always as (
    proposal_digest(agent_id, suggestion_type, target, suggested_value)
) stored,
add column evidence_digest text not null generated always as (evidence_digest(evidence)) stored;

create index agent_suggestions_status on agent_suggestions (tenant_id, status, id);

create index agent_suggestions_proposal on agent_suggestions (tenant_id, proposal_digest)
where status in ('proposed', 'rejected');

-- What any worker does for all tenants: apply what was approved while paused or by a policy, remind, let expire.
create index agent_suggestions_approved on agent_suggestions (decided_at)
where status = 'approved' and effect is not null;

create index agent_suggestions_deadline on agent_suggestions (expires_at)
where status = 'proposed';

create index agent_suggestions_reminder on agent_suggestions (remind_at)
where status = 'proposed' and remind_at is not null;

-- Whether tasks of a type run without asking, and up to which risk what they suggest is applied without asking (null:
-- nothing is). Without tenant for every tenant that has none of its own; without any policy tasks run and a person is
-- asked about every effect.
create table agent_task_policies (
    id uuid primary key default uuidv7(),
    tenant_id uuid references tenants (id),
    task_type varchar(100) not null,
    auto_execute boolean not null default true,
    max_risk_level text check (max_risk_level in ('low', 'medium', 'high')),
    decide_within_hours integer check (decide_within_hours between 1 and 8760),
    created_at timestamptz not null default now(),
    updated_at timestamptz
);

create unique index agent_task_policies_type on agent_task_policies (
    coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), task_type
);

-- What stands here is not claimed, and nothing that it suggested is applied; agent_id * is the whole tenant.
create table agent_pauses (
    tenant_id uuid not null references tenants (id),
    agent_id text not null default '*' check (
        agent_id in ('*', 'CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM')
    ),
    reason text,
    paused_by uuid references users (id),
    created_at timestamptz not null default now(),
    primary key (tenant_id, agent_id)
);

create table autonomy_schedules (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    name text not null,
    agent_id varchar(50) not null check (agent_id in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM')),
    task_type varchar(100) not null,
    payload jsonb not null default '{}',
    cron text not null,
    timezone text not null default 'UTC',
    enabled boolean not null default true,
    misfire_policy text not null default 'run_once' check (misfire_policy in ('skip', 'run_once', 'catch_up')),
    next_run_at timestamptz,
    last_run_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz,
    unique (tenant_id, name)
);

-- A key that an agent holds: it may do what its user's role allows, but never decide.
alter table api_keys add column agent_id text check (
    agent_id in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM')
);

alter table agent_task_policies enable row level security;
alter table agent_pauses enable row level security;
alter table autonomy_schedules enable row level security;

drop function if exists working_api_keys(text []);
drop function if exists list_api_keys(uuid);
drop function if exists create_api_key(uuid, uuid, text, text, bytea, timestamptz);

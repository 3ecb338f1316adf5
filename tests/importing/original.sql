-- Tables with the names, columns and types of the original system's that an import reads, and some that it passes over.
create type memory_type as enum (
    'decision', 'reflection', 'artifact', 'conversation', 'plan', 'result', 'research', 'design', 'safety_review',
    'climate_data', 'brand_data'
);
create type journal_category as enum (
    'release', 'decision', 'model_update', 'experiment', 'milestone', 'incident', 'config_change', 'agent_action',
    'user_feedback', 'system_event', 'autonomy'
);
create type profile_type as enum ('person', 'brand', 'organization');
create type mission_status as enum ('planned', 'in_progress', 'completed', 'cancelled', 'failed');
create type suggestion_status as enum ('proposed', 'applied', 'rejected');
create type agent_task_status as enum ('pending', 'in_progress', 'completed', 'failed');
create type agent_insight_status as enum ('proposed', 'accepted', 'rejected', 'implemented');

create table tenants (id uuid primary key, name varchar(255) not null, slug varchar(100) unique);
create table memory_events (
    id uuid primary key default gen_random_uuid(), agent varchar(50) not null, memory_type memory_type not null,
    content text not null, tags text [] default '{}', metadata jsonb default '{}', session_id varchar(100),
    created_at timestamptz not null default now(), updated_at timestamptz, tenant_id uuid references tenants (id),
    llm_provider varchar(50), llm_model varchar(100)
);
create table journal_entries (
    id uuid primary key default gen_random_uuid(), category journal_category not null, title varchar(500) not null,
    body text, details jsonb default '{}', related_memory_ids uuid [] default '{}',
    related_entity_ids uuid [] default '{}', author varchar(50), created_at timestamptz not null default now(),
    updated_at timestamptz, tenant_id uuid references tenants (id)
);
create table climate_profiles (
    id uuid primary key default gen_random_uuid(), owner_id varchar(255), profile_type profile_type not null,
    name varchar(255) not null, description text, energy_source varchar(100), transport_mode varchar(100),
    diet_type varchar(100), location_type varchar(100), climate_score integer, estimated_footprint_kg decimal(12, 2),
    metadata jsonb default '{}', created_at timestamptz not null default now(), updated_at timestamptz,
    tenant_id uuid references tenants (id), country varchar(100), city_or_region varchar(255), household_size integer,
    primary_energy_source varchar(100), notes text, scope varchar(50), is_primary boolean default false
);
create table climate_missions (
    id uuid primary key default gen_random_uuid(), profile_id uuid references climate_profiles (id),
    title varchar(500) not null, description text, category varchar(100), status mission_status not null,
    started_at timestamptz, completed_at timestamptz, impact_estimate jsonb default '{}', verified boolean default false,
    verified_by varchar(50), verification_notes text, metadata jsonb default '{}',
    created_at timestamptz not null default now(), updated_at timestamptz, tenant_id uuid references tenants (id),
    estimated_impact_kgco2 numeric(12, 2), due_date date
);
create table agent_suggestions (
    id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants (id),
    agent_id varchar(50) not null, suggestion_type varchar(100) not null default 'frontend_config_change',
    target_page varchar(100), current_config jsonb, suggested_config jsonb not null, diff_summary text,
    status suggestion_status not null default 'proposed', decision_by_user_id uuid, decision_reason text,
    created_at timestamptz not null default now(), updated_at timestamptz
);
create table agent_tasks (
    id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants (id),
    agent_id varchar(50) not null, task_type varchar(100) not null, status agent_task_status not null default 'pending',
    priority integer not null default 0, title varchar(500) not null, description text, payload jsonb default '{}',
    result jsonb, result_summary text, error_message text, started_at timestamptz, completed_at timestamptz,
    created_by_user_id uuid, created_at timestamptz not null default now(), updated_at timestamptz, command_id uuid,
    requires_approval boolean not null default false, approved_by_user_id uuid, approved_at timestamptz,
    rejected_by_user_id uuid, rejected_at timestamptz, decision_reason text
);
create table agent_insights (
    id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants (id),
    created_at timestamptz not null default now(), updated_at timestamptz, agent_id varchar(50) not null,
    source_task_id uuid references agent_tasks (id), category varchar(100) not null, title varchar(500) not null,
    body text, status agent_insight_status not null default 'proposed', related_entity_type varchar(100),
    related_entity_ref varchar(500), impact_estimate_kgco2 numeric, metadata jsonb default '{}'
);
create table agent_task_policies (
    id uuid primary key default gen_random_uuid(), tenant_id uuid references tenants (id),
    task_type varchar(100) not null, auto_execute boolean not null default false, max_risk_level integer,
    description text, created_at timestamptz not null default now(), updated_at timestamptz
);
create table autonomy_schedules (
    id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants (id), profile_id uuid,
    schedule_type varchar(100) not null, frequency varchar(50) not null, cron_hint text,
    enabled boolean not null default true, next_run_at timestamptz not null, last_run_at timestamptz,
    config jsonb default '{}', created_at timestamptz not null default now(), updated_at timestamptz
);
create table workflows (
    id uuid primary key default gen_random_uuid(), tenant_id uuid references tenants (id), key text not null,
    name text not null, description text, category text, is_active boolean not null default true,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);
create table workflow_steps (
    id uuid primary key default gen_random_uuid(), workflow_id uuid not null references workflows (id),
    key text not null, name text not null, description text, step_type text not null, agent_id text, task_type text,
    config jsonb not null default '{}', order_index integer
);
create table workflow_step_edges (
    id uuid primary key default gen_random_uuid(), workflow_id uuid not null references workflows (id),
    from_step_id uuid not null references workflow_steps (id), to_step_id uuid not null references workflow_steps (id),
    condition text
);
create table workflow_runs (
    id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants (id),
    workflow_id uuid not null references workflows (id), status text not null default 'pending'
);

-- Decisions that rest on what the database holds: which tables effects may change, what a proposal is the same as, and
-- which run no longer found it.

-- The owner's tables that a tenant's effects may change besides those of functions/apply_effect.sql; see
-- register_effect_table(). registration is the one that an effect names; identity says which table had the name.
create table effect_tables (
    tenant_id uuid not null references tenants (id),
    name text not null,
    key_column text not null,
    writable text [] not null,
    rests_on text [] not null,
    created_at timestamptz not null default now(),
    registration uuid not null default gen_random_uuid(),
    identity text,
    primary key (tenant_id, name)
);

alter table effect_tables enable row level security;

-- key says which proposals are the same one, in every run: it holds no positions and no counts. subject is what the run
-- examined. Both are digests; null for what is never compared. closed_by_task_id is the run that examined the subject and
-- no longer found it. proposed_as is who proposed it outside of a run. tried_at is when it could last not be applied yet.
-- earlier marks what a run of an earlier version proposed: its key is not the one that the agents give now, until
-- store_agent_suggestion() recognises it.
alter table agent_suggestions
add column key text,
add column subject text,
add column closed_by_task_id uuid,
add column proposed_as text,
add column tried_at timestamptz,
add column earlier boolean not null default false;

update agent_suggestions as s
set key = s.proposal_digest
where s.status in ('proposed', 'approved', 'rejected') and s.suggestion_type <> 'run_task'
    and not exists (
        select from agent_suggestions as o
        where o.tenant_id = s.tenant_id and o.proposal_digest = s.proposal_digest and o.status = 'proposed'
            and s.status = 'proposed' and o.id > s.id
    );

update agent_suggestions as s set earlier = true
where s.status in ('proposed', 'approved', 'rejected') and s.suggestion_type <> 'run_task' and s.task_id is not null;

alter table agent_suggestions
drop column proposal_digest,
drop column evidence_digest;

drop function if exists proposal_digest(text, text, jsonb, jsonb);
drop function if exists evidence_digest(jsonb);

-- Of two runs that propose the same at once, one does.
create unique index agent_suggestions_open on agent_suggestions (tenant_id, key)
where status = 'proposed';

create index agent_suggestions_decided on agent_suggestions (tenant_id, key)
where status in ('approved', 'rejected');

create index agent_suggestions_subject on agent_suggestions (tenant_id, subject)
where status in ('proposed', 'approved');

create index agent_suggestions_earlier on agent_suggestions (tenant_id, agent_id, suggestion_type)
where earlier;

-- What an effect is about is read from the rows; what a proposer said of them is not kept.
update agent_suggestions set current_value = null where effect is not null and current_value is not null;

-- Proposals of earlier versions do not say what they rest on, so that nobody can approve them safely: the next run
-- proposes them anew. What lets a task run, and a place in a page's config, say all already.
with superseded as (
    update agent_suggestions as s
    set status = 'superseded', reason = 'proposed by an earlier version, without what it rests on'
    where s.status = 'proposed' and s.suggestion_type not in ('run_task', 'change_frontend_config', 'create_workflow')
        and s.effect is not null
    returning s.*
)
insert into journal_entries (
    tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids
)
select s.tenant_id, 'decision', 'agent_suggestion_superseded', 'Superseded: ' || s.title, s.reason,
    jsonb_build_object('suggestion_id', s.id, 'suggestion_type', s.suggestion_type, 'status', s.status,
        'effect_digest', s.effect_digest),
    'zora', s.task_id, array_remove(array[s.id, s.task_id], null)
from superseded as s;

-- The example pages named the folder of the installation that made them; others read the same rows.
update frontend_configs
set config = jsonb_set(config, '{path}', to_jsonb('{examples}/site/' || page || '.html'))
where page in ('home', 'climate', 'dashboard') and config ->> 'path' like '/%/examples/site/' || page || '.html';

-- These have other names, arguments or results now.
drop function if exists effect_tables();
drop function if exists check_change(jsonb);
drop function if exists expected_by_change(jsonb);
drop function if exists found_by_change(uuid, jsonb);

-- What was imported from the original system, so that no row of it is ever taken twice: which one it was there, and what
-- became of it here. Kept when the row itself goes, which then stays gone.
create table imported_records (
    tenant_id uuid not null references tenants (id),
    source_table text not null check (length(source_table) between 1 and 100),
    source_id text not null check (length(source_id) between 1 and 200),
    id uuid not null,
    imported_at timestamptz not null default now(),
    primary key (tenant_id, source_table, source_id)
);

-- Only whoever owns the tables imports; the API's role has no rights here.
alter table imported_records enable row level security;

-- It says why a person is asked, now.
drop function if exists ask_to_run(uuid, uuid, text, text, text, jsonb);

-- Answers to calls over HTTP, by the id that the client gave its request; see functions/call_functions.sql.
create table zora_requests (
    id uuid primary key,
    answer jsonb,
    created_at timestamptz not null default now()
);

create index zora_requests_created on zora_requests (created_at);

alter table zora_requests enable row level security;

-- It has another parameter now.
drop function if exists claim_agent_tasks(uuid, text, integer, double precision);

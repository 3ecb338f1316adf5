-- Answers to calls over HTTP, by the id that the client gave its request; see functions/call_functions.sql.
create table answered_requests (
    id uuid primary key,
    answer jsonb,
    created_at timestamptz not null default now()
);

create index answered_requests_created on answered_requests (created_at);

alter table answered_requests enable row level security;

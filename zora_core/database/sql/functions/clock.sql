-- The one clock of the queue: the transaction's time. Inlined by the planner, so it costs nothing. Tests replace this
-- function in their own database and thereby own the time of every session at once.
create or replace function zora_now() returns timestamptz language sql stable
begin atomic
    select now();
end;

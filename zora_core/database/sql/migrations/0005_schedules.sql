-- What a schedule needs besides cron expression and time zone; functions/run_due_schedules.sql says how it is carried
-- out.

-- upcoming holds fire times, computed ahead outside of the database, which reads no cron; handled_until is the time up
-- to which every fire time has been dealt with, and next_run_at the first one after it, null when none is known. They
-- are computed anew at plan_again_at, at once when it is null; problem says why they could not be.
alter table autonomy_schedules
add column title varchar(500),
add column priority integer not null default 0,
add column overlap_policy text not null default 'allow' check (overlap_policy in ('allow', 'skip')),
add column max_catch_up integer not null default 100 check (max_catch_up between 1 and 1000),
add column grace_seconds integer not null default 300 check (grace_seconds between 0 and 3600),
add column upcoming timestamptz [] not null default '{}',
add column handled_until timestamptz not null default now(),
add column plan_again_at timestamptz,
add column problem text,
add column last_task_id uuid,
add column created_by_user_id uuid references users (id),
add check (length(name) between 1 and 200),
add check (task_type <> ''),
add check (jsonb_typeof(payload) = 'object');

-- A fire time that was computed for what the schedule no longer says must not be carried out.
update autonomy_schedules set next_run_at = null;

create index autonomy_schedules_due on autonomy_schedules (next_run_at) where enabled;

create index autonomy_schedules_plan on autonomy_schedules (plan_again_at nulls first) where enabled;

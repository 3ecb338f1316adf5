-- Lists of tasks for people, newest first: each kind (state, agent, type) gives its newest rows, which are merged. It
-- takes the place of the index of the list of everything, which is merged from the kinds as filtered lists are, so that
-- a task's every step writes to as many indexes as before.
create index agent_tasks_newest on agent_tasks (tenant_id, state, agent_id, task_type, id);

drop index agent_tasks_list;

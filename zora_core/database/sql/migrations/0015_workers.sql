-- These return the lease token now: a worker that got its own task back has two runs of one id.
drop function if exists heartbeat_agent_tasks(uuid [], uuid [], double precision, real [], text []);
drop function if exists settle_agent_tasks(
    uuid [], uuid [], text [], text [], jsonb [], text [], text [], double precision []
);

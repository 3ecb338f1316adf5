-- The tests' clock: one row that every session reads. It stands still until a test moves it.
create table test_clock (now timestamptz not null);
insert into test_clock values ('2026-03-02 09:00:00+00');

create or replace function zora_now() returns timestamptz language sql stable as $$
    select c.now from test_clock as c
$$;

-- Which release of ZORA the functions are from, and the digests of those that they replaced, so that a process of an
-- older release recognises a newer database and leaves it alone. See schema.py.
alter table zora_functions
add column release text,
add column replaced text [] not null default '{}';

-- It returns more columns now.
drop function if exists installed_schema();

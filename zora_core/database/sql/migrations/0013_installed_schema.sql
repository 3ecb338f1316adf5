-- Which release of ZORA the functions are from, and the digests of those that they replaced, so that a process of an
-- older release recognises a newer database and leaves it alone. See schema.py. functions are the names of those that it
-- made: one of another name is somebody else's, and a later release does not replace it; see guard.sql.
alter table zora_functions
add column release text,
add column functions text [] not null default '{}',
add column replaced text [] not null default '{}';

-- It returns more columns now.
drop function if exists installed_schema();

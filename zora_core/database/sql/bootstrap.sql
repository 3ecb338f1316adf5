-- What has been applied to this database. Comes first in the script that `zora migrate` runs and `zora schema` prints.
create table if not exists zora_migrations (
    version integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
);

create table if not exists zora_functions (
    only_row boolean primary key default true check (only_row),
    digest text not null,
    applied_at timestamptz not null default now()
);

alter table zora_migrations enable row level security;
alter table zora_functions enable row level security;

-- uuidv7() is built into PostgreSQL 18. For earlier versions the same: 48 bits of Unix time in milliseconds, the version,
-- 12 bits that are a fraction of a millisecond, the variant, and 62 random bits (RFC 9562, sections 5.7 and 6.2,
-- method 3), so that what one transaction appends is in order.
do $bootstrap$
begin
    if to_regprocedure('pg_catalog.uuidv7()') is null then
        create or replace function uuidv7() returns uuid
        language sql volatile set search_path = pg_catalog, pg_temp as $$
            select (
                lpad(to_hex(t.us / 1000), 12, '0') || '7' || lpad(to_hex(t.us % 1000 * 4096 / 1000), 3, '0')
                || right(replace(gen_random_uuid()::text, '-', ''), 16)
            )::uuid
            from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint) as t (us)
        $$;
    end if;
end
$bootstrap$;

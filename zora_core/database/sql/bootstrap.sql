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

-- uuidv7() is built into PostgreSQL 18. For earlier versions: 48 bits of Unix time in milliseconds, then the version
-- and the variant, the rest random (RFC 9562, section 5.7).
do $bootstrap$
begin
    if to_regprocedure('uuidv7()') is null then
        create function uuidv7() returns uuid language sql volatile as $$
            select encode(
                set_byte(
                    overlay(
                        uuid_send(gen_random_uuid())
                        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                        from 1 for 6
                    ),
                    6, 112 + get_byte(uuid_send(gen_random_uuid()), 0) % 16
                ),
                'hex'
            )::uuid
        $$;
    end if;
end
$bootstrap$;

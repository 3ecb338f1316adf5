-- Signing in to the admin pages: sessions and one-time links are credentials like keys, kept in the same table, so that
-- what holds for one (only a hash is kept, it expires, it can be revoked) holds for all.

-- made_with is the key or link that a session began with: when the key works no longer, neither does the session.
alter table api_keys
add column kind text not null default 'key' check (kind in ('key', 'session', 'link')),
add column made_with uuid references api_keys (id) on delete set null,
add check (kind = 'key' or expires_at is not null);

create index api_keys_made_with on api_keys (made_with) where made_with is not null;

drop function if exists working_api_keys(text []);
drop function if exists list_api_keys(uuid);
drop function if exists create_api_key(uuid, uuid, text, text, bytea, timestamptz, text);
drop function if exists revoke_api_key(uuid, text);

-- The journal in sealed blocks, and what it takes to erase a text and keep the proof; see functions/seal_journal.sql.

-- The salt is hashed with an entry's text, and goes with it when the text is erased: what is left, a digest, then tells
-- nobody which of the few names that could have stood there did. Entries that exist get theirs now, by rewriting the
-- table; the trigger that refuses updates is not asked.
alter table journal_entries
    add column salt uuid default gen_random_uuid(),
    add column erased_content bytea check (length(erased_content) = 32),
    add constraint journal_entries_salt_or_erased check ((salt is null) = (erased_content is not null));

-- A block seals up to a thousand entries of a tenant, in the order of their ids. The header is kept as the very text
-- that was signed, which holds number, tenant, public key, the previous header's hash and the end of the chain over the
-- entries. The list of ids (16 bytes each) and digests (32 bytes each) is what that chain was made of: from it, who
-- verifies can name the entry that was changed. As bytes, because a worker carries them unread from one call to another.
create table journal_blocks (
    tenant_id uuid not null,
    number bigint not null check (number >= 0),
    header text not null,
    signature bytea not null check (length(signature) = 64),
    entry_ids bytea not null,
    entry_digests bytea not null,
    primary key (tenant_id, number),
    check (length(entry_ids) > 0 and 2 * length(entry_ids) = length(entry_digests))
);

-- Digests do not compress: do not try.
alter table journal_blocks alter column entry_digests set storage external;

create trigger journal_blocks_append_only
before update or delete on journal_blocks
for each row execute function refuse_journal_change();

create trigger journal_blocks_no_truncate
before truncate on journal_blocks
for each statement execute function refuse_journal_change();

alter table journal_blocks enable row level security;

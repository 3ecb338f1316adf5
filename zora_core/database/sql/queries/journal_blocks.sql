-- Blocks of a tenant from a number on: $1 tenant, $2 first number, $3 how many.
select b.number, b.header, b.signature, b.entry_ids, b.entry_digests
from public.journal_blocks as b
where b.tenant_id = $1 and b.number >= $2
order by b.number
limit $3

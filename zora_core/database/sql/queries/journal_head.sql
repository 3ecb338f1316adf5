-- The last block of a tenant.
select b.number, b.header, b.signature
from public.journal_blocks as b
where b.tenant_id = $1
order by b.number desc
limit 1

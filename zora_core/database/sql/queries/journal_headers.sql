-- The same without their lists.
select b.number, b.header, b.signature
from public.journal_blocks as b
where b.tenant_id = $1 and b.number >= $2
order by b.number
limit $3

-- How many entries a tenant has after an id, and since when: $1 tenant, $2 after this id.
select count(*) as entries, min(j.created_at) as oldest
from public.journal_entries as j
where j.tenant_id = $1 and j.id > $2

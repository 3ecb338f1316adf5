-- Entries of a tenant as their texts are put together for hashing: $1 tenant, $2 after this id, $3 up to and with this
-- id, $4 how many. As text, because that takes a third of the time of sending values and making text of them.
select j.id::text as id, j.tenant_id::text as tenant_id, j.category, j.event_type, j.author, j.task_id::text as task_id,
    to_jsonb(j.related_entity_ids)::text as related_entity_ids,
    coalesce(to_char(j.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), j.created_at::text) as created_at,
    j.salt::text as salt, j.title, j.body, j.details::text as details, encode(j.erased_content, 'hex') as erased_content
from public.journal_entries as j
where j.tenant_id = $1 and j.id > $2 and j.id <= $3
order by j.id
limit $4

-- Refuse JSON that is nested deeper than readers can follow: 100 levels, as in zora_core.storable, of a value that stands
-- p_within levels below p_value.
create or replace function check_json_depth(
    p_value jsonb, p_name text, p_within integer default 0
) returns void language plpgsql immutable as $$
begin
    if jsonb_path_exists(p_value, format('$.**{%s}', 101 + p_within)::jsonpath) then
        raise exception '% is nested deeper than 100 levels: give it a flatter structure', p_name
            using errcode = 'PT400';
    end if;
end
$$;

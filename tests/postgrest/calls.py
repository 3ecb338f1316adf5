"""The statement that calls a function: PostgreSQL reads the arguments from JSON, and makes the JSON of the result."""

from __future__ import annotations

from collections.abc import Collection

from tests.postgrest.schema_cache import Function


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def statement(function: Function, arguments: Collection[str] | None, *, counted: bool) -> str:
    """The call. Its $1 is the arguments as JSON, or, without names, what an unnamed parameter takes.

    With a result, $2 is the offset and $3 the limit, null for none; it gives one row of `body` (the array of the page's
    rows), `first` (the first of them), `page` (how many) and `total` (of the whole result, null unless counted). The
    function is evaluated once.
    """
    name = f"{quoted(function.schema)}.{quoted(function.name)}"
    source = ""
    if arguments is None:
        kind = function.parameters[0].type
        call = f"{name}($1::{'bytea' if kind == 'bytea' else f'text::{kind}'})"
    elif arguments:
        given = [parameter for parameter in function.parameters if parameter.name in arguments]
        columns = ", ".join(f"{quoted(p.name)} {p.type}" for p in given)
        source = f"json_to_record($1::text::json) as _given ({columns})"
        passed = ", ".join(
            f"{'variadic ' if p.variadic else ''}{quoted(p.name)} => _given.{quoted(p.name)}" for p in given
        )
        call = f"{name}({passed})"
    else:
        # Mentions the argument, which has no other type to be known by.
        source = "(select $1::text) as _given"
        call = f"{name}()"
    if function.shape == "void":
        return f"select {call}" + (f" from {source}" if source else "")
    if function.shape == "record":
        everything = f"select {call} as _value" + (f" from {source}" if source else "")
    else:
        joined = f"{source} cross join lateral " if source else ""
        named = "_row" if function.shape == "row" else "_row (_value)"
        everything = f"select _row.* from {joined}{call} as {named}"
    row = "_page" if function.shape == "row" else "_page._value"
    return (
        f"with _everything as materialized ({everything}), "
        "_page as (select * from _everything offset $2::bigint limit $3::bigint), "
        f"_result as (select coalesce(json_agg({row}), '[]') as body, count(*) as page from _page) "
        "select body::text, (body -> 0)::text as first, page, "
        f"{'(select count(*) from _everything)' if counted else 'null::bigint'} as total from _result"
    )

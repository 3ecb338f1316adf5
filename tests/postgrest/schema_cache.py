"""The functions that are known, and which of them a request means. Pages: schema_cache, api/functions, errors."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg

from tests.postgrest.errors import ApiError

_FUNCTIONS = (Path(__file__).parent / "schema_cache.sql").read_text(encoding="utf-8")
_ROLE_SETTINGS = (Path(__file__).parent / "role_settings.sql").read_text(encoding="utf-8")

Shape = Literal["void", "scalar", "row", "record"]

# The types of a single unnamed parameter that takes the whole body, by content type.
UNNAMED: Mapping[str, tuple[str, ...]] = {
    "application/json": ("json", "jsonb"),
    "application/octet-stream": ("bytea",),
    "text/plain": ("text",),
    "text/xml": ("xml",),
}


@dataclass(frozen=True)
class Parameter:
    """An input of a function; its name is empty when it has none."""

    name: str
    type: str
    variadic: bool
    required: bool


@dataclass(frozen=True)
class Function:
    """A function of an exposed schema. A `record` names no columns; a `row` has some, be it a single one."""

    schema: str
    name: str
    volatile: bool
    set: bool
    shape: Shape
    parameters: tuple[Parameter, ...]
    settings: Mapping[str, str]

    def takes(self, names: Collection[str]) -> bool:
        """Whether it can be called with arguments of exactly these names."""
        known = {parameter.name for parameter in self.parameters}
        if "" in known:
            return False
        return known.issuperset(names) and all(p.name in names for p in self.parameters if p.required)

    def takes_whole(self, content_type: str) -> bool:
        """Whether its only parameter, an unnamed one, takes a whole body of this content type."""
        return (
            len(self.parameters) == 1
            and self.parameters[0].name == ""
            and self.parameters[0].type in UNNAMED.get(content_type, ())
        )

    def __str__(self) -> str:
        """Its signature, as PostgREST writes it in PGRST203."""
        return f"{self.schema}.{self.name}({', '.join(f'{p.name} => {p.type}' for p in self.parameters)})"


@dataclass(frozen=True)
class SchemaCache:
    """What was in the catalogue when it was read: functions by schema and name, and the settings of roles."""

    functions: Mapping[tuple[str, str], Sequence[Function]]
    role_settings: Mapping[str, Mapping[str, str]]

    def choose(self, schema: str, name: str, arguments: Collection[str] | None, content_type: str) -> Function:
        """The one function that a request can mean; `arguments` is None for a body that is not a JSON object.

        Raises `ApiError`: PGRST202 (404) when there is none, PGRST203 (300) when there are several.
        """
        overloads = self.functions.get((schema, name), ())
        fitting = [] if arguments is None else [one for one in overloads if one.takes(arguments)]
        # A single unnamed parameter is what is left when no other function fits.
        fitting = fitting or [one for one in overloads if one.takes_whole(content_type)]
        if len(fitting) > 1:
            raise ApiError(
                300,
                "PGRST203",
                f"Could not choose the best candidate function between: {', '.join(map(str, fitting))}",
                hint="Try renaming the parameters or the function itself in the database so function overloading "
                "can be resolved",
            )
        if not fitting:
            asked = f"{schema}.{name}" + (f"({', '.join(arguments)})" if arguments else " without parameters")
            raise ApiError(
                404,
                "PGRST202",
                f"Could not find the function {asked} in the schema cache",
                f"Searched for the function {asked}, but no matches were found in the schema cache.",
            )
        return fitting[0]


async def read(connection: asyncpg.Connection, schemas: Sequence[str]) -> SchemaCache:
    """Read the catalogue, in a transaction of its own."""
    async with connection.transaction(readonly=True):
        await connection.execute("set local search_path = ''")
        rows = await connection.fetch(_FUNCTIONS, list(schemas))
        settings = await connection.fetch(_ROLE_SETTINGS)
    functions: dict[tuple[str, str], list[Function]] = {}
    for row in rows:
        function = Function(
            row["schema"],
            row["name"],
            row["volatile"],
            row["set"],
            row["shape"],
            tuple(Parameter(**parameter) for parameter in json.loads(row["parameters"])),
            json.loads(row["settings"]),
        )
        functions.setdefault((function.schema, function.name), []).append(function)
    roles: dict[str, dict[str, str]] = {}
    for row in settings:
        roles.setdefault(row["role"], {})[row["name"]] = row["value"]
    return SchemaCache(functions, roles)

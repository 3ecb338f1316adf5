"""The client and the database's functions agree: names, parameters, types, defaults and columns."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

import zora_core
from tests.conftest import Zora
from zora_core.client import Client
from zora_core.client.calls import Section

ROOT = Path(zora_core.__file__).parent
CLIENT = sorted((ROOT / "client").glob("*.py"))

# What a SQL type is in Python; an enumeration is text.
TYPES: dict[str, Any] = {
    "bigint": int,
    "boolean": bool,
    "bytea": bytes,
    "character varying": str,
    "date": date,
    "double precision": float,
    "integer": int,
    "numeric": float,
    "real": float,
    "smallint": int,
    "text": str,
    "timestamp with time zone": datetime,
    "uuid": UUID,
}


@dataclass(frozen=True)
class Method:
    """A method of a section, and the function that it calls."""

    section: type[Section]
    name: str
    function: str
    arguments: dict[str, str]
    """What it gives its function: the names of the function's parameters, and the code of what is given."""
    tenant: bool

    @property
    def said(self) -> str:
        return f"{self.section.__name__}.{self.name}"


def methods() -> Iterator[Method]:
    for name, attribute in vars(Client).items():
        if not hasattr(attribute, "func"):
            continue
        section = typing.get_type_hints(attribute.func, vars(__import__(f"zora_core.client.{name}", fromlist=["x"])))[
            "return"
        ]
        tree = ast.parse(inspect.getsource(section))
        for method in ast.walk(tree):
            if not isinstance(method, ast.AsyncFunctionDef):
                continue
            for call in ast.walk(method):
                if function := called(call):
                    assert isinstance(call, ast.Call)
                    arguments = {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg}
                    yield Method(section, method.name, function, arguments, "self._tenant" in ast.unparse(call.func))


def called(node: ast.AST) -> str | None:
    """The function that a call in a section names."""
    if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith(("self._tenant.", "self._everyone.")):
        return None
    return next((a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)), None)


METHODS = list(methods())


@dataclass(frozen=True)
class Function:
    """A function of the database."""

    parameters: dict[str, str]
    defaults: dict[str, str]
    columns: dict[str, str]


@pytest.fixture
async def functions(zora: Zora) -> dict[str, Function]:
    rows = await zora.sql(
        """
        select p.proname, p.proargnames as names, p.proargmodes::text[] as modes, p.pronargs, p.pronargdefaults,
               array(select format_type(t, null)
                       from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality as u (t, n)
                      order by n) as types,
               array(select pg_get_function_arg_default(p.oid, n) from generate_series(1, p.pronargs::int) as n)
                   as defaults,
               array(select a.attname::text || ' ' || format_type(a.atttypid, null)
                       from pg_attribute as a
                      where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) as columns
          from pg_proc as p
          join pg_type as t on t.oid = p.prorettype
         where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
        """
    )
    found = {}
    for row in rows:
        modes = row["modes"] or ["i"] * row["pronargs"]
        named = list(zip(row["names"] or [], row["types"], modes, strict=False))
        given = [(name.removeprefix("p_"), kind) for name, kind, mode in named if mode == "i"]
        columns = {name: kind for name, kind, mode in named if mode in "to"}
        found[row["proname"]] = Function(
            parameters=dict(given),
            defaults={name: d for (name, _), d in zip(given, row["defaults"], strict=True) if d is not None},
            columns=columns or dict(column.split(" ", 1) for column in row["columns"]),
        )
    return found


def test_every_function_is_called_in_one_place() -> None:
    counted = Counter(method.function for method in METHODS)
    assert {name: times for name, times in counted.items() if times > 1} == {}


async def test_methods_give_what_functions_take(functions: dict[str, Function]) -> None:
    wrong = []
    for method in METHODS:
        function = functions.get(method.function)
        if function is None:
            wrong.append(f"{method.said}: there is no function {method.function}")
            continue
        given = set(method.arguments) | ({"tenant_id"} if method.tenant else set())
        if extra := given - set(function.parameters):
            wrong.append(f"{method.said} gives {method.function} what it does not take: {sorted(extra)}")
        if missing := set(function.parameters) - set(function.defaults) - given:
            wrong.append(f"{method.said} does not give {method.function} {sorted(missing)}")
        if left := set(function.parameters) - given - {"tenant_id"}:
            wrong.append(f"{method.said} leaves out {sorted(left)} of {method.function}")
    assert wrong == []


async def test_parameters_have_the_types_and_defaults_of_the_functions(functions: dict[str, Function]) -> None:
    wrong = []
    for method in METHODS:
        function = functions[method.function]
        plain = getattr(method.section, method.name)
        hints = typing.get_type_hints(plain, vars(inspect.getmodule(plain)))
        for name, parameter in inspect.signature(plain).parameters.items():
            if method.arguments.get(name) != name:  # self, or what is made into something else
                continue
            if not takes(hints[name], function.parameters[name]):
                wrong.append(f"{method.said}: {name} is {hints[name]}, in SQL {function.parameters[name]}")
            default = function.defaults.get(name)
            if (parameter.default is inspect.Parameter.empty) != (default is None):
                wrong.append(f"{method.said}: {name} has a default in one of Python and SQL")
            elif default is not None and as_python(default) != parameter.default:
                wrong.append(f"{method.said}: {name} is {parameter.default!r} by default, in SQL {default}")
    assert wrong == []


async def test_records_have_columns_of_their_functions(functions: dict[str, Function]) -> None:
    wrong = []
    for method in METHODS:
        plain = getattr(method.section, method.name)
        hints = typing.get_type_hints(plain, vars(inspect.getmodule(plain)))
        kinds = [hints["return"], *typing.get_args(hints["return"])]
        for record in kinds:
            if not (isinstance(record, type) and issubclass(record, BaseModel)):
                continue
            columns = functions[method.function].columns
            for name, field in record.model_fields.items():
                if name not in columns:
                    if field.is_required():
                        wrong.append(f"{method.said}: {method.function} has no column {name}")
                elif not takes(field.annotation, columns[name]):
                    wrong.append(f"{method.said}: {name} is {field.annotation}, in SQL {columns[name]}")
    assert wrong == []


def takes(hint: Any, sql: str) -> bool:
    """Whether a type of Python stands for a type of SQL."""
    alternatives = [a for a in alternatives_of(hint) if a is not types.NoneType]
    if sql in ("jsonb", "json"):
        return True
    if sql.endswith("[]"):
        if sql == "jsonb[]":
            return all(typing.get_origin(a) in (list, Sequence) for a in alternatives)
        return all(
            typing.get_origin(a) in (list, Sequence) and takes(typing.get_args(a)[0], sql[:-2]) for a in alternatives
        )
    return all(base(a, TYPES.get(sql, str)) for a in alternatives)


def alternatives_of(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def base(hint: Any, wanted: type) -> bool:
    """Whether a type is what SQL gives, a kind of it, or a choice of its values."""
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(value, wanted) for value in typing.get_args(hint))
    return isinstance(hint, type) and issubclass(hint, wanted)


def as_python(default: str) -> Any:
    """What a default of SQL is in Python."""
    text = default.partition("::")[0].strip("()")
    match text:
        case "NULL":
            return None
        case "true" | "false":
            return text == "true"
        case "'{}'" | "'[]'":
            return ()
    return text.strip("'") if text.startswith("'") else float(Decimal(text))

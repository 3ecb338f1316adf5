"""One row of every kind: each table's rows with nothing optional, with everything, and with each value it allows.

What a column may hold is read from the catalogue, so that a value that a later migration allows is tried without a word
here. Rows are inserted past the functions, as an import, an older version or `psql` may leave them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from zora_core.agents.builtin import registry
from zora_core.effects import RUN_TASK, effect_of, suggestion_types
from zora_core.models import Metric, Suggestion
from zora_core.settings import DEFAULT_TENANT_ID

# Tables without a page, a route or a command of their own.
UNSEEN = {
    "agent_task_watchers", "journal_blocks", "tenants", "test_clock", "zora_functions", "zora_migrations",
    "zora_requests",
}  # fmt: skip
TIME = "2026-03-02T08:00:00+00:00"
_LIST = re.compile(r"ANY \(+ARRAY\[(.*?)\]")
_SHAPES: list[Any] = [
    {}, [], None, "text", 7, 1.5, True, [[]], [None, 1, "a", {"b": []}], {"": None, "a": {"b": [1, {"c": "d"}]}},
    {"suggestion_id": 5}, {"suggestion_id": "no id"}, {"page": {"deep": "x"}, "target": ["a"], "html": 5},
]  # fmt: skip
_USERS = [
    "user_id", "created_by", "created_by_user_id", "decided_by", "undone_by", "paused_by", "verified_by",
]  # fmt: skip
# Written by ZORA's own code alone: other shapes than its own cannot be there.
_OURS = {"effect", "inverse", "definition", "reads"}
_EVIDENCE = [
    "a sentence", 5, None, {}, {"kind": "quote", "text": "t", "source": "s"},
    {"kind": "quote", "text": "t", "source": "s", "start": 3, "read": [0]},
    {"kind": "element", "selector": "p", "source": "s"},
    {"kind": "element", "selector": "p", "html": "<p>", "source": "s"}, {"kind": "file", "path": "a.py", "line": 3},
    {"kind": "file", "path": "a.py", "line": 3, "text": "x = 1"}, {"kind": "rows", "table": "agent_tasks", "ids": []},
    {"kind": "rows", "table": "nowhere", "ids": ["x"] * 12}, {"kind": "metric", "name": "m", "value": 1.0, "unit": "g"},
    {"kind": "metric", "name": "m", "value": 2, "unit": "g", "formula": "1 + 1", "source": "s"}, {"kind": "new"},
    {"kind": "quote"}, {"kind": "element"}, {"kind": "file"}, {"kind": "rows"}, {"kind": "metric"},
    {"kind": "metric", "name": 1, "value": "many", "unit": None}, {"kind": "rows", "table": 1, "ids": 5},
]  # fmt: skip
PLAN = {
    "key": "plan", "name": "Plan",
    "steps": [
        {"key": "a", "agent_id": "SAM", "task_type": "review_climate_page", "title": "T", "payload": {}},
        {"key": "b", "agent_id": "CONNOR", "task_type": "gone_type", "title": "U", "depends_on": ["a"]},
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column, and what its table allows there."""

    name: str
    type: str
    required: bool
    allowed: list[str]


class Rows:
    """Inserts rows, and remembers their ids by table."""

    def __init__(
        self, connection: asyncpg.Connection, text: str = "words", tenant_id: UUID = DEFAULT_TENANT_ID
    ) -> None:
        self._connection = connection
        self._text = text
        self._tenant_id = tenant_id
        self._columns: dict[str, list[Column]] = defaultdict(list)
        self._number = 0
        self.ids: dict[str, list[str]] = defaultdict(list)

    async def every_kind(self) -> None:
        """Insert a row of every kind into every table that is shown somewhere."""
        await self._connection.execute("set session_replication_role = replica")
        await self._read_columns()
        user = await self._insert("users", role="founder")
        self._references: dict[str, Any] = dict.fromkeys(_USERS, user)
        self._references["workflow_run_id"] = await self._insert("workflow_runs")
        self._references["task_id"] = self._references["source_task_id"] = await self._insert("agent_tasks")
        for name in ("parent_id", "root_id", "last_task_id", "depends_on"):
            self._references[name] = self._references["task_id"]
        self._references["supersedes"] = await self._insert("agent_suggestions", superseded_by=None, supersedes=None)
        self._references["superseded_by"] = self._references["supersedes"]
        for table in sorted(set(self._columns) - UNSEEN):
            await self._kinds(table)
        await self._suggestions()
        for kind in registry():
            await self._insert("agent_tasks", agent_id=str(kind.agent_id), task_type=kind.name)
            await self._insert("autonomy_schedules", agent_id=str(kind.agent_id), task_type=kind.name)
        await self._connection.execute("set session_replication_role = origin")

    async def _read_columns(self) -> None:
        rows = await self._connection.fetch(
            """
            select c.relname as table, a.attname as name, format_type(a.atttypid, null) as type,
                a.attnotnull and not a.atthasdef as required,
                array(select pg_get_constraintdef(o.oid) from pg_constraint as o
                      where o.conrelid = c.oid and o.contype = 'c' and o.conkey = array[a.attnum]) as checks,
                array(select e.enumlabel from pg_enum as e where e.enumtypid = a.atttypid
                      order by e.enumsortorder) as labels
            from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attgenerated = ''
            order by c.relname, a.attnum
            """
        )
        for row in rows:
            lists = [found[1] for check in row["checks"] if (found := _LIST.search(check))]
            allowed = row["labels"] or [value for text in lists for value in re.findall(r"'([^']*)'", text)]
            self._columns[row["table"]].append(Column(row["name"], row["type"], row["required"], allowed))

    async def _kinds(self, table: str) -> None:
        columns = self._columns[table]
        await self._insert(table, bare=True)
        await self._insert(table)
        for column in columns:
            for value in column.allowed:
                await self._insert(table, **{column.name: value})
        for column in columns:
            if column.type == "jsonb" and column.name not in _OURS | {"evidence"}:
                for shape in _SHAPES:
                    await self._insert(table, refusable=True, **{column.name: shape})

    async def _suggestions(self) -> None:
        memories = self.ids["memory_events"]
        made: dict[str, tuple[Any, Any, Any]] = {
            "create_climate_missions": ({}, None, {"title": self._text, "category": "food", "due_date": TIME}),
            "change_frontend_config": ({"page": "home", "path": ["a"]}, {"value": self._text}, {"value": {"b": [1]}}),
            "merge_memories": (
                {"keep": memories[0], "ids": memories[1:3]},
                {memories[0]: {"tags": [self._text]}},
                {"keep": memories[0], "archive": memories[1:3], "tags": [self._text]},
            ),
            "archive_memories": ({"ids": memories[:2]}, None, {"archive": memories[:2]}),
            "create_workflow": ({"key": "plan"}, None, PLAN),
            "change_schedule": ({"id": self.ids["autonomy_schedules"][0]}, {"cron": self._text}, {"enabled": False}),
        }
        names = {kind.name for kind in suggestion_types()}
        assert names <= set(made), "give an example of the new type of suggestion"
        statuses = next(c.allowed for c in self._columns["agent_suggestions"] if c.name == "status")
        for name in sorted(names):
            target, current, value = made[name]
            suggestion = Suggestion(
                suggestion_type=name, title="t", target=target, current_value=current, suggested_value=value,
                evidence=[Metric(name="m", value=1, unit="g")],
            )  # fmt: skip
            stored = {"suggestion_type": name, "target": target, "current_value": current, "suggested_value": value}
            for status in statuses:
                await self._insert("agent_suggestions", **stored, effect=effect_of(suggestion), status=status)
            await self._insert("agent_suggestions", **{**stored, "suggested_value": [1]}, effect=effect_of(suggestion))
        release = {"changes": [{"op": "release_task", "id": self._references["task_id"], "payload": {"a": 1}}]}
        for kind in (RUN_TASK, "advice", "a_type_that_is_gone"):
            effect = release if kind == RUN_TASK else None
            for status in statuses:
                await self._insert("agent_suggestions", suggestion_type=kind, effect=effect, status=status)
        for piece in _EVIDENCE:
            await self._insert("agent_suggestions", suggestion_type="advice", effect=None, evidence=[piece])
            finding = {"id": "f", "title": self._text, "severity": "high", "evidence": [piece]}
            await self._insert("agent_tasks", result={"findings": [finding], "data": {"x": self._text}, "sources": []})

    async def _insert(self, table: str, *, bare: bool = False, refusable: bool = False, **given: Any) -> str:
        """Insert a row, with `bare` only its required columns. A `refusable` one may fail a check of its table."""
        row: dict[str, Any] = {"tenant_id": str(self._tenant_id)}
        for column in self._columns[table]:
            if column.name not in row and (column.required or not bare):
                row[column.name] = self._value(table, column)
        row.update(_SPECIAL.get(table, {}) if not bare else {})
        row.update(given)
        if "definition" in row:
            row["definition"] = given.get("definition", PLAN)
        if table == "agent_tasks":
            self._settle(row, given)
        if table == "api_keys" and not bare:
            row["expires_at"] = "2999-01-01T00:00:00Z"
        known = {column.name for column in self._columns[table]}
        row = {name: value for name, value in row.items() if name in known}
        names = ", ".join(row)
        insert = (
            f"insert into {table} ({names}) select {names} from jsonb_populate_record(null::{table}, $1::jsonb) "
            "on conflict do nothing returning to_jsonb(" + table + ") ->> 'id'"
        )
        try:
            found = await self._connection.fetchval(insert, json.dumps(row))
        except asyncpg.IntegrityConstraintViolationError:
            if not refusable:
                raise
            return ""
        if found:
            self.ids[table].append(found)
        return found or ""

    def _value(self, table: str, column: Column) -> Any:
        """A value of this column that its table takes, another one each time."""
        self._number += 1
        if column.allowed:
            return column.allowed[0]
        if column.name in getattr(self, "_references", {}):
            return self._references[column.name]
        if column.type == "uuid" and column.name.endswith("_task_id"):
            return self._references["task_id"]
        match column.type:
            case "uuid":
                return f"0190c2a0-0000-7000-8000-{self._number:012x}"
            case "text" | "character varying":
                return f"{self._text} {self._number}"[:50]
            case "boolean":
                return True
            case "jsonb":
                return [self._text] if column.name in ("evidence", "reads") else {self._text: self._text}
            case "bytea":
                return "\\x" + "00" * 32
            case "timestamp with time zone":
                return TIME
            case "text[]":
                return [self._text]
            case "uuid[]" | "timestamp with time zone[]":
                return []
            case _:
                return 1

    @staticmethod
    def _settle(row: dict[str, Any], given: dict[str, Any]) -> None:
        """Let status, wait and failure of a task fit one another, around what was asked for."""
        if "failure_kind" in given:
            row["status"] = "failed"
        elif "waiting_for" in given:
            row["status"] = "pending"
        if row.get("status") != "failed":
            row["failure_kind"] = None
        elif row.get("failure_kind") is None:
            row["failure_kind"] = "error"
        if row.get("status", "pending") != "pending" or "waiting_for" not in given:
            row["waiting_for"] = None
        if row.get("status") == "in_progress":
            row["lease_token"], row["lease_expires_at"] = "0190c2a0-0000-7000-8000-00000000aaaa", "2999-01-01T00:00:00Z"


_SPECIAL: dict[str, dict[str, Any]] = {
    "agent_suggestions": {"effect": None, "inverse": None},
    "autonomy_schedules": {"cron": "0 6 * * *", "timezone": "Europe/Berlin"},
    "journal_entries": {"erased_content": None},
}

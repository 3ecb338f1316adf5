"""Suggestions as shown for a decision: their effect in words, and each change compared with the current row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from zora_core.admin.diffs import Change, Row, Shown, changes_of
from zora_core.admin.site import Visit
from zora_core.effects import describe
from zora_core.errors import DataRejected, InvalidInput

MAX_LISTED = 6_000  # characters of changes that a list shows; what has more is approved on its own page


async def shown_suggestions(visit: Visit, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stored suggestions with `what` (a sentence), `changes`, `long` and `problem`.

    `changes` are what each would find now, and makes of it, whole. What is `long` is not approved in a list. `problem`
    is why one cannot be approved at all; it does not hold up the others.
    """
    return await asyncio.gather(*(_shown(visit, row) for row in rows))


async def _shown(visit: Visit, row: dict[str, Any]) -> dict[str, Any]:
    problem = None
    preview: list[dict[str, Any]] = []
    # What is decided has been compared already, and changed what it was compared with.
    if row["effect"] is not None and row["status"] == "proposed":
        try:
            preview = await visit.call("preview_agent_suggestion", id=row["id"])
        except (InvalidInput, DataRejected) as error:
            problem = str(error)
    try:
        changes = changes_of(row["effect"], preview)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of no form that we know
        problem = problem or f"its effect cannot be read ({type(error).__name__}: {error})"
        whole = Row("effect", None, None, Shown(json.dumps(row["effect"], ensure_ascii=False, indent=2)), [])
        changes = [Change("Changes that cannot be read", "not compared", [whole])]
    size = sum(len(change.note) + sum(_length(line) for line in change.rows) for change in changes)
    return {**row, "what": describe(row), "changes": changes, "long": size > MAX_LISTED, "problem": problem}


def _length(line: Row) -> int:
    return 50 + sum(len(value.text) for value in (line.before, line.now, line.after) if value is not None)

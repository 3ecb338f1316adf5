"""Suggestions as whoever decides sees them: what they do in words, and change by change against what is there."""

from __future__ import annotations

import asyncio
from typing import Any

from zora_core.admin.diffs import changes_of
from zora_core.admin.site import Visit
from zora_core.effects import describe
from zora_core.errors import ZoraError


async def shown_suggestions(visit: Visit, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stored suggestions with `what` (a sentence) and `changes`: what each would find there now, and makes of it."""
    previews = await asyncio.gather(*(_preview(visit, row) for row in rows))
    return [
        {**row, "what": _what(row), "changes": changes_of(row["effect"], preview, row["current_value"])}
        for row, preview in zip(rows, previews, strict=True)
    ]


async def _preview(visit: Visit, row: dict[str, Any]) -> list[dict[str, Any]]:
    """What is decided has been compared already, and changed what it was compared with."""
    if row["effect"] is None or row["status"] != "proposed":
        return []
    return await visit.call("preview_agent_suggestion", id=row["id"])


def _what(row: dict[str, Any]) -> str:
    try:
        return describe(row)
    except (ZoraError, ValueError):  # of a type, or with a value, that this version no longer knows
        return "What it does is listed change by change."

"""Stored JSON in the shape that templates need: an import or another program may have written any other."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from zora_core.models import Evidence, Finding, Source

_EVIDENCE: TypeAdapter[Any] = TypeAdapter(Evidence)


def as_object(value: Any) -> dict[str, Any]:
    """A JSON object as it is; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A JSON array as it is; an empty one for anything else."""
    return value if isinstance(value, list) else []


def as_id(value: Any) -> str | None:
    """A UUID's text; None for anything else."""
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def pieces_of(evidence: Any) -> list[Any]:
    """Pieces of evidence: objects of a known kind with all their fields, and the text of everything else.

    `read` holds the positions among the result's sources that it was found in.
    """
    return [_piece(piece) for piece in as_list(evidence)]


def _piece(piece: Any) -> Any:
    try:
        known = _EVIDENCE.validate_python(_bare(piece)).model_dump()
        return {**known, "read": [at for at in as_list(piece.get("read")) if isinstance(at, int) and at >= 0]}
    except ValidationError:
        return piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)


def _bare(stored: Any) -> Any:
    """A stored finding or piece of evidence without what settling adds: its id, and where the evidence was read."""
    return {name: value for name, value in as_object(stored).items() if name not in ("id", "read")}


def findings_of(result: Any) -> list[dict[str, Any]]:
    """The findings of a task's result that have every field; pages show the whole result as JSON besides."""
    found = []
    for stored in as_list(as_object(result).get("findings")):
        try:
            evidence = [_bare(piece) for piece in as_list(as_object(stored).get("evidence"))]
            finding = Finding.model_validate({**_bare(stored), "evidence": evidence})
        except ValidationError:
            continue
        shown = {"evidence": pieces_of(stored["evidence"]), "id": str(stored.get("id") or finding.id)}
        found.append({**finding.model_dump(), **shown})
    return found


def sources_of(result: Any) -> list[dict[str, Any] | None]:
    """What a task's result says was read, by position; None in the place of what has another form."""
    found: list[dict[str, Any] | None] = []
    for stored in as_list(as_object(result).get("sources")):
        try:
            found.append(Source.model_validate(stored).model_dump())
        except ValidationError:
            found.append(None)
    return found


def suggestions_of(result: Any) -> list[dict[str, Any]]:
    """The suggestions of a task's result: their title, evidence, and the ids of the findings that they follow from."""
    return [
        {
            "suggestion_type": str(stored.get("suggestion_type", "")),
            "title": str(stored.get("title", "")),
            "evidence": pieces_of(stored.get("evidence")),
            "findings": [name for name in as_list(stored.get("findings")) if isinstance(name, str)],
        }
        for stored in map(as_object, as_list(as_object(result).get("suggestions")))
    ]

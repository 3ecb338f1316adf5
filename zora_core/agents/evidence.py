"""From a handler's result to what is stored: each finding with its id, each piece of evidence with where it stands.

What a result claims to rest on is looked up in what the run has read. A result of which that is not true is refused as
a whole: nothing tells which of its other findings would be right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zora_core.agents.ledger import Ledger, NotRead
from zora_core.effects import effect_of
from zora_core.errors import FalseEvidence
from zora_core.models import Evidence, Finding, Suggestion, TaskResult
from zora_core.secrets import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RESULT_BYTES = 5_000_000
PROBLEMS_SHOWN = 3
IDS_SHOWN = 12
# Left out of what is stored while they say nothing.
_OFTEN_UNSET = frozenset({"masked", "source"})
_ADVICE = (
    "Evidence must stand literally in what the handler reads through ctx: quote without trimming or rewording, "
    "and register a text made from a source with ctx.derive."
)


def chain(result: TaskResult, ledger: Ledger) -> dict[str, Any]:
    """A result as it is stored in `agent_tasks.result`: suggestion, finding, evidence, source.

    Each piece of evidence gets `read`, the positions in `sources` of what it was found in, and each suggestion the ids
    of its findings. Findings that say the same get a number in their id. Raises `FalseEvidence` naming the findings and
    suggestions that rest on something not read.
    """
    links = _Links(ledger, result.findings)
    stored = {
        "findings": [links.finding(*named) for named in zip(links.ids, result.findings, strict=True)],
        "suggestions": [links.suggestion(suggestion) for suggestion in result.suggestions],
        "sources": [source.model_dump(mode="json") for source in ledger.sources],
        "result": masked(result.result),
        **({"examined": result.examined} if result.examined else {}),  # not stored: see keep_agent_suggestions()
    }
    if links.problems:
        more = len(links.problems) - PROBLEMS_SHOWN
        named = [*links.problems[:PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise FalseEvidence(f"{'; '.join(named)}. {_ADVICE}")
    return stored


def pieces(result: TaskResult) -> Iterator[Evidence]:
    """All evidence of a result."""
    for finding in result.findings:
        yield from finding.evidence
    for suggestion in result.suggestions:
        yield from suggestion.evidence


def select(findings: Sequence[Finding], suggestions: Iterable[Suggestion], limit: int) -> list[Finding]:
    """The first `limit` findings, in their order; those that suggestions name take the place of the last others."""
    if len(findings) <= limit:
        return list(findings)
    named = {identifier for suggestion in suggestions for identifier in suggestion.findings}
    # Of findings that say the same, the first.
    first = {finding.id: position for position, finding in reversed(list(enumerate(findings))) if finding.id in named}
    rest = (position for position, finding in enumerate(findings) if first.get(finding.id) != position)
    chosen = sorted([*first.values(), *rest][: max(limit, len(first))])
    return [findings[position] for position in chosen]


def masked(value: Any) -> Any:
    """A value of JSON with the credentials in each of its strings masked.

    Files are masked when they are read, but a credential may come together only afterwards: HTML splits words by
    comments and writes letters as references.
    """
    if isinstance(value, str):
        return without_credentials(value)
    if value is None or isinstance(value, (int, float)):  # before the abstract class, which takes long to look at
        return value
    if isinstance(value, (dict, Mapping)):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner) for inner in value]
    return value


class _Links:
    """Looks evidence up, each piece once: findings often share a quote."""

    def __init__(self, ledger: Ledger, findings: Sequence[Finding]) -> None:
        self.problems: list[str] = []
        self._ledger = ledger
        self._found: dict[int, dict[str, Any]] = {}
        self._ids: dict[str, list[str]] = {}
        self.ids: list[str] = []
        for finding in findings:
            alike = self._ids.setdefault(finding.id, [])
            stored = f"{finding.id}-{len(alike) + 1}" if alike else finding.id
            alike.append(stored)
            self.ids.append(stored)
            self._ids.setdefault(finding.rule_id, []).append(stored)

    def finding(self, identifier: str, finding: Finding) -> dict[str, Any]:
        name = f"finding {finding.rule_id} ({finding.title})"
        return {
            "id": identifier,
            **_masked_in(finding.model_dump(mode="json", exclude={"evidence", "key"}), ("title", "detail")),
            "evidence": self._evidence(name, finding.evidence),
        }

    def suggestion(self, suggestion: Suggestion) -> dict[str, Any]:
        name = f"suggestion {suggestion.suggestion_type} ({suggestion.title})"
        # What an effect writes stays as it is: people see it before they approve it.
        shown = ("title", "body", *(("current_value", "suggested_value") if effect_of(suggestion) is None else ()))
        return {
            **_masked_in(suggestion.model_dump(mode="json", exclude={"evidence", "findings"}), shown),
            "findings": self._named(name, suggestion.findings),
            "evidence": self._evidence(name, suggestion.evidence),
        }

    def _named(self, name: str, findings: Collection[str]) -> list[str]:
        unknown = [wanted for wanted in findings if wanted not in self._ids]
        if unknown:
            known = ", ".join(list(self._ids)[:IDS_SHOWN]) or "none"
            self.problems.append(f"{name} follows from {unknown[0]!r}, no finding of this result (known: {known})")
        return list(dict.fromkeys(found for wanted in findings for found in self._ids.get(wanted, ())))

    def _evidence(self, name: str, pieces: Sequence[Evidence]) -> list[dict[str, Any]]:
        return [self._piece(name, piece) for piece in pieces]

    def _piece(self, name: str, piece: Evidence) -> dict[str, Any]:
        key = id(piece)
        if key not in self._found:
            try:
                read = self._ledger.find(piece)
            except NotRead as problem:
                read = []
                self.problems.append(f"{name}: {problem}")
            said = _masked_in(plain := piece.model_dump(mode="json"), ("text", "html"))
            if "masked" in said:
                said["masked"] = said["masked"] or said != plain
            self._found[key] = {
                **{n: value for n, value in said.items() if n not in _OFTEN_UNSET or value},
                "read": read,
            }
        return self._found[key]


def _masked_in(fields: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return fields | {name: masked(fields[name]) for name in names if name in fields}

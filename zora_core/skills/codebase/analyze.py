"""The whole analysis of a directory: every check, the figures, and what changed since the last run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zora_core.models import FileLine, Finding, Metric, Severity
from zora_core.secrets import find_secrets
from zora_core.skills.codebase.compare import Comparison, compare, memory
from zora_core.skills.codebase.complexity import complex_functions, measure
from zora_core.skills.codebase.duplicates import duplicate_issues
from zora_core.skills.codebase.hotspots import Hotspot, authors_for_half, find_hotspots, hotspot_issues
from zora_core.skills.codebase.imports import import_cycles
from zora_core.skills.codebase.inventory import Inventory, SourceFile, take_inventory
from zora_core.skills.codebase.issue import Issue, place, settings, to_findings
from zora_core.skills.codebase.lint import lint
from zora_core.skills.codebase.python import Function, read_modules
from zora_core.skills.codebase.repository import Commit
from zora_core.skills.codebase.unused import dead_code
from zora_core.wording import count

LISTED = 20


@dataclass(frozen=True)
class Analysis:
    """`result` has the figures and, under `memory`, what the next run needs; `files` is all that was read."""

    findings: list[Finding]
    issues: list[Issue]
    result: dict[str, Any]
    files: dict[str, str]


def analyze(
    root: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    commits: Sequence[Commit] = (),
    previous: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> Analysis:
    """Analyse the files under `root`; `commits` are its history, `previous` the `memory` of an earlier result.

    Nothing under `root` is imported, run or taken as configuration. Raises `RuntimeError` when ruff cannot run.
    """
    inventory = take_inventory(root.resolve(), include, exclude)
    progress(0.2, f"read {len(inventory.files)} files")
    modules, broken = read_modules(inventory.python())
    measured, unmeasured = measure(inventory.files)
    functions = [*(f for module in modules for f in module.functions), *measured]
    progress(0.5, f"measured {len(functions)} functions")
    spots = find_hotspots(commits, functions, inventory.files)
    authors = len({commit.author for commit in commits})
    duplicates, repeated = duplicate_issues(inventory.code())
    cycles = import_cycles(modules)
    ratio, untested = _test_ratio(inventory)
    progress(0.8, "looked for duplicates and cycles")
    secrets = _secrets([*inventory.files, *inventory.others])
    linted, not_linted = lint(inventory)
    issues = _without_echoes(
        [
            *secrets,
            *complex_functions(functions, inventory.files),
            *cycles,
            *duplicates,
            *dead_code(modules, inventory.files),
            *hotspot_issues(spots, {file.path: file for file in inventory.files}, authors),
            *untested,
            *linted,
        ]
    )
    issues.sort(key=lambda i: (-i.severity.rank, i.rule_id, i.path, i.places[0].line, i.message))
    comparison = compare(issues, functions, previous) if previous is not None else None
    result = {
        "inventory": _inventory_figures(inventory, broken, unmeasured, not_linted),
        "totals": {
            "issues": len(issues),
            "by_severity": _counted(str(issue.severity) for issue in issues),
            "by_rule": _counted(issue.rule_id for issue in issues),
        },
        "complexity": _complexity_figures(functions),
        "duplicates": {"repeated_lines": repeated, "blocks": len(duplicates)},
        "import_cycles": len(cycles),
        "test_ratio": ratio,
        "history": _history_figures(commits, spots),
        "comparison": _comparison_figures(comparison),
        "tools": {"ruff": version("ruff"), "lizard": version("lizard")},
        "memory": memory(issues, functions),
    }
    findings = to_findings(issues, comparison.notes if comparison else {})
    read = {file.path: file.text for file in (*inventory.files, *inventory.others)}
    return Analysis(findings, issues, result, read)


def _secrets(files: Sequence[SourceFile]) -> list[Issue]:
    issues = []
    for file in files:
        for secret in find_secrets(file.text):
            line = file.line_at(secret.start)
            issues.append(
                Issue(
                    rule_id="code.secret",
                    message=f"Credential in the source: {secret.kind} {secret.masked}",
                    severity=Severity.MEDIUM if file.is_test else Severity.CRITICAL,
                    places=(FileLine(path=file.path, line=line, text=secret.masked, masked=True),),
                    confidence=0.6 if file.is_test else 0.8,
                )
            )
    return issues


def _without_echoes(issues: Sequence[Issue]) -> list[Issue]:
    """Leave out what ruff says of a line on which our own measure or the search for credentials has said it."""
    own = {(i.rule_id, i.path, i.places[0].line) for i in issues if i.rule_id in ("code.complexity", "code.secret")}
    echoes = {"code.ruff.C901": "code.complexity"} | {f"code.ruff.S10{n}": "code.secret" for n in (5, 6, 7)}
    return [i for i in issues if (echoes.get(i.rule_id), i.path, i.places[0].line) not in own]


def _test_ratio(inventory: Inventory) -> tuple[dict[str, Any], list[Issue]]:
    """Lines of test code per line of other code, with an issue when there are too few."""
    rules = settings()["tests"]
    tests = [file for file in inventory.code() if file.is_test]
    code = [file for file in inventory.code() if not file.is_test]
    test_lines, code_lines = sum(f.code_lines for f in tests), sum(f.code_lines for f in code)
    ratio = test_lines / code_lines if code_lines else None
    figures = {"test_lines": test_lines, "code_lines": code_lines, "ratio": None if ratio is None else round(ratio, 3)}
    if ratio is None or code_lines < rules["least_lines"] or ratio >= rules["least_ratio"]:
        return figures, []
    largest = max(code, key=lambda file: (file.code_lines, file.path))
    issue = Issue(
        rule_id="code.few-tests",
        message=f"{count(test_lines, 'line')} of tests for {count(code_lines, 'line')} of code",
        severity=Severity.MEDIUM,
        places=(place(largest.path, 1, largest.lines),),
        confidence=0.7,
        subject="tests",
        metrics=(
            Metric(
                name="test ratio",
                value=round(ratio, 3),
                unit="lines per line",
                formula=f"test code / other code; at least {rules['least_ratio']}",
            ),
        ),
        source="statistic",
    )
    return figures, [issue]


def _inventory_figures(
    inventory: Inventory, broken: Sequence[str], unmeasured: Sequence[str], not_linted: Sequence[str]
) -> dict[str, Any]:
    languages: dict[str, dict[str, int]] = {}
    for file in inventory.files:
        figures = languages.setdefault(file.language, {"files": 0, "lines": 0, "code_lines": 0})
        figures["files"] += 1
        figures["lines"] += len(file.lines)
        figures["code_lines"] += file.code_lines
    return {
        "files": len(inventory.files),
        "lines": sum(figures["lines"] for figures in languages.values()),
        "languages": dict(sorted(languages.items(), key=lambda item: -item[1]["code_lines"])),
        "read_for_credentials_only": len(inventory.others),
        "not_read": dict(sorted(inventory.skipped.items())),
        "not_parsed": list(broken[:LISTED]),
        "not_measured": list(unmeasured[:LISTED]),
        "not_linted": list(not_linted),
    }


def _complexity_figures(functions: Sequence[Function]) -> dict[str, Any]:
    values = sorted(f.complexity for f in functions)
    worst = sorted(functions, key=lambda f: (-f.complexity, f.path, f.line))[:LISTED]
    return {
        "functions": len(functions),
        "median": values[len(values) // 2] if values else None,
        "p90": values[len(values) * 9 // 10] if values else None,
        "beyond_bound": sum(value > settings()["complexity"]["bound"] for value in values),
        "worst": [asdict(function) for function in worst],
    }


def _history_figures(commits: Sequence[Commit], spots: Sequence[Hotspot]) -> dict[str, Any] | None:
    if not commits:
        return None
    return {
        "commits": len(commits),
        "authors": len({commit.author for commit in commits}),
        "authors_for_half_of_the_commits": authors_for_half(commits),
        "newest": max(commit.at for commit in commits).astimezone(UTC).isoformat(),
        "hotspots": [asdict(spot) for spot in spots[:LISTED]],
    }


def _comparison_figures(comparison: Comparison | None) -> dict[str, Any] | None:
    return None if comparison is None else {k: v for k, v in asdict(comparison).items() if k != "notes"}


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))

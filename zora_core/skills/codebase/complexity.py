"""The cyclomatic complexity of functions in every language that can be measured."""

from __future__ import annotations

from collections.abc import Sequence

from zora_core.models import Metric, Severity
from zora_core.skills.codebase.inventory import SourceFile
from zora_core.skills.codebase.issue import Issue, place, settings
from zora_core.skills.codebase.python import Function
from zora_core.wording import count

MINIFIED_LINE = 300


def measure(files: Sequence[SourceFile]) -> tuple[list[Function], list[str]]:
    """The functions of files in other languages than Python, by lizard, and the paths of files it cannot measure."""
    import lizard

    functions: list[Function] = []
    unmeasured = []
    for file in files:
        if not settings()["languages"][file.language].get("measured"):
            continue
        if len(file.text) > MINIFIED_LINE * len(file.lines):
            unmeasured.append(file.path)
            continue
        try:
            found = lizard.analyze_file.analyze_source_code(file.path, file.text).function_list
        except (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            # lizard's readers promise nothing about text that is not well-formed in their language.
            unmeasured.append(file.path)
            continue
        functions.extend(
            Function(file.path, f.name, f.start_line, f.cyclomatic_complexity, f.end_line - f.start_line + 1)
            for f in found
        )
    return functions, unmeasured


def complex_functions(functions: Sequence[Function], files: Sequence[SourceFile]) -> list[Issue]:
    """An issue for each function beyond the bound in `codebase.toml`."""
    rules = settings()["complexity"]
    lines = {file.path: file.lines for file in files}
    return [
        Issue(
            rule_id="code.complexity",
            message=f"{f.name} has a cyclomatic complexity of {f.complexity} over {count(f.length, 'line')}",
            severity=Severity.HIGH if f.complexity >= rules["high"] else Severity.MEDIUM,
            places=(place(f.path, f.line, lines[f.path]),),
            subject=f.name,
            metrics=(
                Metric(
                    name=f"complexity of {f.name}",
                    value=f.complexity,
                    unit="paths",
                    formula=f"decision points + 1; at most {rules['bound']} ({rules['source']})",
                ),
            ),
        )
        for f in sorted(functions, key=lambda f: (-f.complexity, f.path, f.line))
        if f.complexity > rules["bound"]
    ]

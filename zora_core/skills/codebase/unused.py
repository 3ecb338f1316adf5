"""Dead code: statements that cannot be reached, and functions and classes that nothing in the target names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zora_core.models import Severity
from zora_core.skills.codebase.inventory import SourceFile
from zora_core.skills.codebase.issue import Issue, place
from zora_core.skills.codebase.python import Defined, Module

_WORD = re.compile(r"[A-Za-z_]\w*")


def dead_code(modules: Sequence[Module], others: Sequence[SourceFile]) -> list[Issue]:
    """Unreachable statements and names without a use; `others` are files (templates, settings) that may name code.

    A name counts as used wherever it is read, imported, an attribute, a keyword or part of a string, by whatever kind
    of object: that misses dead code that shares its name with something alive, and seldom accuses code that lives.
    Decorated functions, methods that are not private, dunders and tests are never accused. A public name may be the
    interface of a library, hence the low confidence.
    """
    used: set[str] = set()
    for module in modules:
        used.update(module.used)
    for file in others:
        if file.language in ("config", "html"):
            used.update(_WORD.findall(file.text))
    issues = []
    for module in modules:
        file = module.file
        for line in module.unreachable:
            where = place(file.path, line, file.lines)
            issues.append(Issue("code.unreachable", "Statement can never run", Severity.MEDIUM, (where,)))
        issues.extend(_unused(d, file) for d in module.defined if d.name not in used and _may_be_dead(d, file))
    return issues


def _may_be_dead(defined: Defined, file: SourceFile) -> bool:
    if file.is_test or not defined.bare or defined.name.startswith("__") or defined.name in ("main", "_"):
        return False
    return not defined.owner or (defined.name.startswith("_") and "." not in defined.owner)


def _unused(defined: Defined, file: SourceFile) -> Issue:
    private = defined.name.startswith("_")
    kind = "Class" if defined.is_class else "Method" if defined.owner else "Function"
    name = f"{defined.owner}.{defined.name}" if defined.owner else defined.name
    return Issue(
        rule_id="code.unused.private" if private else "code.unused.public",
        message=f"{kind} {name} is never named in the files that were read",
        severity=Severity.LOW if private else Severity.INFO,
        places=(place(file.path, defined.line, file.lines),),
        confidence=(0.7 if defined.owner else 0.9) if private else 0.5,
    )

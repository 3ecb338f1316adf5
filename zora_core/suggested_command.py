"""Commands that messages suggest: complete, with `--tenant` where they would act for another tenant without it."""

from __future__ import annotations

import re
import shlex

ANY_TENANT = ("db", "demo", "doctor", "migrate", "schema", "task-types", "tenants add")
"""What a command begins with that is about the installation, not about one tenant."""

_SUGGESTED = re.compile(rf"`zora (?!(?:{'|'.join(ANY_TENANT)})\b)(?=[a-z])")

_chosen: str | None = None


def act_for(tenant: str | None) -> None:
    """Remember the `--tenant` of this process's command line; None when it has none."""
    global _chosen
    _chosen = tenant


def zora_command(*words: object, tenant: str | None = None) -> str:
    """A command to run next, quoted for a POSIX shell: for `tenant`, by default for the one of this command line."""
    chosen = tenant or _chosen
    return shlex.join(["zora", *(["--tenant", chosen] if chosen else []), *map(str, words)])


def completed(text: str, *, tenant: str | None = None) -> str:
    """A text of the database, which does not know the command line, with the commands in backquotes complete."""
    prefix = zora_command(tenant=tenant)
    return _SUGGESTED.sub(lambda _: f"`{prefix} ", text)

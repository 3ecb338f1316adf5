"""CONNOR, the systems engineer: watches the health of what runs, and reads source code."""

from __future__ import annotations

import asyncio
import json
import shutil
import typing
from datetime import timedelta

from pydantic import ConfigDict, Field

from zora_core.agents.agent import Agent, Payload, handler
from zora_core.agents.evidence import select
from zora_core.errors import FetchFailed, InvalidInput
from zora_core.models import AgentId, Severity, Suggestion, Task, TaskRecord, TaskResult, identity
from zora_core.storable import escaped

if typing.TYPE_CHECKING:
    from pathlib import Path

    from zora_core.agents.context import TaskContext
    from zora_core.skills.codebase import Analysis, Commit
    from zora_core.skills.systems.health import Check

JOURNAL_LIMIT = 20_000
# Number of completed tasks in which an earlier analysis is searched; each comes with its whole result.
TASK_LIMIT = 300
# More than a handful of proposals is not read; the rest stands in the findings.
MAX_SUGGESTIONS = 8
MAX_FINDINGS = 200
# What a person can decide on, by rule.
ADVICE = {
    "code.secret": "Revoke it and issue a new one, kept out of the repository, whose history still holds the old.",
    "code.import-cycle": "Move what both need into a third module, or import inside the function that needs it.",
    "code.hotspot": "Cover it with tests, then split it where its reasons to change part.",
}


class ReviewSystemHealth(Payload):
    """Payload of review_system_health."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"endpoints": ["https://example.org/health"]}]})

    endpoints: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="URLs to probe. The runtime's own database, queue and disk are always reviewed.",
    )


class AnalyzeCodebase(Payload):
    """Payload of analyze_codebase."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"target": "/srv/shop", "exclude": ["vendor/**"]}]})

    target: str = Field(min_length=1, description="A directory, a Git repository or a file:// URL on this machine.")
    include: list[str] = Field(
        default_factory=list, max_length=100, description="Globs of files to read, such as src/**; all when empty."
    )
    exclude: list[str] = Field(
        default_factory=list, max_length=100, description="Globs of files and folders to leave out."
    )


class Connor(Agent):
    """Systems and backend: reviews the health of services and of code."""

    agent_id = AgentId.CONNOR

    @handler("review_system_health", timeout_seconds=300)
    async def review_system_health(self, task: Task, payload: ReviewSystemHealth, ctx: TaskContext) -> TaskResult:
        """Judge endpoints, queue, database and disk green, amber or red, each with its reason and next step."""
        from zora_core.skills.systems import health, run_history
        from zora_core.wording import count

        checks: list[Check] = []
        endpoints = list(dict.fromkeys(payload.endpoints))
        if endpoints:
            await ctx.progress(0, f"probing {count(len(endpoints), 'endpoint')}")
        for judged in await asyncio.gather(*(_endpoint(url, ctx) for url in endpoints)):
            checks += judged
        await ctx.progress(0.5, "looking at database, queue and disk")
        figures = await ctx.database_health()
        checks += health.judge_queue(figures["queue"], own_tasks=1)
        checks += health.judge_database(figures)
        for path, total, free in _disks():
            ctx.cite("probe", path, json.dumps([total, free]), count=2, unit="figures")
            checks.append(health.judge_disk(path, total, free))
        history = health.settings()["history"]
        await ctx.progress(0.6, f"reading the runs of {history['days']:g} days")
        entries = await ctx.journal(since=ctx.now - timedelta(days=history["days"]), limit=JOURNAL_LIMIT)
        runs = run_history.read_runs(entries)
        checks += run_history.judge_types(runs, ctx.now)
        hours = run_history.hourly(runs, ctx.now)
        await ctx.progress(0.8, "looking for unusual hours")
        unusual = await ctx.compute(run_history.unusual_hours, hours, ctx.now)
        findings = [*health.findings(checks), *unusual]
        findings.sort(key=lambda finding: -finding.severity.rank)
        checks.sort(key=health.worst_first)
        warm_up = health.settings()["anomaly"]["hourly"]["warm_up"]
        result = {
            "status": checks[0].status,
            "checks": [check.as_dict() for check in checks],
            "endpoints_probed": endpoints,
            "not_examined": [] if endpoints else ["HTTP endpoints: none given in `endpoints`"],
            "history": {
                "runs": len(runs),
                "capped": len(entries) == JOURNAL_LIMIT,
                "hours": len(hours),
                "hours_needed": warm_up,
                "unusual_hours": len(unusual),
            },
            "database": {key: figures[key] for key in ("server_version", "database_bytes", "round_trip_ms")},
            "queue": figures["queue"],
        }
        if not figures["sees_sessions"]:
            result["not_examined"].append("connections and long transactions: this database role sees its own alone")
        if len(hours) < warm_up:
            result["not_examined"].append(f"unusual hours: {count(len(hours), 'hour')} of history, {warm_up} needed")
        suggestions = _health_suggestions(checks)
        return TaskResult(
            examined={
                _subject(check): [identity(_subject(check))] if check.status == "red" else [] for check in checks[::-1]
            },
            summary=_health_summary(checks, endpoints, len(unusual)),
            findings=select(findings, suggestions, MAX_FINDINGS),
            suggestions=suggestions,
            result=result,
        )

    @handler("analyze_codebase", timeout_seconds=600)
    async def analyze_codebase(self, task: Task, payload: AnalyzeCodebase, ctx: TaskContext) -> TaskResult:
        """Read a directory of source code: faults, complexity, hotspots, cycles, credentials, duplicates, tests."""
        import tempfile
        from pathlib import Path

        from zora_core.skills.codebase import GitFailed, export_head, find_repository, read_history
        from zora_core.wording import count

        root = await ctx.in_thread(_target, payload.target, ctx)
        name = ctx.name_of(root)
        await ctx.progress(0, "reading the history")
        repository = await ctx.compute(find_repository, root, ctx.roots())
        commits: list[Commit] = []
        not_examined = []
        if repository is None:
            not_examined.append("history: not a Git repository")
        elif repository.outside is not None:
            if repository.bare:
                raise InvalidInput(f"the repository {payload.target!r} is not read: {repository.outside}")
            not_examined.append(f"history: {repository.outside}")
        else:
            try:
                commits = await ctx.compute(read_history, root)
            except GitFailed as error:
                not_examined.append(f"history: {error}")
            if repository.shallow:
                not_examined.append("history before the point where the clone was cut off")
            digest = "\n".join(f"{commit.at.isoformat()} {commit.author}" for commit in commits)
            ctx.cite("repository", escaped(str(repository.directory)), digest, count=len(commits), unit="commits")
        await ctx.progress(0.2, f"read {count(len(commits), 'commit')}")
        previous = _previous(payload, await ctx.tasks(status="completed", limit=TASK_LIMIT))
        with tempfile.TemporaryDirectory(prefix="zora-code-") as folder:
            if repository is not None and repository.bare:
                await ctx.compute(export_head, root, Path(folder))
                root = Path(folder)
            analysis = await ctx.compute(_analyze, root, payload, commits, previous)
        # On a thread: hashing hundreds of megabytes takes a second.
        await ctx.in_thread(ctx.cite_files, "directory", payload.target, analysis.files)
        result = {"target": payload.target, "include": payload.include, "exclude": payload.exclude, **analysis.result}
        result["not_examined"] = not_examined
        subject = json.dumps([payload.target, sorted(payload.include), sorted(payload.exclude)])
        if previous is not None:
            result["comparison"]["previous_task"] = str(previous.id)
        return TaskResult(
            summary=_code_summary(name, analysis, previous),
            findings=analysis.findings,
            suggestions=_code_suggestions(payload.target, analysis, subject),
            examined={subject: [issue.key for issue in analysis.issues if issue.rule_id in ADVICE]},
            result=result,
        )


async def _endpoint(url: str, ctx: TaskContext) -> list[Check]:
    """Probe one URL a few times; a dead endpoint is a finding, a refused address an `InvalidInput`."""
    from zora_core.skills.systems import health

    probes: list[health.Probe] = []
    certificate_expires_at = None
    settings = health.settings()["endpoint"]
    while len(probes) < settings["probes"] and sum(p.status is None for p in probes) < settings["give_up_after"]:
        try:
            answer = await ctx.fetch(url)
        except FetchFailed as error:
            probes.append(health.Probe(elapsed_ms=0, error=str(error)))
        else:
            probes.append(health.Probe(elapsed_ms=answer.elapsed_ms, status=answer.status))
            certificate_expires_at = answer.certificate_expires_at
    measured = json.dumps([[probe.status, probe.elapsed_ms, probe.error] for probe in probes])
    ctx.cite("probe", url, measured, count=len(probes), unit="probes")
    return health.judge_endpoint(url, probes, certificate_expires_at, ctx.now)


def _disks() -> list[tuple[str, int, int]]:
    """Path, size and free bytes of each disk that the runtime writes to: its folder, its home, temporary files."""
    import tempfile
    from pathlib import Path

    disks: dict[int, tuple[str, int, int]] = {}
    for folder in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        if folder.is_dir():
            usage = shutil.disk_usage(folder)
            disks.setdefault(folder.stat().st_dev, (str(folder), usage.total, usage.free))
    return list(disks.values())


def _health_summary(checks: list[Check], endpoints: list[str], unusual: int) -> str:
    from zora_core.wording import count

    bad = [check for check in checks if check.status != "green"]
    where = "queue, database and disk"
    if endpoints:
        where = f"{count(len(endpoints), 'endpoint')}, {where}"
    odd = f" {count(unusual, 'unusual hour')} in the history." if unusual else ""
    if not bad:
        return f"Green: all {len(checks)} checks of {where} are within their thresholds.{odd}"
    red = sum(check.status == "red" for check in bad)
    counts = ", ".join(f"{n} {name}" for n, name in ((red, "red"), (len(bad) - red, "amber")) if n)
    return f"{checks[0].status.capitalize()}: {counts} of {len(checks)} checks of {where}. Worst: {bad[0].reason}.{odd}"


def _health_suggestions(checks: list[Check]) -> list[Suggestion]:
    """What a person can do about each red check."""
    from zora_core.skills.systems.health import finding

    return [
        Suggestion(
            suggestion_type="advice",
            title=f"{check.name}: {check.reason}"[:200],
            body=check.next_step,
            target={"check": check.name, "subject": check.subject},
            current_value=check.value,
            findings=[finding(check).id],
            evidence=list(check.evidence),
            risk_level="medium",
            key=identity(_subject(check)),
            subject=_subject(check),
        )
        for check in checks
        if check.status == "red"
    ][:MAX_SUGGESTIONS]


def _subject(check: Check) -> str:
    return f"{check.name} {check.subject}"


def _target(target: str, ctx: TaskContext) -> Path:
    """The directory that `target` names; refuses what is not on this machine."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise InvalidInput(f"{target!r} is not a folder or an address: {error}; give the folder") from error
    name = target
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        name = unquote(parts.path)
    elif "://" in target or target.startswith("git@"):
        raise InvalidInput(f"{target!r} is not on this machine: clone it, then give the folder")
    root = ctx.path(name)
    if not root.is_dir():
        raise InvalidInput(f"{target!r} is a file: give the folder that holds the code")
    return root


def _previous(payload: AnalyzeCodebase, tasks: list[TaskRecord]) -> TaskRecord | None:
    """The newest completed analysis of the same target with the same globs."""
    same = payload.model_dump(include={"target", "include", "exclude"})
    for task in tasks:
        if task.agent_id != "CONNOR" or task.task_type != "analyze_codebase" or not task.result:
            continue
        result = task.result.get("result", {})
        if all(result.get(name) == value for name, value in same.items()) and "memory" in result:
            return task
    return None


def _analyze(root: Path, payload: AnalyzeCodebase, commits: list[Commit], previous: TaskRecord | None) -> Analysis:
    from zora_core.child import progress
    from zora_core.skills.codebase import analyze

    before = previous.result["result"]["memory"] if previous is not None and previous.result else None
    return analyze(
        root,
        include=payload.include,
        exclude=payload.exclude,
        commits=commits,
        previous=before,
        progress=lambda fraction, message: progress(0.2 + 0.8 * fraction, message),
    )


def _code_summary(target: str, analysis: Analysis, previous: TaskRecord | None) -> str:
    from zora_core.wording import count

    inventory, totals = analysis.result["inventory"], analysis.result["totals"]
    others = inventory["read_for_credentials_only"]
    if not inventory["files"] and not totals["issues"]:
        left_out = f"{sum(inventory['not_read'].values())} left out"
        if others:
            left_out += f", {others} read for credentials only"
        return f"{target} holds no source file that could be read ({left_out})."
    examined = f"{count(inventory['files'], 'file')} with {count(inventory['lines'], 'line')} of {target}"
    if others:
        examined += f" (and {others} read for credentials only)"
    if not totals["issues"]:
        return f"Nothing found in {examined}."
    severities = ", ".join(
        f"{totals['by_severity'][name]:,} {name}" for name in reversed(Severity) if name in totals["by_severity"]
    )
    summary = f"{count(totals['issues'], 'issue')} in {examined}: {severities}. Worst: {analysis.findings[0].title}."
    comparison = analysis.result["comparison"]
    if previous is not None and comparison:
        summary += (
            f" Since the last run {comparison['new']} new, {comparison['worse']} worse, {comparison['fixed']} gone."
        )
    return summary


def _code_suggestions(target: str, analysis: Analysis, subject: str) -> list[Suggestion]:
    """What a person can decide on: credentials to revoke, cycles to break, functions to split."""
    chosen = [f for rule in ADVICE for f in analysis.findings if f.rule_id == rule]
    chosen.sort(key=lambda finding: -finding.severity.rank)
    return [
        Suggestion(
            suggestion_type="advice",
            title=finding.title[:200],
            body=ADVICE[finding.rule_id],
            target={"codebase": target, "rule_id": finding.rule_id},
            findings=[finding.id],
            evidence=finding.evidence,
            risk_level="medium" if finding.severity.rank >= Severity.HIGH.rank else "low",
            key=finding.key,
            subject=subject,
        )
        for finding in chosen[:MAX_SUGGESTIONS]
    ]

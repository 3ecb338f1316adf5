"""Where change meets complexity, and whose knowledge it rests on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from zora_core.models import Metric, Severity
from zora_core.skills.codebase.inventory import SourceFile
from zora_core.skills.codebase.issue import Issue, place, settings
from zora_core.skills.codebase.python import Function
from zora_core.skills.codebase.repository import Commit


@dataclass(frozen=True)
class Hotspot:
    """A file: `commits` and changed lines (`churn`) in the window, summed complexity, and a score in 0..1.

    `owner` made `owner_share` of its commits.
    """

    path: str
    commits: int
    churn: int
    complexity: int
    score: float
    authors: int
    owner: str
    owner_share: float


def find_hotspots(
    commits: Sequence[Commit], functions: Sequence[Function], files: Sequence[SourceFile]
) -> list[Hotspot]:
    """Files of code that changed in the window before the newest commit, the hottest first; tests do not count.

    The score is commits / most commits x complexity / highest complexity, each in the scale of the target itself
    (Tornhill 2015). Where no function can be measured, complexity is one per ten lines of code.
    """
    if not commits:
        return []
    rules = settings()["hotspots"]
    since = max(commit.at for commit in commits) - timedelta(days=rules["window_days"])
    complexity: dict[str, int] = defaultdict(int)
    for function in functions:
        complexity[function.path] += function.complexity
    authors: dict[str, Counter[str]] = defaultdict(Counter)
    churn: Counter[str] = Counter()
    code = [file for file in files if file.is_code and not file.is_test]
    sizes = {file.path: complexity[file.path] or 1 + file.code_lines // 10 for file in code}
    for commit in commits:
        for path, lines in commit.changes.items():
            if path in sizes and commit.at >= since:
                authors[path][commit.author] += 1
                churn[path] += lines
    if not authors:
        return []
    most_commits = max(sum(by.values()) for by in authors.values())
    most_complex = max(sizes[path] for path in authors)
    spots = []
    for path, by in authors.items():
        count = sum(by.values())
        owner, owned = min(by.items(), key=lambda item: (-item[1], item[0]))
        score = count / most_commits * sizes[path] / most_complex
        spots.append(
            Hotspot(path, count, churn[path], sizes[path], round(score, 3), len(by), owner, round(owned / count, 2))
        )
    return sorted(spots, key=lambda spot: (-spot.score, spot.path))


def authors_for_half(commits: Sequence[Commit]) -> int:
    """The least number of authors who made half of the commits (a bus factor after Avelino et al. 2016)."""
    counts = Counter(commit.author for commit in commits)
    covered = 0
    for number, (_, count) in enumerate(counts.most_common(), 1):
        covered += count
        if 2 * covered >= len(commits):
            return number
    return 0


def hotspot_issues(spots: Sequence[Hotspot], files: Mapping[str, SourceFile], authors: int) -> list[Issue]:
    """Issues for the hottest files, and for hot files that one of several authors owns; `authors` are all of them."""
    rules = settings()["hotspots"]
    hot = [s for s in spots if s.commits >= rules["least_commits"] and s.score >= rules["least_score"]]
    issues = []
    for rank, spot in enumerate(hot[: rules["reported"]], 1):
        where = (place(spot.path, 1, files[spot.path].lines),)
        issues.append(
            Issue(
                rule_id="code.hotspot",
                message=f"Hotspot {rank}: {spot.commits} commits in {rules['window_days']} days, "
                f"complexity {spot.complexity}",
                severity=Severity.MEDIUM if rank <= 3 else Severity.LOW,
                places=where,
                confidence=0.8,
                subject="hotspot",
                metrics=(
                    Metric(
                        name="hotspot score",
                        value=spot.score,
                        unit="0..1",
                        formula="commits / most commits x complexity / highest complexity",
                    ),
                    Metric(name="changed lines", value=spot.churn, unit="lines"),
                ),
                source="statistic",
            )
        )
        owned = spot.owner_share >= rules["owner_share"] and spot.commits >= rules["owner_commits"]
        if owned and authors >= rules["owner_authors"]:
            issues.append(
                Issue(
                    rule_id="code.single-owner",
                    message=f"{spot.owner} made {spot.owner_share:.0%} of the changes to this hotspot",
                    severity=Severity.LOW,
                    places=where,
                    confidence=0.6,
                    subject="owner",
                    metrics=(Metric(name="share of the main author", value=spot.owner_share, unit="share of commits"),),
                    source="statistic",
                )
            )
    return issues

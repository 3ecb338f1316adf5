from __future__ import annotations

import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.models import FileLine, Severity
from zora_core.skills import codebase
from zora_core.skills.codebase import Analysis, Commit, GitFailed, analyze, export_head, find_repository, read_history
from zora_core.skills.codebase.complexity import measure
from zora_core.skills.codebase.duplicates import find_duplicates
from zora_core.skills.codebase.imports import import_cycles, strong_components
from zora_core.skills.codebase.inventory import SourceFile, take_inventory
from zora_core.skills.codebase.issue import settings
from zora_core.skills.codebase.python import read_modules
from zora_core.skills.codebase.repository import _outside
from zora_core.skills.codebase.unused import dead_code

EXAMPLE = Path(__file__).parents[2] / "examples" / "code"


def write(root: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def source(path: str, text: str, language: str = "python") -> SourceFile:
    return SourceFile(path, language, text, is_test=False)


def rules(analysis: Analysis) -> dict[str, int]:
    counts: dict[str, int] = analysis.result["totals"]["by_rule"]
    return counts


def branches(count: int) -> str:
    return "def decide(x):\n" + "".join(f"    if x == {n}:\n        return {n}\n" for n in range(count))


def test_the_example_project_has_the_faults_that_were_put_in() -> None:
    found = rules(analyze(EXAMPLE))
    expected = {
        "code.secret",
        "code.complexity",
        "code.import-cycle",
        "code.duplicate",
        "code.unreachable",
        "code.unused.private",
        "code.ruff.F401",
        "code.ruff.E722",
        "code.ruff.B006",
        "code.ruff.S602",
        "code.ruff.S608",
    }
    assert expected <= set(found)


def test_findings_come_most_severe_first_and_hold_a_line_that_exists() -> None:
    findings = analyze(EXAMPLE).findings
    ranks = [finding.severity.rank for finding in findings]
    assert ranks == sorted(ranks, reverse=True)
    places = [e for finding in findings for e in finding.evidence if isinstance(e, FileLine)]
    assert all(place.line <= len((EXAMPLE / place.path).read_text().splitlines()) for place in places)


def test_a_credential_is_never_shown() -> None:
    analysis = analyze(EXAMPLE)
    shown = str([finding.model_dump() for finding in analysis.findings]) + str(analysis.result)
    assert "7Qx2" not in shown
    assert "payment.py" in shown


def test_clean_code_has_no_issue_and_mending_a_fault_removes_it(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import os\n\nprint(1)\n"})
    assert rules(analyze(tmp_path)) == {"code.ruff.F401": 1}
    write(tmp_path, {"a.py": "print(1)\n"})
    assert analyze(tmp_path).findings == []


def test_an_empty_directory_is_said_to_be_empty(tmp_path: Path) -> None:
    analysis = analyze(tmp_path)
    assert analysis.findings == []
    assert analysis.result["inventory"]["files"] == 0


def test_nothing_that_is_analysed_runs_or_configures_the_analysis(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    write(
        tmp_path,
        {
            "__init__.py": f"open({str(marker)!r}, 'w')\n",
            "conftest.py": f"open({str(marker)!r}, 'w')\n",
            "ruff.toml": 'select = []\nextend-exclude = ["*"]\n',
            "pyproject.toml": '[tool.ruff]\nexclude = ["*.py"]\n',
            "faulty.py": "import os\n",
        },
    )
    assert rules(analyze(tmp_path))["code.ruff.F401"] == 1
    assert not marker.exists()


def test_links_out_of_the_target_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.py": "import os\n"})
    target = write(tmp_path / "target", {"a.py": "x = 1\n"})
    (target / "link.py").symlink_to(outside / "secret.py")
    (target / "folder").symlink_to(outside)
    (target / "round").symlink_to(target)
    inventory = take_inventory(target)
    assert [file.path for file in inventory.files] == ["a.py"]
    assert inventory.skipped["symbolic link"] == 3


def test_include_and_exclude_choose_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path, {"src/a.py": "", "src/deep/b.py": "", "docs/c.md": "", "tests/test_a.py": ""})

    def paths(**globs: list[str]) -> list[str]:
        return [file.path for file in take_inventory(tmp_path, **globs).files]

    assert paths() == ["docs/c.md", "src/a.py", "src/deep/b.py", "tests/test_a.py"]
    assert paths(include=["src/**"]) == ["src/a.py", "src/deep/b.py"]
    assert paths(exclude=["src/deep", "*.md"]) == ["src/a.py", "tests/test_a.py"]


def test_binary_and_huge_files_are_not_read_and_generated_and_unknown_ones_for_credentials(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"gen.py": "# @generated\n", "huge.py": "x = 1\n" * 200_000, "image.xyz": "?"})
    (tmp_path / "binary.py").write_bytes(b"\0\1\2")
    inventory = take_inventory(tmp_path)
    assert inventory.files == []
    assert [file.path for file in inventory.others] == ["gen.py", "image.xyz"]
    assert dict(inventory.skipped) == {"binary": 1, "generated": 1, "too large": 1}


@pytest.mark.parametrize(
    "text", ["def f(:\n", "(" * 5000, "\ud800".encode("utf-16", "surrogatepass").decode("latin-1")]
)
def test_python_that_does_not_parse_is_named_and_does_not_stop_the_analysis(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"good.py": "import os\n"})
    (tmp_path / "bad.py").write_bytes(text.encode("utf-8", "surrogatepass").replace(b"\0", b"\x01"))
    analysis = analyze(tmp_path)
    assert analysis.result["inventory"]["not_parsed"] == ["bad.py"]
    assert rules(analysis)["code.ruff.F401"] == 1


def test_complexity_counts_decisions_in_python_and_in_other_languages(tmp_path: Path) -> None:
    modules, _ = read_modules([source("a.py", branches(4) + "    return x and x or [y for y in x if y]\n")])
    assert [(f.name, f.complexity) for f in modules[0].functions] == [("decide", 9)]
    functions, unmeasured = measure(
        [source("a.js", "function f(x) { if (x && y) { return 1 } return 2 }", "javascript")]
    )
    assert [(f.name, f.complexity) for f in functions] == [("f", 3)]
    assert unmeasured == []
    write(tmp_path, {"simple.py": branches(5)})
    assert "code.complexity" not in rules(analyze(tmp_path))
    write(tmp_path, {"simple.py": branches(40)})
    assert rules(analyze(tmp_path))["code.complexity"] == 1


def cycles(files: dict[str, str]) -> list[str]:
    modules, _ = read_modules([source(path, text) for path, text in files.items()])
    return [issue.message for issue in import_cycles(modules)]


def test_import_cycles_are_found_through_packages_and_relative_imports() -> None:
    assert cycles({"p/__init__.py": "", "p/a.py": "from . import b\n", "p/b.py": "from p.a import x\n"}) == [
        "Import cycle: p/a.py → p/b.py → p/a.py"
    ]
    assert cycles({"src/p/__init__.py": "", "src/p/a.py": "import p.b\n", "src/p/b.py": "from .a import x\n"}) != []


def test_imports_for_types_and_inside_functions_make_no_cycle() -> None:
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n"
    assert cycles({"a.py": types, "b.py": "import a\n"}) == []
    assert cycles({"a.py": "def f():\n    import b\n", "b.py": "import a\n"}) == []
    assert cycles({"a.py": "import b\n", "b.py": "import c\n", "c.py": "x = 1\n"}) == []


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sets(st.sampled_from("abcdefgh")), max_size=8))
def test_two_nodes_share_a_component_when_each_reaches_the_other(edges: dict[str, set[str]]) -> None:
    graph = {node: dict.fromkeys(sorted(edges.get(node, ())), 1) for node in "abcdefgh"}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for node in graph[stack.pop()]:
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
        return seen

    reach = {node: reached(node) for node in graph}
    expected = {frozenset({a, *(b for b in graph if b in reach[a] and a in reach[b])}) for a in graph}
    assert {frozenset(c) for c in strong_components(graph)} == {c for c in expected if len(c) > 1}


def dead(files: dict[str, str]) -> list[tuple[str, str]]:
    modules, _ = read_modules([source(path, text) for path, text in files.items()])
    return [(issue.rule_id, issue.places[0].text) for issue in dead_code(modules, [])]


def test_code_that_nothing_names_is_dead_and_code_behind_a_decorator_or_a_string_is_not() -> None:
    assert dead({"a.py": "def _gone():\n    pass\n"}) == [("code.unused.private", "def _gone():")]
    assert dead({"a.py": "def _used():\n    pass\n", "b.py": "import a\na._used()\n"}) == []
    assert dead({"a.py": "@route\ndef page():\n    pass\n"}) == []
    assert dead({"a.py": "def plug():\n    pass\n", "b.py": "load('a:plug')\n"}) == []


def test_statements_after_a_jump_are_unreachable() -> None:
    assert dead({"a.py": "def main():\n    return 1\n    print(2)\n"}) == [("code.unreachable", "print(2)")]
    assert dead({"a.py": "def main():\n    return\n    yield\n"}) == []


BLOCK = "".join(f"    value_{n} = compute(something, {n})\n" for n in range(15))


def test_a_block_that_stands_twice_is_found_whatever_its_spaces() -> None:
    indented = "".join("    " + line for line in BLOCK.splitlines(keepends=True))
    ((first, second),) = find_duplicates([source("a.py", "def f():\n" + BLOCK), source("b.py", "if x:\n\n" + indented)])
    assert (first.path, first.first, first.last) == ("a.py", 2, 16)
    assert (second.path, second.first, second.last) == ("b.py", 3, 17)


def test_short_and_different_blocks_are_no_duplicates() -> None:
    assert find_duplicates([source("a.py", BLOCK[:200]), source("b.py", BLOCK[:200])]) == []
    assert find_duplicates([source("a.py", BLOCK), source("b.py", BLOCK.replace("compute", "other"))]) == []


@given(st.lists(st.sampled_from(["a_long_line_of_code = 1", "another_line(of, code)", "return value"]), max_size=80))
def test_duplicates_in_one_file_never_overlap(lines: list[str]) -> None:
    for first, second in find_duplicates([source("a.py", "\n".join(lines))]):
        assert first.last < second.first


def test_the_next_run_says_what_is_new_worse_and_gone(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": branches(20), "b.py": "import os\n"})
    before = analyze(tmp_path)
    memory = before.result["memory"]
    assert before.result["comparison"] is None
    write(tmp_path, {"a.py": "# moved down\n\n\n" + branches(25), "b.py": "x = 1\n", "c.py": "import sys\n"})
    after = analyze(tmp_path, previous=memory)
    compared = after.result["comparison"]
    assert (compared["new"], compared["worse"], compared["fixed"]) == (1, 1, 1)
    notes = {finding.rule_id: finding.detail for finding in after.findings}
    assert notes["code.complexity"] == "Worse since the last run: 21 before."
    assert notes["code.ruff.F401"] == "New since the last run."
    same = analyze(tmp_path, previous=after.result["memory"]).result["comparison"]
    assert (same["new"], same["worse"], same["fixed"]) == (0, 0, 0)


def test_new_issues_come_before_old_and_more_severe_ones(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import subprocess\nsubprocess.run(f'ls {x}', shell=True)\n"})
    memory = analyze(tmp_path).result["memory"]
    write(tmp_path, {"b.py": "import os\n"})
    findings = analyze(tmp_path, previous=memory).findings
    assert findings[0].rule_id == "code.ruff.F401"
    assert findings[0].severity.rank < max(finding.severity.rank for finding in findings)


def test_results_stay_small_for_a_directory_full_of_faults(tmp_path: Path) -> None:
    write(tmp_path, {f"m{n}.py": "import os\nimport sys\nl = 1\n" * 20 for n in range(120)})
    analysis = analyze(tmp_path)
    assert analysis.result["totals"]["issues"] > 5000
    assert len(analysis.findings) <= 200
    assert max(len(finding.evidence) for finding in analysis.findings) <= 10


Git = Callable[..., None]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_COMMITTER_DATE": "2026-01-05T12:00:00Z",
        "GIT_AUTHOR_DATE": "2026-01-05T12:00:00Z",
    }

    def run(directory: Path, *arguments: str, author: str = "Ada") -> None:
        identity = ["-c", f"user.name={author}", "-c", f"user.email={author}@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=directory, env=environment, check=True, capture_output=True)

    return run


@pytest.fixture
def repository(tmp_path: Path, git: Git) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    for number, author in enumerate(["Ada", "Ada", "Ada", "Ben", "Cleo"]):
        write(root, {"hot.py": branches(12) + f"# {number}\n", "docs/notes.md": "x\n"})
        if number == 0:
            write(root, {"cold.py": branches(12)})
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"change {number}", author=author)
    return root


def test_the_history_gives_commits_authors_and_paths_of_the_target(repository: Path) -> None:
    found = find_repository(repository, [repository.parent])
    assert found is not None
    assert (found.directory, found.bare, found.shallow) == (repository / ".git", False, False)
    commits = read_history(repository)
    assert [commit.author for commit in commits] == ["Cleo", "Ben", "Ada", "Ada", "Ada"]
    assert set(commits[-1].changes) == {"hot.py", "cold.py", "docs/notes.md"}
    assert [set(commit.changes) for commit in read_history(repository / "docs")] == [{"notes.md"}]


def test_a_history_that_takes_too_long_is_given_up(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings()["limits"], "git_seconds", 0)  # over before Git can have answered
    with pytest.raises(GitFailed, match="took more than 0 s"):
        read_history(repository)


def test_files_that_change_often_and_are_complicated_are_hotspots(repository: Path) -> None:
    figures = analyze(repository, commits=read_history(repository)).result["history"]
    assert figures["hotspots"][0]["path"] == "hot.py"
    assert figures["hotspots"][0]["owner"] == "Ada"
    assert figures["hotspots"][0]["score"] > figures["hotspots"][1]["score"]
    assert figures["authors_for_half_of_the_commits"] == 1


def test_a_hotspot_of_one_author_among_many_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"hot.py": branches(12), "b.py": "x = 1\n"})
    start = datetime(2026, 1, 1, tzinfo=UTC)
    commits = [Commit("Ada", start + timedelta(days=n), {"hot.py": 9}) for n in range(8)]
    commits += [Commit(name, start, {"b.py": 1}) for name in ("Ben", "Cleo")]
    assert rules(analyze(tmp_path, commits=commits))["code.single-owner"] == 1
    assert "code.single-owner" not in rules(analyze(tmp_path, commits=commits[:8]))


def test_a_folder_without_a_repository_has_no_history(tmp_path: Path) -> None:
    assert find_repository(tmp_path / "nowhere", [tmp_path]) is None
    assert read_history(tmp_path) == []
    assert analyze(tmp_path).result["history"] is None


def test_a_repository_cannot_make_git_run_its_programs(repository: Path, git: Git, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    write(repository, {".gitattributes": "*.py diff=evil filter=evil\n"})
    for hook in ("post-checkout", "post-index-change", "pre-commit", "reference-transaction"):
        (repository / ".git/hooks").mkdir(exist_ok=True)
        (repository / ".git/hooks" / hook).symlink_to(program)
    for name in ("core.fsmonitor", "core.pager", "diff.external", "diff.evil.textconv", "diff.evil.command",
                 "filter.evil.smudge", "gpg.program", "core.sshCommand", "pager.log", "alias.log"):  # fmt: skip
        git(repository, "config", name, ("!" if name.startswith("alias") else "") + str(program))
    git(repository, "config", "log.showSignature", "true")
    subprocess.run(["git", "status"], cwd=repository, check=True, capture_output=True)
    assert marker.exists(), "the trap must be able to snap"
    marker.unlink()
    assert find_repository(repository, [repository.parent]) is not None
    assert len(read_history(repository)) == 5
    assert export_head(repository, tmp_path / "export") == 3
    assert not marker.exists()


def test_a_bare_repository_is_exported_without_links(repository: Path, git: Git, tmp_path: Path) -> None:
    (repository / "link.py").symlink_to("/etc/passwd")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "link")
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    found = find_repository(tmp_path / "bare.git", [tmp_path])
    assert found is not None
    assert found.bare
    target = tmp_path / "export"
    assert export_head(tmp_path / "bare.git", target) == 3
    assert (target / "hot.py").read_text() == (repository / "hot.py").read_text()
    assert not (target / "link.py").exists()


@pytest.mark.parametrize(
    "part",
    [
        "alternates", "quoted", "commondir", "gitdir", "objects", "pack", "refs", "chain", "hash sign", "after dots",
        "form feed", "a link to a folder with links", "blanks",
    ],
)  # fmt: skip
def test_a_repository_that_reaches_outside_the_roots_is_not_read(
    repository: Path, git: Git, tmp_path: Path, part: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    secret = tmp_path / "repository"
    mine = root / "mine"
    mine.mkdir()
    git(mine, "init", "-q")
    inner = mine / ".git"
    match part:
        case "alternates":
            (inner / "objects/info/alternates").write_text(f"# objects\n{secret / '.git/objects'}\n")
        case "quoted":
            (inner / "objects/info/alternates").write_text(f'"{secret}/.git/\\157bjects"\n')
        case "commondir":
            (inner / "commondir").write_text(f"{secret / '.git'}\n")
        case "gitdir":
            shutil.rmtree(inner)
            inner.write_text(f"gitdir: {secret / '.git'}\n")
        case "objects":
            shutil.rmtree(inner / "objects")
            (inner / "objects").symlink_to(secret / ".git/objects")
        case "pack":
            (inner / "objects/pack/pack-1.pack").symlink_to(secret / ".git/HEAD")
        case "refs":
            shutil.rmtree(inner / "refs")
            (inner / "refs").symlink_to(secret / ".git/refs")
        case "chain":
            git(root, "init", "-q", "other")
            (inner / "objects/info/alternates").write_text("../../../other/.git/objects\n")
            (root / "other/.git/objects/info/alternates").write_text(f"{secret / '.git/objects'}\n")
        case "hash sign":  # begins a comment in `alternates`, not in `commondir`
            (inner / "#x").mkdir()
            (inner / "commondir").write_text("#x/../../../../repository/.git\n")
        case "after dots":  # Git removes `..` from an alternate's path before it follows links; others do it after
            (root / "a/b/c/d").mkdir(parents=True)
            (inner / "objects/deep").symlink_to(root / "a/b/c/d")
            (inner / "objects/info/alternates").write_text("deep/../../../../../repository/.git/objects\n")
        case "form feed":  # is part of a name
            (inner / "objects/x\f").mkdir()
            (inner / "objects/info/alternates").write_text("x\f/../../../../../repository/.git/objects\n")
        case "a link to a folder with links":
            shutil.rmtree(inner / "objects")
            (root / "stored").mkdir()
            (inner / "objects").symlink_to(root / "stored")
            (root / "stored/pack").symlink_to(secret / ".git/objects/pack")
        case "blanks":  # are a name, too
            (inner / "objects/ /info").mkdir(parents=True)
            (inner / "objects/info/alternates").write_text(" \n")
            (inner / "objects/ /info/alternates").write_text(f"{secret / '.git/objects'}\n")
    found = find_repository(mine, [root])
    assert found is not None
    assert "outside the folders that may be read" in (found.outside or "")
    inside = find_repository(mine, [tmp_path])
    assert inside is not None
    assert (inside.outside is None) is (part != "quoted")


@pytest.mark.parametrize("name", ["alternates", "commondir"])
@pytest.mark.parametrize("kind", ["long", "NUL", "FIFO", "link to a FIFO", "folder"])
def test_a_file_of_references_that_git_may_read_otherwise_is_refused(
    repository: Path, tmp_path: Path, name: str, kind: str
) -> None:
    file = repository / ".git" / ("objects/info/alternates" if name == "alternates" else name)
    bare = "." if name == "commondir" else ""
    match kind:
        case "long":
            file.write_text("\n" * 2_000_000 if name == "commondir" else "# more\n" * 300_000)
        case "NUL":
            file.write_text(f"{bare}\0\n")
        case "FIFO":
            os.mkfifo(file)
        case "link to a FIFO":
            os.mkfifo(tmp_path / "fifo")
            file.symlink_to(tmp_path / "fifo")
        case "folder":
            file.mkdir()
    assert "is not a small text file" in (_outside(repository / ".git", [tmp_path]) or "")


@pytest.mark.parametrize("place", ["HEAD", "refs/heads/other", "objects/pack/pack-1.pack", "info/grafts", "config"])
def test_a_repository_with_a_device_or_fifo_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setitem(settings()["limits"], "git_seconds", 1)
    file = repository / ".git" / place
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    assert "is a FIFO or a device" in (_outside(repository / ".git", [tmp_path]) or "")
    try:  # Git itself may have to read it before anything is known about the repository
        found = find_repository(repository, [tmp_path])
    except GitFailed as error:
        assert "took more than 1 s" in str(error)
    else:
        assert found is None or found.outside


def test_an_order_file_is_not_read(repository: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "order")  # reading it would never end
    git(repository, "config", "diff.orderFile", str(tmp_path / "order"))
    monkeypatch.setitem(settings()["limits"], "git_seconds", 5)
    assert len(read_history(repository)) == 5


def test_a_commit_of_the_year_three_million_is_passed_over(repository: Path) -> None:
    def run(*arguments: str, given: str | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=repository, input=given, check=True, capture_output=True, text=True
        )
        return done.stdout

    commit = re.sub(r"> \d+ ", "> 99999999999999 ", run("cat-file", "commit", "HEAD"))
    run("update-ref", "HEAD", run("hash-object", "-t", "commit", "-w", "--literally", "--stdin", given=commit).strip())
    assert len(read_history(repository)) == 4


def test_links_that_lead_nowhere_and_sockets_are_no_reason_to_refuse(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / ".git/loop").symlink_to("loop")
    (repository / ".git/gone").symlink_to("nothing")
    (repository / ".git/objects/info").mkdir(exist_ok=True)
    (repository / ".git/objects/info/alternates").write_text("# none\n\n")
    with socket.socket(socket.AF_UNIX) as listener:  # Git's own file system monitor makes one
        monkeypatch.chdir(repository / ".git")  # the path of a socket must be short
        listener.bind("fsmonitor--daemon.ipc")
        assert _outside(repository / ".git", [tmp_path]) is None


def test_a_work_tree_and_a_link_to_a_hook_are_read(repository: Path, git: Git, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", "../tree")
    (repository / ".git/hooks").mkdir(exist_ok=True)
    (repository / ".git/hooks/pre-commit").symlink_to("/bin/true")
    found = find_repository(tmp_path / "tree", [tmp_path])
    assert found is not None
    assert found.outside is None
    assert len(read_history(tmp_path / "tree")) == 5


ODD_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names of any bytes")


@ODD_BYTES
def test_a_name_that_is_not_utf8_is_shown_escaped_and_hides_nothing(tmp_path: Path) -> None:
    text = f"import os\npassword = {chr(34)}hT7xQ2pLm9Zk4Wv{chr(34)}\nos.system(input())\n"
    folder = os.fsencode(tmp_path) + b"/d\xff"
    os.mkdir(folder)
    for name in (b"caf\xe9.py", b"na\\me\xe9.py"):
        with open(folder + b"/" + name, "w") as file:
            file.write(text)
    write(tmp_path, {"other.py": "def f(x):\n    return eval(x)\n"})
    analysis = analyze(tmp_path)
    found = {(f.rule_id, piece.path) for f in analysis.findings for piece in f.evidence if isinstance(piece, FileLine)}
    for path in ("d\\xff/caf\\xe9.py", "d\\xff/na\\me\\xe9.py"):
        assert {("code.secret", path), ("code.ruff.S605", path)} <= found
    assert ("code.ruff.S307", "other.py") in found
    json.dumps([f.model_dump() for f in analysis.findings], ensure_ascii=False).encode()  # can be stored


@ODD_BYTES
def test_a_history_with_names_that_are_not_utf8_can_be_stored(repository: Path, git: Git) -> None:
    with open(os.fsencode(repository) + b"/caf\xe9.py", "w") as file:
        file.write("x = 1\n")
    git(repository, "-c", "i18n.commitEncoding=latin-1", "add", "-A")
    git(repository, "commit", "-q", "-m", "odd", author=os.fsdecode(b"Jos\xe9"))
    commit = read_history(repository)[0]
    assert "caf\\xe9.py" in commit.changes
    commit.author.encode()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("latin.py", b'# -*- coding: latin-1 -*-\nname = "Jos\xe9"\ndef f():\n    return eval(name)\n', 4),
        ("second.py", b'#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nname = "\x80"\neval(name)\n', 4),
        ("bom.py", b"\xef\xbb\xbfname = 1\neval(name)\n", 2),
        ("crlf.py", b'# coding: iso-8859-15\r\nname = "\xa4"\r\neval(name)\r\n', 3),
        ("__init__.py", b"# coding: latin-1\nname = '\xe9'\neval(name)\n", 3),
    ],
)
def test_python_is_read_in_the_encoding_that_it_declares(tmp_path: Path, name: str, content: bytes, line: int) -> None:
    (tmp_path / name).write_bytes(content)
    analysis = analyze(tmp_path)
    (finding,) = [f for f in analysis.findings if f.rule_id == "code.ruff.S307"]
    (place,) = finding.evidence
    assert isinstance(place, FileLine)
    assert (place.path, place.line) == (name, line)
    assert not {"code.ruff.E902", "code.ruff.invalid-syntax"} & rules(analysis).keys()
    assert analysis.result["inventory"]["not_parsed"] == []


@pytest.mark.parametrize(
    "coding", ["no-such", "rot13", "zlib", "idna", "punycode", "utf-7", "undefined", "unicode_escape"]
)
def test_an_odd_encoding_fails_nothing(tmp_path: Path, coding: str) -> None:
    (tmp_path / "odd.py").write_bytes(f"# coding: {coding}\n".encode() + b"x = '\xe9\\ud800\\x00'\n")
    write(tmp_path, {"other.py": "eval(input())\n"})
    analysis = analyze(tmp_path)
    assert rules(analysis)["code.ruff.S307"] == 1
    json.dumps(list(analysis.files.values()), ensure_ascii=False).encode()
    assert not any("\0" in text for text in analysis.files.values())


SECRET = "q7ZtK2mPx9" + "LvRw4Bn8Hd"
KEY_FILE = "-----BEGIN {0}-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END {0}-----\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".env.production", f"API_TOKEN={SECRET}\n"),
        (".env", f"export API_TOKEN='{SECRET}'\n"),
        ("Dockerfile", f"ENV API_KEY={SECRET}\n"),
        ("Dockerfile.prod", f"ENV API_KEY={SECRET}\n"),
        ("Makefile", f'deploy:\n\tcurl -H "X-Api-Key: {SECRET}" https://x\n'),
        (
            "keys/id_rsa",
            "-----BEGIN OPENSSH PRIVATE {0}-----\nb3BlbnNz\n-----END OPENSSH PRIVATE {0}-----\n".format("KEY"),
        ),
        ("server.pem", "-----BEGIN PRIVATE {0}-----\nb3BlbnNz\n-----END PRIVATE {0}-----\n".format("KEY")),
        (".npmrc", f"//registry.example.org/:_authToken={SECRET}\n"),
        ("main.tf", f'variable "x" {{}}\n  secret_key = "{SECRET}"\n'),
        ("prod.tfvars", f'db_password = "{SECRET}"\n'),
        ("note.ipynb", json.dumps({"cells": [{"source": [f'password = "{SECRET}"\n']}]}, indent=1)),
        ("script", f"#!/bin/sh\nTOKEN={SECRET} run\n"),
        ("app.rc", f"password={SECRET}"),
        ("generated.py", f'# Code generated by tool. DO NOT EDIT.\ntoken = "{SECRET}"\n'),
        ("build.js", f'/* @generated */\nconst apiKey = "{SECRET}";\n'),
    ],
)
def test_credentials_are_looked_for_in_every_text(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, {name: content})
    analysis = analyze(tmp_path)
    assert rules(analysis).get("code.secret") == 1
    assert SECRET not in str([f.model_dump() for f in analysis.findings]) + str(analysis.result)


@pytest.mark.parametrize(
    "comment",
    [
        "# Reports are generated by the nightly job.", "# Do not edit the config by hand.", "# autogenerated reports",
        "# only real markers (Code generated by x, DO NOT EDIT., @generated) skip a file",
        "# mail to bot@generated.example", "# This code generated an error",
    ],
)  # fmt: skip
def test_words_about_generating_hide_nothing(tmp_path: Path, comment: str) -> None:
    write(tmp_path, {"job.py": f"{comment}\nimport os\nos.system(input())\n"})
    assert rules(analyze(tmp_path))["code.ruff.S605"] == 1


def test_generated_code_is_left_out_but_for_credentials(tmp_path: Path) -> None:
    code = "package x\nimport os\nos.system(input())\n"
    write(tmp_path, {"a.py": f"# Code generated by protoc. DO NOT EDIT.\n{code}", "b.py": f"# @generated\n{code}",
                     "c.py": f"# This file is automatically @generated by Cargo.\n{code}",
                     "d.js": "/**\n * @generated SignedSource<<0>>\n */\neval(x)\n"})  # fmt: skip
    analysis = analyze(tmp_path)
    assert analysis.findings == []
    assert analysis.result["inventory"]["not_read"] == {"generated": 4}
    assert analysis.result["inventory"]["read_for_credentials_only"] == 4


def test_secrets_in_tests_weigh_less(tmp_path: Path) -> None:
    line = 'api_key = "q8Zr-42Lw-77Tn-Vb1x"\n'
    write(tmp_path, {"app.py": line, "tests/test_app.py": line})
    secrets = [finding for finding in analyze(tmp_path).findings if finding.rule_id == "code.secret"]
    assert [(s.severity, s.title.split(":")[0]) for s in secrets] == [
        (Severity.CRITICAL, "app.py"),
        (Severity.MEDIUM, "tests/test_app.py"),
    ]


def test_few_tests_for_much_code_are_a_finding(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "".join(f"x{n} = {n}\n" for n in range(600))})
    assert "code.few-tests" in rules(analyze(tmp_path))
    write(tmp_path, {"tests/test_app.py": "".join(f"assert {n}\n" for n in range(300))})
    found: dict[str, Any] = analyze(tmp_path).result
    assert found["test_ratio"]["ratio"] == 0.5
    assert "code.few-tests" not in found["totals"]["by_rule"]


def test_files_are_read_on_several_threads_at_once() -> None:
    class Switch:
        """Lets another thread on when it is collected, which can be while a tree is made."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            for _ in range(3000):
                pass

    files = take_inventory(Path(codebase.__file__).parents[1]).files
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for file in files:
                Switch()
                read_modules([file])
        except BaseException as error:  # noqa: BLE001 - told below, on the test's thread
            failures.append(error)

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(50, 5, 5)
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    assert failures == []

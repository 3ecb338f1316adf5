"""Import cycles: modules of which none can be loaded without the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from zora_core.models import Severity
from zora_core.skills.codebase.issue import Issue, place
from zora_core.skills.codebase.python import Import, Module

Graph = Mapping[str, Mapping[str, int]]


def import_graph(modules: Sequence[Module]) -> dict[str, dict[str, int]]:
    """Which file imports which while it loads, and on which line; imports in functions and for types are left out."""
    packages = {str(PurePosixPath(m.file.path).parent) for m in modules if m.file.path.endswith("__init__.py")}
    names: dict[str, str] = {}
    own: dict[str, str] = {}
    for module in modules:
        dotted = _dotted(module.file.path, packages)
        own[module.file.path] = dotted
        names.setdefault(dotted, module.file.path)
    for module in modules:
        names.setdefault(_dotted(module.file.path, None), module.file.path)
    graph: dict[str, dict[str, int]] = {}
    for module in modules:
        edges: dict[str, int] = {}
        for imported in module.imports:
            for target in _targets(imported, own[module.file.path], module.file.path, names):
                if target != module.file.path:
                    edges.setdefault(target, imported.line)
        graph[module.file.path] = edges
    return graph


def import_cycles(modules: Sequence[Module]) -> list[Issue]:
    """One issue for each set of modules that import each other, shown by its shortest cycle."""
    graph = import_graph(modules)
    files = {module.file.path: module.file for module in modules}
    issues = []
    for component in strong_components(graph):
        cycle = _shortest_cycle(graph, component)
        steps = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        more = f" ({len(component)} modules depend on each other)" if len(component) > len(cycle) else ""
        issues.append(
            Issue(
                rule_id="code.import-cycle",
                message="Import cycle: " + " → ".join([*cycle, cycle[0]]) + more,
                severity=Severity.MEDIUM,
                places=tuple(place(a, graph[a][b], files[a].lines) for a, b in steps),
                subject=" ".join(sorted(component)),
            )
        )
    return issues


def strong_components(graph: Graph) -> list[list[str]]:
    """The strongly connected components with more than one node (Tarjan 1972, without recursion), sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    found = []
    for root in sorted(graph):
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = low[root] = len(index)
        path.append(root)
        on_path.add(root)
        while work:
            node, successors = work[-1]
            following = next(successors, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = path[path.index(node) :]
                    del path[len(path) - len(component) :]
                    on_path.difference_update(component)
                    if len(component) > 1:
                        found.append(sorted(component))
            elif following not in index:
                index[following] = low[following] = len(index)
                path.append(following)
                on_path.add(following)
                work.append((following, iter(sorted(graph.get(following, ())))))
            elif following in on_path:
                low[node] = min(low[node], index[following])
    return sorted(found)


def _shortest_cycle(graph: Graph, component: Iterable[str]) -> list[str]:
    members = set(component)
    best: list[str] = []
    for start in sorted(members):
        parents: dict[str, str] = {}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            following = sorted(name for name in graph[node] if name in members)
            if start in following:
                cycle = [node]
                while cycle[-1] != start:
                    cycle.append(parents[cycle[-1]])
                if not best or len(cycle) < len(best):
                    best = cycle[::-1]
                break
            for name in following:
                if name not in parents and name != start:
                    parents[name] = node
                    queue.append(name)
        if len(best) == 2:
            break
    return best


def _dotted(path: str, packages: set[str] | None) -> str:
    """The module's name: from its outermost package, or from the target when `packages` is None."""
    pure = PurePosixPath(path)
    parts = [] if pure.stem == "__init__" else [pure.stem]
    for parent in pure.parents:
        if str(parent) == "." or (packages is not None and str(parent) not in packages):
            break
        parts.append(parent.name)
    return ".".join(reversed(parts)) or pure.stem


def _targets(imported: Import, importer: str, path: str, names: Mapping[str, str]) -> Iterable[str]:
    module = imported.module
    if imported.level:
        parts = importer.split(".")
        is_package = path.endswith("__init__.py")
        base = parts[: len(parts) - imported.level + (1 if is_package else 0)]
        module = ".".join([*base, module] if module else base)
    submodules = [names[full] for name in imported.names if (full := f"{module}.{name}") in names]
    if module in names and len(submodules) < max(1, len(imported.names)):
        yield names[module]
    yield from submodules

"""No import runs upwards, and no two folders import each other."""

from __future__ import annotations

from collections import defaultdict

import grimp
import pytest

# From top to bottom. What stands in one line does not import each other.
LAYERS = (
    {"cli"},
    {"server"},
    {"admin"},
    {"api", "autonomy", "importing"},
    {"agents", "journal"},
    {"client"},
    {"database", "effects", "workflows"},
    {"schedules", "skills"},
    {"settings"},
)

# The name by which the specification starts the command line.
DOOR = "zora_core.autonomy.cli"


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    graph = grimp.build_graph("zora_core", cache_dir=None, exclude_type_checking_imports=True)
    graph.remove_module(DOOR)
    return graph


def test_no_import_runs_upwards(imports: grimp.ImportGraph) -> None:
    layers = [grimp.Layer(*layer, independent=True) for layer in LAYERS]
    broken = imports.find_illegal_dependencies_for_layers(layers, containers={"zora_core"})
    shown = [" -> ".join([*sorted(r.heads), *sorted(r.tails)]) for found in broken for r in found.routes]
    assert shown == []


@pytest.mark.parametrize("package", ["zora_core", "zora_core.skills"])
def test_no_two_parts_import_each_other(imports: grimp.ImportGraph, package: str) -> None:
    depth = package.count(".") + 1
    uses: defaultdict[str, set[str]] = defaultdict(set)
    for module in imports.modules:
        for imported in imports.find_modules_directly_imported_by(module):
            parts = [name.split(".")[depth] for name in (module, imported) if name.startswith(f"{package}.")]
            if len(parts) == 2 and parts[0] != parts[1]:
                uses[parts[0]].add(parts[1])
    assert len(uses) > 5
    assert [(one, other) for one, others in uses.items() for other in others if one in uses.get(other, ())] == []

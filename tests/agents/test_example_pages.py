"""The example pages are read from the installation that runs, whichever one put them into the database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Zora
from zora_core.agents import context
from zora_core.cli.demo import demo_seed
from zora_core.settings import examples


async def test_seeded_pages_hold_no_path_of_an_installation_and_work_in_another(
    zora: Zora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await zora.call("seed_tenant", tenant_id=zora.tenant_id, seed=demo_seed())
    rows = await zora.call("list_frontend_configs", tenant_id=zora.tenant_id)
    assert rows
    assert str(examples().parent) not in json.dumps([row["config"] for row in rows])
    first = await zora.run("SAM", "review_climate_page", {"page": "climate"})
    assert first.status == "completed", first.error_message

    elsewhere = tmp_path / "another clone" / "examples"
    (elsewhere / "site").mkdir(parents=True)
    (elsewhere / "site" / "climate.html").write_text("<title>Elsewhere</title><p>Our mugs are eco-friendly.</p>")
    monkeypatch.setattr(context, "examples", lambda: elsewhere)
    second = await zora.run("SAM", "review_climate_page", {"page": "climate"})
    assert second.result is not None
    assert second.result["result"]["title"] == "Elsewhere"
    outside = await zora.run("SAM", "review_accessibility", {"target": "{examples}/../../../etc/passwd"})
    assert "lies outside" in str(outside.error_message)

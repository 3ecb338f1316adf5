"""The served API does what its OpenAPI document says, by schemathesis' checks; schemathesis.toml says how they run."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.conftest import Callers
from tests.conftest import Zora
from zora_core.models import Role

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: see [dev] in pyproject.toml")

if TYPE_CHECKING:
    from schemathesis import Case, HookContext, Response
    from schemathesis.core.failures import Failure

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


NO_GRAPH = re.compile(
    r"depends? on|two tasks have the key|refers to|a reference has|unknown task type|the step .* names|the step '"
    r"|an input is written|has no input|does not fit its target|its effect rests on"
)


# A descending range or a day that does not exist in a cron expression; a payload that only its type can check.
NO_SCHEDULE = re.compile(r"invalid cron expression|does not exist in any month|invalid payload for")


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Accept refusals that a JSON Schema cannot predict.

    These are cursors that the server did not issue, parameters that exclude each other (`cursor`, `query`, `offset`),
    names in a graph, the digest of a plan, and an id for the next request that is null in the answer it is taken from.
    """
    from schemathesis.openapi.checks import RejectedPositiveData

    if isinstance(failure, RejectedPositiveData) and (
        None in case.path_parameters.values() or NO_GRAPH.search(response.text) or NO_SCHEDULE.search(response.text)
    ):
        return False
    if not isinstance(failure, RejectedPositiveData) or not {"cursor", "query"} & set(case.query):
        return True
    details: list[dict[str, Any]] = response.json()["error"]["details"]
    return not {detail["field"] for detail in details} <= {"cursor", "offset"}


@contextmanager
def served(database_url: str) -> Iterator[str]:
    """The URL of a `zora serve` of its own."""
    command = [sys.executable, "-m", "zora_core.cli", "serve", "--port=0", "--no-worker", "--rate-limit=0"]
    server = subprocess.Popen(
        [*command, "--quiet"],
        env={**os.environ, "DATABASE_URL": database_url},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    try:
        line = server.stderr.readline()
        assert line.startswith("The admin pages are at "), line
        yield line.split()[5].removesuffix("/admin,")
    finally:
        server.terminate()
        server.communicate(timeout=30)


async def test_the_served_api_does_what_its_document_says(zora: Zora, callers: Callers, tmp_path: Path) -> None:
    # One run leaves something in every list.
    done = await zora.run("AEGIS", "check_climate_claims", {"claim": "Our refills are 100% climate neutral."})
    assert done.status == "completed"
    environment = {
        **os.environ,
        "ZORA_KEY": await callers.key(Role.FOUNDER),
        "SCHEMATHESIS_HOOKS": __name__,
        "PYTHONPATH": str(ROOT),
    }
    with served(zora.url) as url:
        command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIGURATION}", "run"]
        run = await asyncio.to_thread(
            subprocess.run,
            [*command, f"{url}/openapi.json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    print(run.stdout, run.stderr, sep="\n")
    assert run.returncode == 0

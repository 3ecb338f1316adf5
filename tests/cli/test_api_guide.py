"""The session with the API in docs/api.md, run as it is written there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.conftest import api  # noqa: F401 - a fixture
from tests.conftest import Zora
from zora_core.api.state import Api
from zora_core.server.serve import bind, serve, url_of

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
async def url(api: Api) -> AsyncIterator[str]:  # noqa: F811 - the fixture above
    with bind("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(serve(api, listener, None, sleep_seconds=30))
        yield url_of(listener)
        serving.cancel()
        await asyncio.wait([serving])


async def test_the_curl_session_creates_lists_filters_reads_cancels_and_retries(zora: Zora, url: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (script,) = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    environment = {
        **os.environ,
        "DATABASE_URL": zora.url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    session = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8000", url)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert session.returncode == 0, session.stderr
    decoder, answers, rest = json.JSONDecoder(), [], session.stdout
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].lstrip()
    listed, filtered, read, explained, cancelled, retried = answers
    assert [row["title"] for row in listed["data"]] == ["Review dashboard page"]
    assert filtered["pagination"]["total"] == 1
    assert (read["data"]["waiting_for"], read["data"]["priority"]) == ("run_at", 5)
    assert "Waits for its time" in explained["data"]["explanation"]
    assert cancelled["data"]["error_message"] == "cancelled: too late"
    assert retried["data"]["status"] == "pending"

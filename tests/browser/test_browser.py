"""Whether the tests of this folder can run here."""

from __future__ import annotations

from pathlib import Path


def test_the_machine_has_a_browser(program: str) -> None:
    assert Path(program).exists()

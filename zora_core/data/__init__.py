"""Constants with meaning, each with its source and year: one TOML file per subject, read once."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The data file `<name>.toml`, parsed; it is shared, so it must not be changed."""
    return tomllib.loads(source(name))


def source(name: str) -> str:
    """The text of the data file `<name>.toml`, for those who have to say what they rest on."""
    return (files(__name__) / f"{name}.toml").read_text("utf-8")

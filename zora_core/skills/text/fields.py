"""The strings inside a structure of dicts and lists, each with the path that names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string within `value` with its path, such as `payload.sources[2]`."""
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield from strings(item, f"{path}.{key}" if path else str(key))
        case list():
            for index, item in enumerate(value):
                yield from strings(item, f"{path}[{index}]")

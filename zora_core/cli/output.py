"""All output of commands: terminal escapes and invisible characters are escaped before anything is written.

While a command runs, standard output and error are streams that escape what a terminal would obey. Only the styles of
our own `Console` get past them, and its texts are escaped before they are styled.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, TextIO

import click

from zora_core.suggested_command import completed
from zora_core.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


class VisibleStream:
    """A text stream that escapes its input. It has no `buffer`, because bytes would not be escaped."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self.unescaped = stream

    def write(self, text: str) -> int:
        """Write the text, with what is not plain text escaped."""
        self.unescaped.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.unescaped, name)


@contextlib.contextmanager
def visible_output() -> Iterator[None]:
    """Escape what is written to standard output and error; after an unexpected error also its traceback."""
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, VisibleStream):
            setattr(sys, name, VisibleStream(stream))
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        sys.stdout, sys.stderr = before
        raise
    sys.stdout, sys.stderr = before


def print_error(message: str) -> None:
    """Write a line to standard error, in red on a terminal."""
    stream: Any = sys.stderr
    click.echo(click.style(visible(completed(message)), fg="red"), file=getattr(stream, "unescaped", stream))


def echo_rendered(rendered: str) -> None:
    """Write what a console of ours has rendered, with its styles on a terminal."""
    stream: Any = sys.stdout
    click.echo(rendered, nl=False, file=getattr(stream, "unescaped", stream), color=stream.isatty() or None)


def new_console(*, stderr: bool = False) -> Console:
    """A console for tables and styled texts, whose texts are escaped."""
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class VisibleConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for found, style, control in super().render(renderable, options):
                yield Segment(found if control else visible(found), style, control)

        def print(self, *objects: Any, crop: bool = False, **settings: Any) -> None:
            """Print without cutting lines that are wider than the terminal, or than 80 columns in a pipe.

            A text with a command in it is left to the terminal to wrap: a line break of ours would be copied, too.
            """
            settings.setdefault("soft_wrap", any(isinstance(shown, Text) and "`" in shown.plain for shown in objects))
            super().print(*objects, crop=crop, **settings)

        @property
        def file(self) -> IO[str]:
            found: Any = super().file
            return getattr(found, "unescaped", found)  # type: ignore[no-any-return]

        @file.setter
        def file(self, new: IO[str]) -> None:
            self._file = new

    return VisibleConsole(stderr=stderr, highlight=False)

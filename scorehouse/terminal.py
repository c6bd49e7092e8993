"""What the command prints: answers to standard output, progress and complaints to standard error.

Colour and progress bars are for terminals; a pipe gets plain lines of any length, to be searched and cut.
"""

import os
from collections.abc import Container, Sequence
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
EXIT_CODES = "Exit codes: 0 all went well, 1 something did not (it is said what), 2 the command line is wrong"

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""Names of files and answers of services are told as they are, but must not steer a terminal."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence: rich would exit here, and `up | head -1` or `push | head -1` is not meant to end them."""
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - its descriptor alone is wanted
            os.dup2(nowhere.fileno(), self.file.fileno())


def out() -> Console:
    """The console for answers."""
    return _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def err() -> Console:
    """The console for progress and complaints."""
    return _Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, text: str | Text = "", style: str | None = None) -> None:
    """Print a line. A terminal that is gone (SIGHUP) must not keep what runs from being stopped."""
    with suppress(OSError):
        console.print(text.translate(_CONTROL) if isinstance(text, str) else text, style=style)


def complain(text: str) -> None:
    """Print why the command ends."""
    say(err(), f"scorehouse: {text}", "red")


def count(number: int, what: str) -> str:
    """`1 document`, `2,000 documents`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def in_columns(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Rows as lines whose cells stand below each other; those of the columns `right` end below each other.

    As lines, for a terminal that is too narrow is to break them, and not the cells.
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_padded, row, widths, map(right.__contains__, range(len(row))))).rstrip() for row in rows]


def _padded(cell: str, width: int, is_right: bool) -> str:
    space = " " * (width - cell_len(cell))  # not str.ljust: a Korean letter is two columns wide
    return space + cell if is_right else cell + space


def progress_bar(what: str = "documents") -> Progress:
    """A bar on standard error, and how many are done of `what`; nothing at all where that is no terminal."""
    return bare_bar(TextColumn(f"{{task.fields[done]}} {what}"), TimeRemainingColumn())


def bare_bar(*more: ProgressColumn) -> Progress:
    """The same with what it is about, the bar, its percentage and `more` columns."""
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *more,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class Waits:
    """Says once that a service is waited for, and once that it is back, however many requests wait."""

    def __init__(self, console: Console, patience_s: float | None) -> None:
        """`patience_s` None is for ever."""
        self._console = console
        self._patience_s = patience_s
        self._waiting = False

    def tell(self, failure: Exception, _seconds: float) -> None:
        """There was a failure that is waited out."""
        if not self._waiting:
            self._waiting = True
            limit = "until it answers" if self._patience_s is None else f"for up to {self._patience_s:g} s"
            say(self._console, f"{failure}; trying again {limit} …", "yellow")

    def end(self) -> None:
        """There was an answer."""
        if self._waiting:
            self._waiting = False
            say(self._console, "the service answers again", "yellow")

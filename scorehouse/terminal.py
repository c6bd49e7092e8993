"""What the command prints: answers to standard output, progress and complaints to standard error.

Colour and progress bars are for terminals; a pipe gets plain lines of any length, to be searched and cut.
"""

import os
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text


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
        console.print(text, style=style)


def complain(text: str) -> None:
    """Print why the command ends."""
    say(err(), f"scorehouse: {text}", "red")


def progress_bar() -> Progress:
    """A bar on standard error; nothing at all where that is no terminal."""
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]} documents"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

"""What the command prints: answers to standard output, progress and complaints to standard error.

Colour and progress bars are for terminals; a pipe gets plain lines of any length, to be searched and cut.
"""

from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text


def out() -> Console:
    """The console for answers."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def err() -> Console:
    """The console for progress and complaints."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


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

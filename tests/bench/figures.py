"""Measured figures, beside the peer or the limit that each is held against, and how they are told."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `ratio` is the value by its peer or limit, taken in the same run."""

    what: str
    value: str
    against: str
    """The peer's figure, or the limit."""
    ratio: float
    asked: float | None
    """The least ratio (`at_least`) or the greatest that is asked; None where nothing is."""
    at_least: bool

    @property
    def is_met(self) -> bool:
        """Whether it is as it should be."""
        if self.asked is None:
            return True
        return self.ratio >= self.asked if self.at_least else self.ratio <= self.asked

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table."""
        if self.asked is None:
            return (self.what, self.value, self.against, f"{self.ratio:.2f}" if self.against else "", "", "")
        asked = f"{'≥' if self.at_least else '≤'} {self.asked:g}"
        return (self.what, self.value, self.against, f"{self.ratio:.2f}", asked, "yes" if self.is_met else "NO")


_BEGAN = time.monotonic()

HEADINGS = ("measured", "value", "peer or limit", "ratio", "asked", "met")


def limited(what: str, value: float, limit: float | None, unit: str) -> Figure:
    """A figure that may not pass a limit, where there is one."""
    if limit is None:
        return Figure(what, f"{value:,.1f} {unit}", "", 0.0, None, at_least=False)
    return Figure(what, f"{value:,.1f} {unit}", f"{limit:,g} {unit}", value / limit, 1.0, at_least=False)


def compared(what: str, value: float, peer: float, unit: str, peer_name: str, asked: float) -> Figure:
    """A rate that is to reach a share of a peer's."""
    told = f"{peer_name} {peer:,.0f} {unit}"
    return Figure(what, f"{value:,.0f} {unit}", told, value / peer, asked, at_least=True)


def at_most(what: str, value: float, peer: float, unit: str, peer_name: str, asked: float | None) -> Figure:
    """A time that may be so many times a peer's, or that is only told beside it."""
    told = f"{peer_name} {peer:,.1f} {unit}"
    return Figure(what, f"{value:,.1f} {unit}", told, value / peer, asked, at_least=False)


def tell(what: str) -> None:
    """Print how far a long benchmark is, with the minutes and seconds since this module was loaded."""
    elapsed_s = int(time.monotonic() - _BEGAN)
    Console().print(f"{elapsed_s // 60:3}:{elapsed_s % 60:02} {what}", style="dim", highlight=False, soft_wrap=True)


def print_figures(title: str, figures: Sequence[Figure]) -> None:
    """Print them as a table."""
    print_table(title, HEADINGS, [figure.cells for figure in figures])


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print any table."""
    table = Table(*headings, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def markdown(figures: Sequence[Figure]) -> str:
    """The figures for a document."""
    return markdown_table(HEADINGS, [figure.cells for figure in figures])


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Any table for a document."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def machine() -> str:
    """The machine, in words."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory_gb:.0f} GB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")

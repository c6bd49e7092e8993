"""Every benchmark, one after the other, and the page that tells of them.

    python -m tests.bench.run [--only first pushes formats stored] [--write]

With --write the tables go to docs/performance.md, each in place of the one before. The load stays on this machine and
ends by itself. Returns 1 where a figure is missed.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.bench import first_answers, formats, import_gigabyte, pushes, stored_million
from tests.bench.figures import Figure, machine, markdown, print_figures

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of them."""

    title: str
    measure: Callable[[], list[Figure]]


BENCHMARKS = {
    "first": Benchmark("From push to first answer, embedded stores", first_answers.measure),
    "pushes": Benchmark("Storing results, against the bare driver", pushes.measure),
    "formats": Benchmark("Reading harnesses' files, on one core", formats.measure),
    "imports": Benchmark("Importing a gigabyte", import_gigabyte.measure),
    "stored": Benchmark("Reading from a million stored results", stored_million.measure),
}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    console = Console()
    console.print(machine())
    missed = False
    for name in options.only:
        benchmark = BENCHMARKS[name]
        console.print(f"measuring: {benchmark.title.lower()} …", style="dim")
        figures = benchmark.measure()
        print_figures(benchmark.title, figures)
        missed |= not all(figure.is_met for figure in figures)
        if options.write:
            write_table(name, figures)
    return int(missed)


def write_table(name: str, figures: list[Figure]) -> None:
    """Replace the table between a benchmark's two marks on the page."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"{PAGE} has no place for {name}: it needs the marks {begin.strip()} and {end}")
    told = f"{machine()}; {datetime.now(UTC):%Y-%m-%d}.\n\n{markdown(figures)}"
    PAGE.write_text(f"{before}{begin}{told}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

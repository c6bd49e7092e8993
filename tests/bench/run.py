"""Every benchmark, one after the other, and the page that tells of them.

    python -m tests.bench.run [--only first pushes formats stored statistics analysis] [--write]
    python -m tests.bench.run --only analysis [--answers 10000000] [--dsn mysql://user:password@host:port] [--write]

With --write the tables go to docs/performance.md, each in place of the one before, and the plots to docs/plots. The
load stays on this machine, but for a server that a DSN names, and ends by itself. Returns 1 where a figure is missed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.bench import analysis, first_answers, formats, import_gigabyte, pushes, statistics, stored_million
from tests.bench.figures import Figure, machine, markdown, print_figures
from tests.bench.pages import split_page, write_table
from tests.bench.plots import draw_backfill, draw_latency
from tests.bench.servers import sql_server

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
PLOTS = PAGE.parent / "plots"
ANALYSIS = "analysis"


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
    "statistics": Benchmark("Comparing models", statistics.measure),
}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    every = [*BENCHMARKS, ANALYSIS]
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--answers", type=int, default=analysis.DEFAULT_ANSWERS, help="of the analysis benchmark")
    parser.add_argument("--dsn", help="of the analysis benchmark's SQL server; without it a MariaDB is started")
    options = parser.parse_args()
    Console().print(machine())
    if options.write:
        check_places(options.only, options.dsn)
    is_met = True
    for name in options.only:
        if name == ANALYSIS:
            is_met &= run_analysis(options.answers, options.dsn, write=options.write)
        else:
            is_met &= run(name, write=options.write)
    return int(not is_met)


def run(name: str, *, write: bool) -> bool:
    """Measure, print, write where that is wanted; whether every figure is met."""
    benchmark = BENCHMARKS[name]
    Console().print(f"measuring: {benchmark.title.lower()} …", style="dim")
    figures = benchmark.measure()
    print_figures(benchmark.title, figures)
    if write:
        write_table(PAGE, name, machine(), markdown(figures))
    return all(figure.is_met for figure in figures)


def run_analysis(answers: int, dsn: str | None, *, write: bool) -> bool:
    """The same of the analysis service, on the server at hand, with plots."""
    measured = analysis.measure(answers, dsn)
    print_figures(f"Analysis of {answers:,} answers, {measured.server}", measured.figures)
    if write:
        write_table(PAGE, _mark(measured.engine), f"{machine()}; {measured.server}", markdown(measured.figures))
        draw_latency(measured.points, PLOTS / f"latency-{measured.engine}.svg")
        draw_backfill(measured.backfill, PLOTS / f"backfill-{measured.engine}.svg")
    return all(figure.is_met for figure in measured.figures)


def _mark(engine: str) -> str:
    return f"{ANALYSIS}-{engine}"


def check_places(names: Sequence[str], dsn: str | None) -> None:
    """End here, not after minutes of measuring, where the page has no place for a table."""
    engine = "mariadb" if dsn is None else sql_server(dsn).engine
    for name in names:
        split_page(PAGE, _mark(engine) if name == ANALYSIS else name)


if __name__ == "__main__":
    sys.exit(main())

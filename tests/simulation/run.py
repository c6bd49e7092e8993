"""Every simulation of the statistics, one after the other, and the page that tells of them.

    python -m tests.simulation.run [--only wilson clusters …] [--write]

With --write the tables go to docs/statistics.md, each in place of the one before. Seeds are fixed: equal releases of
numpy find equal numbers. Some fifteen minutes on two cores. Returns 1 where something promised is not kept.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.bench.figures import machine, markdown_table, print_table, tell
from tests.bench.pages import split_page, write_table
from tests.simulation import (
    binary_means,
    clustered_tests,
    false_positives,
    paired_binary,
    paired_means,
    ranks,
    repeats,
    sequences,
    steps,
    weighted,
)
from tests.simulation.promises import HEADINGS, Promise

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


@dataclass(frozen=True, slots=True)
class Simulation:
    """One of them."""

    title: str
    simulate: Callable[[int], list[Promise]]
    """What so many rounds a cell find."""
    rounds: int
    """Of the table; 0 where all outcomes are enumerated."""


SIMULATIONS: Mapping[str, Simulation] = {
    "wilson": Simulation("Mean of one right-or-wrong attempt a question", binary_means.wilson_coverage, 0),
    "attempts": Simulation("Mean of several attempts a question", binary_means.attempts_coverage, 4000),
    "clusters": Simulation("Mean of questions in clusters", binary_means.cluster_coverage, 10_000),
    "bounds": Simulation("Bounds for whatever failures would have scored", binary_means.bounds_coverage, 20_000),
    "tango": Simulation("Difference of right-or-wrong answers", paired_binary.tango_coverage, 0),
    "mcnemar": Simulation("Test of right-or-wrong answers", paired_binary.mcnemar_size, 0),
    "t": Simulation("Difference of graded scores", paired_means.t_coverage, 10_000),
    "bootstrap": Simulation("Difference of graded scores by resampling", paired_means.bootstrap_coverage, 4000),
    "flips": Simulation("Sign flips", paired_means.sign_flip_size, 4000),
    "comparison": Simulation("Tests of graded scores as chosen", paired_means.comparison_size, 10_000),
    "weighted": Simulation("Difference over weighted benchmarks", weighted.weighted_coverage, 4000),
    "power": Simulation("Detectable difference", paired_means.power_at_detectable_difference, 5000),
    "cluster-tests": Simulation("Tests by cluster", clustered_tests.cluster_tests_size, 20_000),
    "bootstraps": Simulation("Bootstraps of questions in clusters", clustered_tests.bootstraps_size, 4000),
    "ranks": Simulation("Ranks", ranks.ranks_coverage, 5000),
    "sequences": Simulation("Runs that are going on", sequences.sequences_coverage, 2000),
    "repeats": Simulation("Repeats", repeats.repeats_coverage, 3000),
    "identical": Simulation("Identical models, through the public API", false_positives.api_false_positives, 20_000),
    "steps": Simulation("Steps in a series", steps.steps_found, 1000),
}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=SIMULATIONS, default=list(SIMULATIONS))
    parser.add_argument("--write", action="store_true", help="put the tables into docs/statistics.md")
    options = parser.parse_args()
    Console().print(machine())
    if options.write:
        for name in options.only:
            split_page(PAGE, _mark(name))
    is_met = True
    for name in options.only:
        is_met &= run(name, write=options.write)
    return int(not is_met)


def run(name: str, *, write: bool) -> bool:
    """Simulate, print, write where that is wanted; whether everything promised is kept."""
    simulation = SIMULATIONS[name]
    tell(f"simulating: {simulation.title.lower()} …")
    promises = simulation.simulate(simulation.rounds)
    rows = [promise.cells for promise in promises]
    print_table(simulation.title, HEADINGS, rows)
    if write:
        write_table(PAGE, _mark(name), simulation.title, markdown_table(HEADINGS, rows))
    return all(promise.is_met for promise in promises)


def _mark(name: str) -> str:
    return f"simulation-{name}"


if __name__ == "__main__":
    sys.exit(main())

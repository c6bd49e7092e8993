"""Differences over weighted benchmarks, small ones among them on which two models hardly differ."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.stats import norm

from analysis_service.comparison.weighted import combine
from analysis_service.stats.paired import Paired, compare_counts
from shared.registry.load import load_registry
from tests.simulation.promises import FEW_EACH, F, Promise, Range

Benchmarks = Sequence[tuple[int, float]]
"""Of each its questions, and the share of them on which one or the other is right."""

BENCHMARKS: Sequence[tuple[Benchmarks, Sequence[float]]] = (
    (((20, 0.2), (20, 0.2)), (1, 1)),
    (((20, 0.5), (500, 0.05)), (1, 1)),
    (((30, 0.2), (500, 0.2)), (10, 1)),
    (((30, 0.1), (500, 0.3)), (1, 1)),
    (((20, 0.05), (14_042, 0.2)), (1, 1)),
    (((20, 0.1),) * 6, (1,) * 6),
)
"""With their weights."""
LEANS = (0.0, 0.5, 1.0)
"""By how much more of these questions a is right than b."""
_SIZE = Range(0, 0.06)
_SPEC = next(iter(load_registry().benchmarks.values()))


def weighted_coverage(rounds: int) -> list[Promise]:
    """Of the interval, and how often the test finds a difference that is not there."""
    random = np.random.default_rng(91)
    told, normal, rejected = [], [], []
    for benchmarks, weights in BENCHMARKS:
        share = np.array(weights, np.float64) / sum(weights)
        for lean in LEANS:
            drawn = [_draw(random, rounds, n, differ, lean) for n, differ in benchmarks]
            delta = float(share @ [differ * lean for _, differ in benchmarks])
            found = [combine(of_parts, share, [_SPEC] * len(share), 0.95) for of_parts in zip(*drawn, strict=True)]
            told.append(_covered([(pair.ci_low, pair.ci_high) for pair in found], delta))
            error = norm.ppf(0.975) * np.nan_to_num([pair.se for pair in found])
            middle = np.array([pair.delta for pair in found])
            normal.append(_covered(np.stack([middle - error, middle + error], axis=1), delta))
            if lean == 0:
                rejected.append(float(np.mean([pair.p <= 0.05 for pair in found])))
    what = "2 and 6 benchmarks of 20 … 14,042 questions"
    return [
        Promise(f"MOVER, {what}", np.array(told), rounds, each=FEW_EACH, mean=Range(0.94)),
        Promise(f"for comparison: delta ± z × se, {what}", np.array(normal), rounds),
        Promise(f"its test, {what}, no difference", np.array(rejected), rounds, each=_SIZE, nominal="5 %"),
    ]


def _draw(random: np.random.Generator, rounds: int, n: int, differ: float, lean: float) -> list[Paired]:
    wins = differ * (1 + lean) / 2
    counts = random.multinomial(n, [wins, differ - wins, 1 - differ], size=rounds).tolist()
    return [_compare(n, won, lost) for won, lost, _ in counts]


@cache
def _compare(n: int, wins: int, losses: int) -> Paired:
    return compare_counts(n, wins, wins, losses, 0.95)[0]


def _covered(limits: Sequence[tuple[float, float]] | F, true: float) -> float:
    low, high = np.array(limits).T
    return float(np.mean((low <= true + 1e-12) & (true - 1e-12 <= high)))

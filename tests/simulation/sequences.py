"""Confidence sequences of a run that is going on, looked at after every question."""

from collections.abc import Callable, Mapping

import numpy as np

from analysis_service.stats.sequences import confidence_sequence
from tests.simulation.promises import AT_LEAST_95, F, Promise

Random = np.random.Generator


def _right_or_wrong(random: Random, n: int) -> F:
    return np.sign(random.random(n) - 0.5) * (random.random(n) < 0.2)


def _one_sided(random: Random, n: int) -> F:
    """Mostly equal, some much worse, the mean taken out by many small gains."""
    return np.where(random.random(n) < 0.02, -0.98, 0.02)


def _graded(random: Random, n: int) -> F:
    return np.asarray(random.beta(2, 3, n) - random.beta(2, 3, n))


DIFFERENCES: Mapping[str, Callable[[Random, int], F]] = {
    "right or wrong": _right_or_wrong,
    "rarely worse": _one_sided,
    "graded": _graded,
}


def sequences_coverage(rounds: int) -> list[Promise]:
    """Of all looks at once, at independent questions and at those of a run of known length."""
    random = np.random.default_rng(101)
    promises = []
    for n in (200, 1000):
        endless, finite = [], []
        for draw in DIFFERENCES.values():
            endless.append(np.mean([_holds(draw(random, n), 0.0, None) for _ in range(rounds)]))
            finite.append(np.mean([_holds_in_run(draw(random, n), random) for _ in range(rounds)]))
        what = f"looked at after each of {n:,} questions"
        promises.append(Promise(f"confidence sequence, {what}", np.array(endless), rounds, each=AT_LEAST_95))
        promises.append(Promise(f"the same of a run of {n:,}", np.array(finite), rounds, each=AT_LEAST_95))
    return promises


def _holds_in_run(values: F, random: Random) -> bool:
    return _holds(random.permutation(values), float(values.mean()), len(values))


def _holds(values: F, truth: float, of: int | None) -> bool:
    # Of a run the last look leaves no room at all but that of rounding.
    low, high = confidence_sequence(values, lowest=-1, highest=1, confidence=0.95, of=of)
    return bool((low <= truth + 1e-9).all() and (high >= truth - 1e-9).all())

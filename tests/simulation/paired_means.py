"""Differences of two models' means of graded scores: Student's t, sign flips, Poisson bootstrap, and power."""

from collections.abc import Callable, Mapping

import numpy as np

from analysis_service.stats.bootstrap import bootstrap_means
from analysis_service.stats.intervals import t_interval
from analysis_service.stats.paired import compare_paired
from analysis_service.stats.power import detectable_difference
from analysis_service.stats.sign_flips import sign_flips
from tests.simulation.promises import AT_MOST_5, SIZE_5, F, Promise, Range, covered, from_30

Random = np.random.Generator
Draw = Callable[[Random, tuple[int, int]], F]
_BATCH = 50
_DRAWS = 1000


def _graded(random: Random, shape: tuple[int, int]) -> F:
    """Scores of two models of one kind, by a grader of five grades, on questions of various hardness."""
    hardness = random.beta(2, 1, shape)
    return (random.binomial(4, hardness) - random.binomial(4, hardness)) / 4.0


def _skewed(random: Random, shape: tuple[int, int]) -> F:
    """Mostly the same, else a is better by a little or worse by much; the mean is 0."""
    worse = random.random(shape) < 0.05
    return np.where(worse, -0.7 * random.random(shape), 0.7 * 0.05 / 0.95 * random.random(shape))


def _judged(random: Random, shape: tuple[int, int]) -> F:
    """Differences of scores without grades."""
    return np.asarray(random.beta(2, 3, shape) - random.beta(2, 3, shape))


DIFFERENCES: Mapping[str, Draw] = {"graded": _graded, "without grades": _judged, "skewed": _skewed}


def t_coverage(rounds: int) -> list[Promise]:
    """Of the t interval of the mean difference."""
    random = np.random.default_rng(71)
    promises = []
    for n in (30, 100, 500, 2000):
        shares = []
        for draw in (_graded, _judged):
            differences = draw(random, (rounds, n))
            se = differences.std(axis=1, ddof=1) / np.sqrt(n)
            shares.append(float(covered(*t_interval(differences.mean(axis=1), se, n - 1, 0.95), 0)))
        promises.append(from_30(f"paired t, n = {n:,}, with grades and without", n, shares, rounds))
    return promises


def bootstrap_coverage(rounds: int) -> list[Promise]:
    """Of percentiles of the Poisson bootstrap."""
    random = np.random.default_rng(72)
    promises = []
    for n in (30, 100, 500):
        shares = []
        for draw in (_graded, _judged):
            differences = draw(random, (rounds, n))
            limits = [
                found
                for start in range(0, rounds, _BATCH)
                for found in bootstrap_means(
                    list(differences[start : start + _BATCH]), draws=_DRAWS, seed=start, confidence=0.95
                )
            ]
            low, high, _ = np.array(limits).T
            shares.append(float(covered(low, high, 0)))
        promises.append(_told_or_asked(n, shares, rounds))
    return promises


def _told_or_asked(n: int, shares: list[float], rounds: int) -> Promise:
    what = f"Poisson bootstrap of {_DRAWS:,} draws, n = {n}, with grades and without"
    if n < 100:
        return Promise(f"{what} (too narrow by nature: t is what counts)", np.array(shares), rounds)
    return from_30(what, n, shares, rounds)


def sign_flip_size(rounds: int) -> list[Promise]:
    """Of sign flips where either sign is as likely: exact on a grid and of few differences, else 10,000 flips."""
    random = np.random.default_rng(73)
    promises = []
    for n, draw, what in (
        (30, _graded, "with grades (exact)"),
        (15, _judged, "without grades (exact)"),
        (60, _judged, "without grades (10,000 flips)"),
    ):
        some = rounds if n < 60 else max(rounds // 4, 1)
        p = [sign_flips(own, seed)[0] for seed, own in enumerate(draw(random, (some, n)))]
        share = np.array([np.mean(np.array(p) <= 0.05)])
        promises.append(Promise(f"sign flips, n = {n}, {what}", share, some, each=AT_MOST_5, nominal="5 %"))
    return promises


def comparison_size(rounds: int) -> list[Promise]:
    """Of whichever test is taken for graded scores, on either side of where t takes the place of sign flips."""
    random = np.random.default_rng(74)
    promises = []
    for n in (50, 120, 200, 1000):
        differences = _graded(random, (rounds, n))
        compared = [compare_paired(own, np.zeros(n), confidence=0.95, lowest=-1) for own in differences]
        told = " or ".join(sorted({pair.test for pair in compared if pair.test is not None}))
        share = np.array([np.mean([pair.p <= 0.05 for pair in compared])])
        asked = SIZE_5 if "paired t" in told else AT_MOST_5
        promises.append(Promise(f"{told}, n = {n:,}", share, rounds, each=asked, nominal="5 %"))
    return promises


def power_at_detectable_difference(rounds: int) -> list[Promise]:
    """How often the detectable difference is detected where it is the true one."""
    random = np.random.default_rng(75)
    shares = []
    for n in (100, 500, 2000):
        noise = _judged(random, (rounds, n))
        sd = 0.2 * np.sqrt(2)  # of a beta distribution of 2 and 3, twice
        differences = noise + float(detectable_difference(sd / np.sqrt(n), 0.95))
        se = differences.std(axis=1, ddof=1) / np.sqrt(n)
        low, _ = t_interval(differences.mean(axis=1), se, n - 1, 0.95)
        shares.append(float(np.mean(low > 0)))
    what = "found by paired t where the true difference is the detectable one, n = 100, 500, 2,000"
    return [Promise(what, np.array(shares), rounds, each=Range(0.78, 0.82), nominal="80 %")]

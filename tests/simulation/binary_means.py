"""Intervals of the mean of right-or-wrong answers: one attempt a question, several, and failures of unknown score."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from analysis_service.stats.clusters import FEW_CLUSTERS, clustered_means
from analysis_service.stats.intervals import Limits, clopper_pearson, clustered_wilson, t_interval, wilson
from analysis_service.stats.means import Scores, estimate_means, units_of_clusters
from tests.simulation.promises import AT_LEAST_95, FEW_EACH, FEW_MEAN, MANY, F, Promise, Range, covered, from_30

ATTEMPTS = (2, 8, 32)
CORRELATIONS = (0.0, 0.2, 0.5, 0.8)
"""Of two attempts at one question: 0 where all questions are as hard, 1 where each is always or never right."""


def wilson_coverage(rounds: int) -> list[Promise]:
    """Of Wilson's interval, over all outcomes; `rounds` does not matter."""
    del rounds
    p = np.linspace(0.05, 0.95, 181)
    return [
        from_30(f"Wilson, one attempt, n = {n:,}, p .05 … .95", n, _exact_coverage(n, p), None)
        for n in (30, 100, 500, 1319, 14_042)
    ]


def _exact_coverage(n: int, p: F) -> F:
    k = np.arange(n + 1)
    low, high = wilson(k, n, 0.95)
    return np.asarray((binom.pmf(k, n, p[:, None]) * ((low <= p[:, None]) & (p[:, None] <= high))).sum(axis=1))


def attempts_coverage(rounds: int) -> list[Promise]:
    """Of Wilson's interval on the effective n, with several attempts at questions that are not equally hard."""
    random = np.random.default_rng(61)
    promises = []
    for n in (30, 100, 500):
        middle = np.array([0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
        ends = np.array([1 / n, 2 / n])
        found, plain = _attempts_found(n, np.concatenate([middle, ends, 1 - ends]), rounds, random)
        at_ends = np.arange(found.shape[1]) >= len(middle)
        what = f"2, 8, 32 attempts at {n} questions"
        promises += [
            from_30(f"Wilson on effective n, {what}, p .05 … .95", n, found[:, ~at_ends].ravel(), rounds),
            Promise(
                f"the same near 0 and 1, from one expected answer of its kind at p = {1 / n:.3g}",
                found[:, at_ends].ravel(),
                rounds,
                each=Range(0.92, 1),
                mean=Range(0.94, 1),
            ),
            Promise("for comparison: mean ± t × se there", plain[:, at_ends].ravel(), rounds),
        ]
    for n in (30, 100, 500):
        shares = _uneven_found(n, np.array([0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95]), rounds, random)
        what = f"8 attempts at a quarter of {n} questions, 1 at the others, p .05 … .95"
        each, mean = (MANY, None) if n >= 500 else (Range(0.9, 1), FEW_MEAN)
        promises.append(Promise(f"Wilson on effective n, {what}", shares, rounds, each, mean))
    return promises


def _uneven_found(n: int, p: F, rounds: int, random: np.random.Generator) -> F:
    """Coverage by correlation and p where some questions have more attempts, as with all runs of models."""
    attempts = np.where(np.arange(n) % 4 == 0, 8, 1)
    count = np.tile(attempts, rounds).astype(np.float64)
    row = np.repeat(np.arange(rounds), n)
    shares = []
    for correlation in CORRELATIONS:
        for truth in p.tolist():
            right = draw_answers((rounds, n), truth, correlation, attempts, random).ravel().astype(np.float64)
            units = units_of_clusters(row, right, count, rounds, kind="cr1")
            total = right.reshape(rounds, n).sum(axis=1)
            scores = Scores(np.full(rounds, float(attempts.sum())), total, total)
            found = estimate_means(scores, units, are_questions=True, confidence=0.95)
            shares.append(float(covered(*found.limits, truth)))
    return np.array(shares)


def _attempts_found(n: int, p: F, rounds: int, random: np.random.Generator) -> tuple[F, F]:
    """Coverage by (attempts, correlation) and p, of the interval and of mean ± t × se."""
    found, plain = [], []
    for attempts in ATTEMPTS:
        for correlation in CORRELATIONS:
            pairs = [
                _attempts_limits(draw_answers((rounds, n), truth, correlation, attempts, random) / attempts)
                for truth in p.tolist()
            ]
            found.append([float(covered(*one, truth)) for (one, _), truth in zip(pairs, p, strict=True)])
            plain.append([float(covered(*other, truth)) for (_, other), truth in zip(pairs, p, strict=True)])
    return np.array(found), np.array(plain)


def _attempts_limits(means: F) -> tuple[Limits, Limits]:
    n = means.shape[1]
    mean, se = means.mean(axis=1), means.std(axis=1, ddof=1) / np.sqrt(n)
    se[se < 1e-12] = 0
    return clustered_wilson(mean, se, n, 0.95), t_interval(mean, se, n - 1, 0.95)


def draw_answers(
    shape: tuple[int, int], p: float, correlation: float, attempts: int | NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Right answers of so many attempts at each question, whose own chances are beta-distributed around p."""
    if correlation == 0:
        return random.binomial(attempts, p, shape)
    units = (1 - correlation) / correlation
    return random.binomial(attempts, random.beta(p * units, (1 - p) * units, shape))


def cluster_coverage(rounds: int) -> list[Promise]:
    """Of Wilson's interval on the effective n, with questions in few clusters of a metadata field."""
    random = np.random.default_rng(62)
    promises = []
    for n_clusters in (5, 10, 20, 50):
        truths, shares, plain = [], [], []
        for p, correlation, sizes in _cluster_cells(n_clusters, rounds, random):
            right = draw_answers(sizes.shape, p, correlation, sizes, random)
            row = np.repeat(np.arange(rounds), n_clusters)
            mean, se, df, _ = clustered_means(row, right.ravel(), sizes.ravel(), rounds, kind="cr2")
            truths.append(p)
            shares.append(float(covered(*clustered_wilson(mean, se, n_clusters, 0.95, df), p)))
            plain.append(float(covered(*t_interval(mean, se, df, 0.95), p)))
        is_middle = (np.array(truths) >= 0.05) & (np.array(truths) <= 0.95)
        middle, ends = np.array(shares)[is_middle], np.array(shares)[~is_middle]
        what = f"Wilson on effective n with CR2's df, {n_clusters} clusters of 20 … 80 questions, p .05 … .95"
        # Below 20, where answers come with a warning, it is cautious.
        asked = Range(0.94, 0.98) if n_clusters < FEW_CLUSTERS else FEW_MEAN
        promises += [
            Promise(what, middle, rounds, each=FEW_EACH, mean=asked),
            Promise("the same, p .02 and .98", ends, rounds, each=FEW_EACH),
            Promise("for comparison: mean ± t × se, p .02 … .98", np.array(plain), rounds),
        ]
    return promises


def _cluster_cells(
    n_clusters: int, rounds: int, random: np.random.Generator
) -> Iterator[tuple[float, float, NDArray[np.int64]]]:
    for p in (0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98):
        for correlation in (0.0, 0.05, 0.3):
            yield p, correlation, random.integers(20, 81, (rounds, n_clusters))


def bounds_coverage(rounds: int) -> list[Promise]:
    """Of `error_policy=bounds`: from the lower limit with all failures wrong to the upper one with all right."""
    random = np.random.default_rng(63)
    promises = []
    for n in (30, 100, 1000):
        exact: list[float] = []
        scores: list[float] = []
        for p in (0.05, 0.2, 0.5, 0.8, 0.95):
            for fails_if_right, fails_if_wrong in (
                (0.0, 0.002),
                (0.0, 0.05),
                (0.05, 0.0),
                (0.3, 0.1),
                (0.02, 0.02),
                (0.0, 0.5),
            ):
                right = random.binomial(n, p, rounds)
                right_failed = random.binomial(right, fails_if_right)
                failed = right_failed + random.binomial(n - right, fails_if_wrong)
                lowest, highest = right - right_failed, right - right_failed + failed
                for shares, interval in ((exact, clopper_pearson), (scores, wilson)):
                    low, high = interval(lowest, n, 0.95).low, interval(highest, n, 0.95).high
                    shares.append(float(covered(low, high, p)))
        what = f"n = {n:,}, failures that hang on what they would have scored"
        promises.append(Promise(f"bounds by Clopper & Pearson, {what}", np.array(exact), rounds, each=AT_LEAST_95))
        promises.append(Promise("for comparison: by Wilson", np.array(scores), rounds))
    return promises

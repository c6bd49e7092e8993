"""From numbers to verdicts. Pure."""

import math
from collections.abc import Collection
from typing import NamedTuple

from analysis_service.stats.intervals import clopper_pearson, t_interval
from analysis_service.stats.paired import tango
from shared.comparisons import PairComparison
from shared.registry.specs import BenchmarkSpec
from shared.statistics import Verdict

TANGO = "tango"
"""The method of right-or-wrong pairs, as `stats.paired` names it."""


class Interval(NamedTuple):
    """Of a difference, candidate − baseline."""

    low: float
    high: float


class MarginTests(NamedTuple):
    """The two one-sided tests for a margin."""

    within: bool
    """Both are significant: the difference is at most the margin, either way."""
    not_worse: bool
    """The lower one is: the candidate is at most the margin below the baseline."""


def within_margin(interval: Interval | None, margin: float) -> MarginTests:
    """The tests, by the interval of the difference at confidence 1 − 2 × level; without one neither is significant.

    Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach". No difference is within
    a margin of 0.
    """
    if interval is None:
        return MarginTests(within=False, not_worse=False)
    not_worse = interval.low >= -margin
    return MarginTests(within=margin > 0 and not_worse and interval.high <= margin, not_worse=not_worse)


def margin_interval(pair: PairComparison, spec: BenchmarkSpec) -> Interval | None:
    """The interval of the pair's difference that two one-sided tests at its level look at; None where there is none.

    It is of the pair's own kind: Tango's score interval, or Student's t. Where all differences are the same there is
    neither: the share of questions (with clusters, of those) with another one is at most what an exact interval
    (Clopper & Pearson 1934) says of none in n, and on these the difference is at most the scale.
    """
    confidence = max(2 * pair.confidence - 1, 0)
    scale = spec.score_max - spec.score_min
    if pair.delta is None:
        return None
    if pair.method == TANGO:
        limits = tango(pair.wins, pair.losses, pair.n_shared, confidence)
        # + 0.0: there is no −0.
        return Interval(float(limits.low) * scale + 0.0, float(limits.high) * scale + 0.0)
    if pair.se and pair.ci_low is not None:
        df = math.inf if pair.df is None else pair.df
        limits = t_interval(pair.delta, pair.se, df, confidence)
        return Interval(float(limits.low), float(limits.high))
    if pair.n_clusters is None or pair.ties == pair.n_shared:  # all the same, or there would be an interval
        other = float(clopper_pearson(0, pair.n_clusters or pair.n_shared, confidence).high)
        return Interval((1 - other) * pair.delta - other * scale, (1 - other) * pair.delta + other * scale)
    return None


def verdict_of(pair: PairComparison, *, is_within: bool) -> Verdict:
    """What is told of two finished runs, a against b.

    A difference that is told from none is told, however small; whether it lies within the margin is told beside it.
    """
    if pair.significant and pair.delta:
        return Verdict.BETTER if pair.delta > 0 else Verdict.WORSE
    return Verdict.EQUIVALENT if is_within else Verdict.INCONCLUSIVE


def overall_verdict(verdicts: Collection[Verdict]) -> Verdict:
    """One verdict for several benchmarks: the worst news first, then what is not known.

    `equivalent` and `not worse` need no correction for several benchmarks, as each of them has to be so (Berger 1982,
    "Multiparameter hypothesis testing and acceptance sampling").
    """
    for verdict in (Verdict.WORSE, Verdict.INCONCLUSIVE, Verdict.BETTER):
        if verdict in verdicts:
            return verdict
    return Verdict.EQUIVALENT

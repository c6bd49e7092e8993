"""Two models compared on the questions that both were asked: intervals of their difference, and tests of none.

Everything is a − b. McNemar's test and Tango's interval are for right-or-wrong answers, Student's t and sign flips for
all others, and Student's t over clusters where questions are not independent.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, ndtri, stdtr

from analysis_service.stats.clusters import MIN_CLUSTERS, clustered_means
from analysis_service.stats.intervals import Limits, t_interval
from analysis_service.stats.sign_flips import sign_flips

F = NDArray[np.float64]

MANY_DIFFERENCES = 100
"""From so many questions on which the two differ, Student's t takes the place of sign flips: where differences are as
likely to have either sign both say the same to some 4 %, and t also tells p-values under the one in 10,000 of flips."""
_SAME = 1e-12
"""Relative: means of attempts that should be equal may differ by so much in floating point."""


class PairedMean(NamedTuple):
    """The mean of paired differences, its standard error, t interval and two-sided p-value; arrays of one shape."""

    delta: F
    se: F
    low: F
    high: F
    p: F
    df: F


_NONE = float("nan")
_CLUSTERS_ALIKE = "the two differ by the same in all clusters, which tells nothing of the error"


@dataclass(frozen=True, slots=True)
class Paired:
    """Two of them compared, in the unit of their scores; NaN where there is no such number, and `reason` says why."""

    n: int
    """Shared questions."""
    wins: int
    losses: int
    ties: int
    mean_a: float
    mean_b: float
    delta: float
    se: float = _NONE
    sd: float = _NONE
    """Of the differences, one a question: se × √n, so that of clustered ones it allows for the clusters."""
    ci_low: float = _NONE
    ci_high: float = _NONE
    method: str | None = None
    """Of the interval."""
    df: float = _NONE
    n_clusters: int | None = None
    p: float = _NONE
    test: str | None = None
    """What p comes from."""
    reason: str | None = None
    answer: float = 0.0
    """By how much one answer moves the sum of differences where the test is exact McNemar's; else 0."""


def mcnemar(wins: ArrayLike, losses: ArrayLike) -> F:
    """Exact two-sided p-values of wins and losses being equally likely; 1 where there are neither.

    McNemar 1947 with the binomial distribution: twice the smaller tail, at most 1.
    """
    wins, losses = np.asarray(wins, np.float64), np.asarray(losses, np.float64)
    fewer, more = np.minimum(wins, losses), np.maximum(wins, losses)
    # P(X ≤ fewer) of a binomial of ½. Where they differ by one at most, both tails together are all there is.
    return np.where(more - fewer <= 1, 1.0, np.minimum(2 * betainc(np.maximum(more, 1), fewer + 1, 0.5), 1))


def tango(wins: ArrayLike, losses: ArrayLike, n: ArrayLike, confidence: float) -> Limits:
    """Score intervals of the difference of two paired proportions, within −1..1; NaN where `n` is 0.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design": all differences that a score test does not reject, found by bisection.
    """
    wins, losses, n = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (wins, losses, n)))
    quantile = float(ndtri((1 + confidence) / 2))
    # The upper limit is minus the lower one of b − a: (a, b) and (b, a) are told the same to the last digit.
    low, minus_high = _lowest_accepted(np.stack([wins, losses]), np.stack([losses, wins]), n, quantile)
    return Limits(low, -minus_high)


def _lowest_accepted(wins: F, losses: F, n: F, quantile: float) -> F:
    n = np.where(n > 0, n, np.nan)
    rejected, accepted = np.full(wins.shape, -1.0) + 0 * n, (wins - losses) / n
    for _ in range(54):
        delta = (rejected + accepted) / 2
        # The likeliest probability of a loss, if the difference is delta, is (root - linear) / 4n.
        linear = (2 * n - wins + losses) * delta - wins - losses
        constant = -losses * delta * (1 - delta)
        root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0))
        variance = n * ((root - linear) / (2 * n) + delta * (1 - delta))
        is_accepted = (wins - losses - n * delta) ** 2 <= quantile**2 * variance
        rejected, accepted = np.where(is_accepted, rejected, delta), np.where(is_accepted, delta, accepted)
    return accepted


def paired_t(n: ArrayLike, total: ArrayLike, square_total: ArrayLike, confidence: float) -> PairedMean:
    """Student's paired t of `n` differences from their sum and the sum of their squares.

    Student 1908; Miller 2024, "Adding error bars to evals", on paired differences. NaN where there is no such number:
    the standard error, interval and p of fewer than two differences and of equal ones, whose p is 1 if they are all 0.
    """
    n, total, square_total = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (n, total, square_total)))
    n = np.where(n > 0, n, np.nan)
    delta = total / n
    return _student(n, delta, _residual(square_total - total * delta, square_total), confidence)


def _residual(residual: ArrayLike, square_total: ArrayLike) -> F:
    """A sum of squared distances from the mean; what rounding leaves of equal values is 0."""
    return np.where(np.less_equal(residual, _SAME * np.asarray(square_total)), 0.0, residual)


def _student(n: F | np.float64, delta: F | np.float64, residual: F, confidence: float) -> PairedMean:
    df = np.where(n > 1, n - 1, np.nan)
    se = np.sqrt(np.where(residual > 0, residual, np.nan) / df / n)
    low, high = t_interval(delta, se, df, confidence)
    p = np.where((residual == 0) & (delta == 0), 1.0, 2 * stdtr(df, -np.abs(delta / se)))
    return PairedMean(np.asarray(delta), se, low, high, p, df)


def compare_paired(
    a: F,
    b: F,
    *,
    confidence: float,
    seed: int = 0,
    clusters: NDArray[np.intp] | None = None,
    single_attempts: bool = True,
    lowest: float = 0.0,
    highest: float = 1.0,
) -> Paired:
    """Compare two models' finite scores of the same questions, `a[i]` and `b[i]`: of several attempts their mean.

    With `clusters`, of each question its own: Student's t over clusters (CR2), refused below `MIN_CLUSTERS`. Else,
    where each score is one attempt and `lowest` or `highest`: Tango's interval and McNemar's test. Else Student's t
    interval, with sign flips as the test below `MANY_DIFFERENCES` differences and Student's t from there on.
    """
    differences = subtract(a, b)
    n, wins, losses = len(a), int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
    if clusters is None and single_attempts and is_binary(a, lowest, highest) and is_binary(b, lowest, highest):
        right = np.count_nonzero(a == highest)
        return compare_counts(n, right, wins, losses, confidence, lowest=lowest, highest=highest)[0]
    mean_a, mean_b, delta = (float(np.mean(values)) if n else _NONE for values in (a, b, differences))
    counted = Paired(n, wins, losses, n - wins - losses, mean_a, mean_b, delta)
    if n == 0:
        return replace(counted, reason=_why_no_error(n))
    if clusters is not None:
        return _compare_clustered(counted, differences, clusters, confidence)
    return _compare_means(counted, differences, confidence, seed)


def subtract(a: F, b: F) -> F:
    """a − b, with 0 where they differ only in the last digits."""
    differences = np.asarray(a - b, np.float64)
    differences[np.abs(differences) <= _SAME * np.maximum(np.abs(a), np.abs(b))] = 0
    return differences


def is_binary(scores: F, lowest: float, highest: float) -> bool:
    """Whether each score is one of the two ends of its scale."""
    return bool(np.all((scores == lowest) | (scores == highest)))


def compare_counts(
    n: ArrayLike,
    right: ArrayLike,
    wins: ArrayLike,
    losses: ArrayLike,
    confidence: float,
    *,
    lowest: float = 0.0,
    highest: float = 1.0,
) -> list[Paired]:
    """`compare_paired` of many pairs of right-or-wrong answers: `right` of `n` by a, `wins` of them wrong by b."""
    n, right, wins, losses = (np.atleast_1d(np.asarray(counts, np.int64)) for counts in (n, right, wins, losses))
    span = highest - lowest
    se = span * paired_t(n, wins - losses, wins + losses, confidence).se
    asked = np.where(n > 0, n, np.nan)
    mean_a, mean_b = lowest + span * (right / asked), lowest + span * ((right - wins + losses) / asked)
    delta, limits, p = span * ((wins - losses) / asked), tango(wins, losses, n, confidence), mcnemar(wins, losses)
    return [
        Paired(
            n=int(n[i]),
            wins=int(wins[i]),
            losses=int(losses[i]),
            ties=int(n[i] - wins[i] - losses[i]),
            mean_a=float(mean_a[i]),
            mean_b=float(mean_b[i]),
            delta=float(delta[i]),
            se=float(se[i]),
            sd=float(se[i] * np.sqrt(n[i])),
            ci_low=float(span * limits.low[i]),
            ci_high=float(span * limits.high[i]),
            method="tango" if n[i] else None,
            p=float(p[i]) if n[i] else _NONE,
            test="exact mcnemar" if n[i] else None,
            answer=span,
            reason=_why_no_error(int(n[i])) if np.isnan(se[i]) else None,
        )
        for i in range(len(n))
    ]


def _compare_means(counted: Paired, differences: F, confidence: float, seed: int) -> Paired:
    residual = _residual(float(np.sum((differences - counted.delta) ** 2)), float(np.sum(differences**2)))
    t = _student(np.float64(counted.n), np.float64(counted.delta), residual, confidence)
    has_error = not np.isnan(t.se)
    if has_error and counted.wins + counted.losses >= MANY_DIFFERENCES:
        p, test = float(t.p), "paired t"
    else:
        p, test = sign_flips(differences, seed)
    return replace(
        counted,
        se=float(t.se),
        sd=float(t.se) * counted.n**0.5,
        ci_low=float(t.low),
        ci_high=float(t.high),
        method="paired t" if has_error else None,
        df=float(t.df) if has_error else _NONE,
        p=p,
        test=test,
        reason=None if has_error else _why_no_error(counted.n),
    )


def _compare_clustered(counted: Paired, differences: F, clusters: NDArray[np.intp], confidence: float) -> Paired:
    _, place = np.unique(clusters, return_inverse=True)
    totals, sizes = np.bincount(place, differences), np.bincount(place)
    n_clusters = len(sizes)
    if n_clusters < MIN_CLUSTERS:
        reason = f"{n_clusters} clusters tell too little of how clusters differ: at least {MIN_CLUSTERS} are needed"
        return replace(counted, n_clusters=n_clusters, reason=reason)
    means = clustered_means(np.zeros(n_clusters, np.intp), totals, sizes, 1, kind="cr2")
    se, df = float(means.se[0]), float(means.df[0])
    if not se > 0:
        p, test = (1.0, "clustered t") if counted.wins == counted.losses == 0 else (_NONE, None)
        return replace(counted, n_clusters=n_clusters, p=p, test=test, reason=_CLUSTERS_ALIKE)
    low, high = t_interval(counted.delta, se, df, confidence)
    return replace(
        counted,
        se=se,
        sd=se * counted.n**0.5,
        ci_low=float(low),
        ci_high=float(high),
        method="clustered t (CR2)",
        df=df,
        n_clusters=n_clusters,
        p=float(2 * stdtr(df, -abs(counted.delta / se))),
        test="clustered t",
    )


def _why_no_error(n: int) -> str:
    match n:
        case 0:
            return "no shared questions"
        case 1:
            return "one shared question tells nothing of the error"
        case _:
            return "the two differ by the same on all shared questions, which tells nothing of the error"

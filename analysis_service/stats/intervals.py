"""Confidence intervals of means and proportions, over arrays of cells at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtrit

F = NDArray[np.float64]

_ROUNDING = 1e-9
"""A standard error on the scale 0..1 that is not more than this is what rounding has left of 0."""


class Limits(NamedTuple):
    """Two-sided intervals; NaN where there is none."""

    low: F
    high: F


def wilson(successes: ArrayLike, n: ArrayLike, confidence: ArrayLike) -> Limits:
    """Score intervals of proportions, without continuity correction, within 0..1; NaN where `n` is 0.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference". `n` may be fractional.
    """
    return _score_interval(successes, n, ndtri((1 + np.asarray(confidence, np.float64)) / 2))


def clustered_wilson(
    mean: ArrayLike, se: ArrayLike, n_units: ArrayLike, confidence: ArrayLike, df: ArrayLike = np.inf
) -> Limits:
    """Score intervals of means within 0..1 of scores in clusters: good near 0 and 1, where mean ± t × se is not.

    Wilson's interval on the effective n. `df` are those of `se` where clusters are few, as those of a metadata field
    are; questions of several attempts need none. With them Student's quantile takes the place of the normal one (Korn &
    Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts"), and as it
    allows for an uncertain `se` in its own way, the answer that `effective_n` adds weighs df / (df + 20).
    NaN where `n_units` is 0 or `df` under 1.
    """
    df = np.asarray(df, np.float64)
    with np.errstate(divide="ignore"):
        n = effective_n(mean, se, n_units, 1 / (1 + 20 / np.maximum(df, 0)))
    return _score_interval(np.asarray(mean, np.float64) * n, n, _t_quantile(df, confidence))


def effective_n(mean: ArrayLike, se: ArrayLike, n_units: ArrayLike, weight: ArrayLike = 1.0) -> F:
    """How many independent right-or-wrong answers tell as much as `n_units` questions or clusters do.

    With q the smaller of `mean`, within 0..1, and 1 − mean, it is n_units (n q + w) / (n_units q + w), where n is
    mean (1 − mean) / se² (Kish 1965, "Survey sampling"): n itself, but for the weight w, in right (or wrong) answers,
    of the belief that the scores within a unit are all alike. Near 0 and 1 it rests on that: `se` comes from very few
    units there, and intervals from n alone cover as little as 80 % (`tests/simulation`).
    `n_units` where `se` is 0 or NaN: no variation at all does not tell how alike the scores within a unit are.
    """
    mean, se, units, weight = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (mean, se, n_units, weight)))
    rarer = np.minimum(mean, 1 - mean)
    known = se > _ROUNDING
    n = np.divide(mean * (1 - mean), se**2, out=np.array(units), where=known)
    return np.where(known, units * (n * rarer + weight) / np.where(known, units * rarer + weight, 1), units)


def t_interval(mean: ArrayLike, se: ArrayLike, df: ArrayLike, confidence: ArrayLike) -> Limits:
    """mean ± t × se; `df` infinite takes the normal distribution; NaN where `df` is under 1 (Student 1908)."""
    mean = np.asarray(mean, np.float64)
    reach = _t_quantile(df, confidence) * np.asarray(se, np.float64)
    return Limits(mean - reach, mean + reach)


def clip(limits: Limits, lowest: ArrayLike, highest: ArrayLike) -> Limits:
    """The part of the intervals that lies on a scale."""
    lowest, highest = np.asarray(lowest, np.float64), np.asarray(highest, np.float64)
    return Limits(np.clip(limits.low, lowest, highest), np.clip(limits.high, lowest, highest))


def clopper_pearson(successes: ArrayLike, n: ArrayLike, confidence: ArrayLike) -> Limits:
    """Intervals of proportions that never cover less than they say (Clopper & Pearson 1934); NaN where `n` is 0."""
    k, n, confidence = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (successes, n, confidence)))
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, betaincinv(np.where(k > 0, k, 1), n - k + 1, tail), 0.0)
        high = np.where(k < n, betaincinv(k + 1, np.where(k < n, n - k, 1), 1 - tail), 1.0)
    none = ~(n > 0)
    return Limits(np.where(none, np.nan, low), np.where(none, np.nan, high))


def _score_interval(successes: ArrayLike, n: ArrayLike, quantile: ArrayLike) -> Limits:
    k, n, z = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (successes, n, quantile)))
    n = np.where(n > 0, n, np.nan)
    square = z * z
    centre = k + square / 2
    reach = z * np.sqrt(k * ((n - k) / n) + square / 4)
    low, high = (centre - reach) / (n + square), (centre + reach) / (n + square)
    # Of all right answers the upper limit is 1, which rounding may miss.
    return Limits(np.maximum(low, 0), np.where(k >= n, 1.0, np.minimum(high, 1)))


def _t_quantile(df: ArrayLike, confidence: ArrayLike) -> F:
    df, upper = np.broadcast_arrays(np.asarray(df, np.float64), (1 + np.asarray(confidence, np.float64)) / 2)
    quantile = np.where(np.isinf(df), ndtri(upper), stdtrit(np.clip(df, 1, 1e10), upper))
    return np.where(df >= 1, quantile, np.nan)

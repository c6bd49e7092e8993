"""Confidence sequences: intervals for a mean that may be looked at after every observation, as often as one likes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis_service.stats.intervals import Limits

F = NDArray[np.float64]

_CELLS = 80
"""Parts of the scale in each of which the capital's logarithm is bounded by its chord."""
_MOST_LOST = 0.5
"""Of the capital by one bet, as Waudby-Smith & Ramdas have it: more decides sooner where few questions differ and all
one way, and a third later where the difference is small among many."""
_ROUNDING = 1e-9


def confidence_sequence(
    values: ArrayLike, *, lowest: float, highest: float, confidence: float, of: int | None = None
) -> Limits:
    """Limits after each of `values` for the mean of all, which hold at once with the `confidence`, whenever one stops.

    `values` lie within `lowest` … `highest` (paired differences of scores within 0 … 1: -1 … 1); ValueError else. Both
    arrays are as long as `values`; each interval lies within the one before it, so what was excluded once stays so.

    A hedged capital process: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting",
    JRSS B 86(1), theorem 3, with their predictable plug-in bets. Where `of` is given, the values are the first of a
    finite number, and the mean is that of all of these, as they have it for sampling without replacement. After the
    last one the interval is that mean, but for the error that the confidence allows for.

    It needs the values to come in random order, without `of` to be independent of one mean. In a fixed order, subject
    by subject, say, nothing is promised of the questions to come, which may be harder; only what is logically so
    remains, and at the end, with `of`, the mean itself.
    """
    scaled = (np.asarray(values, np.float64) - lowest) / (highest - lowest)
    if scaled.ndim != 1 or not ((scaled > -_ROUNDING) & (scaled < 1 + _ROUNDING)).all():
        raise ValueError(f"values must be a list within {lowest:g} … {highest:g}")
    scaled = np.clip(scaled, 0, 1)
    if of is not None and of < len(scaled):
        raise ValueError(f"{len(scaled)} values of only {of}")
    low = _rejected_below(scaled, confidence, of)
    high = 1 - _rejected_below(1 - scaled, confidence, of)
    if of is not None:
        # What the values not yet seen can make of the mean.
        total, seen = np.cumsum(scaled), np.arange(1, len(scaled) + 1)
        low = np.maximum(low, total / of)
        high = np.minimum(high, (total + of - seen) / of)
    low, high = _running_intersection(low, high)
    return Limits(lowest + low * (highest - lowest), lowest + high * (highest - lowest))


def decided_at(limits: Limits, margin: float = 0.0) -> int | None:
    """After how many values the limits first excluded 0, or lay within ±`margin`; None if they have not yet."""
    low, high = limits
    decided = (low > 0) | (high < 0)
    if margin > 0:
        decided |= (low >= -margin) & (high <= margin)
    found = np.flatnonzero(decided)
    return int(found[0]) + 1 if len(found) else None


def _rejected_below(x: F, confidence: float, of: int | None) -> F:
    """Up to where means within 0 … 1 are ruled out as too low, after each of `x`.

    The capital of whoever bets that the mean is above m falls with m, and with bets that do not depend on m its
    logarithm is concave in m: between two points it lies above its chord, so that the limit taken from the chord rules
    out too little, never too much. How much may be bet depends on m, so it is fixed for each of some narrow cells.
    """
    n = len(x)
    seen = np.arange(n)
    before = np.cumsum(x) - x
    # The mean of what is still to come, were the mean m: μ = slope × m − seen's share.
    slope = np.ones(n) if of is None else of / (of - seen)
    share = np.zeros(n) if of is None else before / (of - seen)
    threshold = np.log(2 / (1 - confidence))  # half of the capital is bet on each side
    bet = predictable_bets(x, confidence)
    low = np.zeros(n)
    is_below = np.ones(n, np.bool_)
    for begin in np.arange(_CELLS) / _CELLS:
        end = begin + 1 / _CELLS
        at_begin, at_end = slope * begin - share, slope * end - share
        stake = np.minimum(bet, _MOST_LOST / np.maximum(at_end, 1e-9))
        left = np.cumsum(np.log1p(stake * (x - at_begin)))
        right = np.cumsum(np.log1p(stake * (x - at_end)))
        crosses = is_below & (left >= threshold) & (right < threshold)
        low[crosses] = begin + (left - threshold)[crosses] / (left - right)[crosses] * (end - begin)
        passed = is_below & (right >= threshold)
        low[passed] = end
        is_below = passed
        if not is_below.any():
            break
    return low


def predictable_bets(x: F, confidence: float) -> F:
    """How much to bet on each of `x`, from those before it alone: the authors' predictable plug-in."""
    n = len(x)
    place = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(x)) / (place + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (place + 1)
    variance_before = np.concatenate([[0.25], variance[:-1]])
    return np.asarray(np.sqrt(2 * np.log(2 / (1 - confidence)) / (variance_before * place * np.log1p(place))))


def _running_intersection(low: F, high: F) -> tuple[F, F]:
    """Each interval cut by those before it. Where nothing is left, as the error allows for, the last one stays."""
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high)
    empty = np.flatnonzero(low > high)
    if len(empty):
        last = max(int(empty[0]) - 1, 0)
        low[last:], high[last:] = low[last], high[last]
    return low, high

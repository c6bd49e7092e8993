"""The sign-flip test: whether paired differences are as likely to be positive as negative."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from analysis_service.stats.seeds import seeded

F = NDArray[np.float64]

FLIPS = 10_000
_ENUMERATED_MAX = 20
_GRID_STEPS_MAX = 5_000_000
_DISTINCT_MAX = 256
_CHUNK_BITS = 1 << 21
_EXTREME_MIN = 10
"""With fewer extreme flips among the random ones their share says little, and nothing of p-values under 1 in 10,001."""
_FAR = 5.0
"""So many times the root of the sum of squares at most one of 130,000 flips reaches (Hoeffding 1963): none is drawn."""
_TILTED = 4_000
_SAME = 1e-9
"""Relative to the sum of all sizes: so far apart, two sums are of different flips and not of another rounding."""


def sign_flips(differences: F, seed: int) -> tuple[float, str]:
    """The two-sided p-value of the sum of `differences`, each as likely to have either sign, and how it was found.

    Fisher 1935, "The design of experiments", section 21; Pitman 1937. Exact for differences on a grid, such as those of
    means of four attempts, and for 20 differences that are not 0; else from 10,000 random flips, as
    (b + 1) / (10,000 + 1) (Phipson & Smyth 2010, "Permutation p-values should never be zero"), which hang only on
    `seed` and on how many differences are not 0. Where b is under 10: from 4,000 flips that are drawn so that half of
    them are extreme, each weighed by how much more likely that made it (importance sampling: Mehta, Patel &
    Senchaudhuri 1988), which errs by some 5 %. Order and overall sign of the differences do not matter.
    """
    signed = differences[differences != 0]
    sizes = np.sort(np.abs(signed))
    if len(sizes) == 0:
        return 1.0, "sign flips (exact)"
    grid = _steps_on_grid(sizes)
    if grid is not None:
        unit, steps = grid
        return _grid_p(steps, int(abs(np.rint(signed / unit).sum()))), "sign flips (exact)"
    least = abs(math.fsum(signed)) - _SAME * float(sizes.sum())
    if len(sizes) <= _ENUMERATED_MAX:
        return _enumerated_p(sizes, least), "sign flips (exact)"
    is_far = least > _FAR * float(np.linalg.norm(sizes))
    extreme = 0 if is_far else _count_extreme(sizes, least, seed)
    if extreme < _EXTREME_MIN:
        return _tilted_p(sizes / sizes[-1], least / sizes[-1], seed), "sign flips (weighted)"
    return (extreme + 1) / (FLIPS + 1), f"sign flips ({FLIPS:,})"


def _steps_on_grid(sizes: F) -> tuple[float, NDArray[np.int64]] | None:
    """The grid that all sizes lie on and their steps, if the sums of their flips are few enough to be counted."""
    distinct = np.unique(sizes)
    if len(distinct) > _DISTINCT_MAX:
        return None
    largest = float(sizes[-1])
    unit = 0.0
    for size in distinct.tolist():
        rest = size
        while rest > _SAME * largest:
            unit, rest = rest, abs(unit - rest * round(unit / rest))
    steps = np.rint(sizes / unit)
    if len(sizes) * steps.sum() > _GRID_STEPS_MAX or np.abs(sizes - steps * unit).max() > _SAME * largest:
        return None
    return unit, steps.astype(np.int64)


def _grid_p(steps: NDArray[np.int64], observed: int) -> float:
    """Of all flips of `steps`, the share whose sum is at least as far from 0 as `observed`."""
    # chances[t]: that the steps that are flipped to + are t together.
    chances = np.zeros(int(steps.sum()) + 1)
    chances[0] = 1
    top = 0
    for step in steps.tolist():
        half = chances[: top + 1] / 2
        chances[: top + 1] = half
        chances[step : step + top + 1] += half
        top += step
    sums = 2 * np.arange(top + 1) - top
    return min(float(chances[np.abs(sums) >= observed].sum()), 1.0)


def _enumerated_p(sizes: F, least: float) -> float:
    # Each sum has its opposite, so one sign need not be flipped.
    sums = sizes[-1:]
    for size in sizes[:-1]:
        sums = np.concatenate([sums - size, sums + size])
    return float(np.mean(np.abs(sums) >= least))


def _count_extreme(sizes: F, least: float, seed: int) -> int:
    bits = seeded("sign flips", seed, len(sizes))
    total, extreme, left = float(sizes.sum()), 0, FLIPS
    width = -(-len(sizes) // 8)
    while left:
        rows = min(left, max(1, _CHUNK_BITS // (8 * width)))
        packed = np.frombuffer(bits.bytes(rows * width), np.uint8).reshape(rows, width)
        is_positive = np.unpackbits(packed, axis=1, count=len(sizes)).astype(np.float64)
        extreme += int(np.count_nonzero(np.abs(2 * (is_positive @ sizes) - total) >= least))
        left -= rows
    return extreme


def _tilted_p(sizes: F, least: float, seed: int) -> float:
    """Of all flips the share that is extreme; `sizes` are up to 1.

    A size stays positive with a chance of exp(t x) / 2 cosh(t x), where t is such that the sum is `least` on average.
    """
    low, high = 0.0, 1000.0
    for _ in range(60):
        tilt = (low + high) / 2
        low, high = (tilt, high) if float(sizes @ np.tanh(tilt * sizes)) < least else (low, tilt)
    exponents = tilt * sizes
    is_positive = seeded("tilted sign flips", seed, len(sizes)).random((_TILTED, len(sizes))) < expit(2 * exponents)
    sums = 2 * (is_positive @ sizes) - float(sizes.sum())
    weights = np.exp(float(np.sum(np.logaddexp(exponents, -exponents) - np.log(2))) - tilt * sums[sums >= least])
    return min(2 * float(weights.sum()) / _TILTED, 1.0)

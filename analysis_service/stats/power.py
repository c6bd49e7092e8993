"""How small a difference could have been told, and how many questions it would take."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

F = NDArray[np.float64]


def detectable_difference(
    se: ArrayLike, confidence: ArrayLike, power: ArrayLike = 0.8, *, df: ArrayLike = np.inf, step: ArrayLike = 0
) -> F:
    """The true difference that a two-sided test finds with `power`, given the standard error of the difference.

    Miller 2024, "Adding error bars to evals", on power analysis, solved for the difference; in the unit of `se`. With
    `df` degrees of freedom of `se`, Student's quantiles take the place of the normal ones. `step` is what one answer
    moves the mean by where the test is exact McNemar's, which needs about so much more.
    """
    return _quantiles(confidence, power, df) * np.asarray(se, np.float64) + np.asarray(step, np.float64)


def questions_needed(
    delta: ArrayLike, sd: ArrayLike, confidence: ArrayLike, power: ArrayLike = 0.8, *, answer: ArrayLike = 0
) -> F:
    """So many paired questions find a true difference `delta` with `power`; a whole number, at least 1.

    `sd` is the standard deviation of the differences, one a question. NaN where `delta` is 0. Miller 2024. `answer` is
    the difference that one answer makes where the test is exact McNemar's: then with the continuity correction of
    Casagrande, Pike & Smith 1978, without which its power is 67 to 78 % instead of 80 %.
    """
    delta = np.abs(np.asarray(delta, np.float64))
    delta = np.where(delta > 0, delta, np.nan)
    plain = (_quantiles(confidence, power, np.inf) * np.asarray(sd, np.float64) / delta) ** 2
    # The same as plain × (1 + √(1 + 4 answer / (plain × delta)))² / 4, which 0 cannot be put into.
    n = (np.sqrt(plain) + np.sqrt(plain + 4 * np.asarray(answer, np.float64) / delta)) ** 2 / 4
    # Rounded first: 100.00000000000001 questions are 100.
    return np.maximum(np.ceil(np.round(n, 9)), 1)


def _quantiles(confidence: ArrayLike, power: ArrayLike, df: ArrayLike) -> F:
    df = np.asarray(df, np.float64)
    both = ((1 + np.asarray(confidence, np.float64)) / 2, np.asarray(power, np.float64))
    student = [np.where(np.isinf(df), ndtri(chance), stdtrit(np.minimum(df, 1e10), chance)) for chance in both]
    return np.asarray(student[0] + student[1])

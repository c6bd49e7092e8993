"""Whether what comes one after another comes in a random order."""

import numpy as np
from numpy.typing import ArrayLike


def runs_z(values: ArrayLike) -> float:
    """How many standard deviations fewer runs of equal `values` there are than in a random order, as a negative number.

    The runs test for any number of kinds: the number of runs has mean n + 1 − Σnᵢ²/n, and the variance of Barton &
    David 1957, "Multiple runs" (for two kinds that of Wald & Wolfowitz 1940). Blocks of equal values give a large
    negative number, alternation a positive one. NaN where every order has as many runs.
    """
    values = np.asarray(values)
    n = float(len(values))
    if n < 2:
        return float("nan")
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    squares, cubes = float(np.sum(counts**2)), float(np.sum(counts**3))
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n * n * (n - 1))
    if variance <= 1e-9:
        return float("nan")
    runs = 1 + int(np.count_nonzero(values[1:] != values[:-1]))
    return float((runs - (n + 1 - squares / n)) / np.sqrt(variance))

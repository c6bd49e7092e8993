"""Means as they are told: without the digits that only the order of adding up has made."""

from math import ceil, log10

import numpy as np
from numpy.typing import NDArray

from shared.registry.specs import BenchmarkSpec

_DIGITS = 13


def round_means(means: NDArray[np.float64], spec: BenchmarkSpec) -> NDArray[np.float64]:
    """`means` of scores of `spec`, to 13 digits of its scale: 13 decimals where scores go from 0 to 1.

    Sums of fractions depend in their last digits on the order of the questions. Models that are equal would be ranked
    by that.
    """
    largest = max(abs(spec.score_min), abs(spec.score_max))
    return np.round(means, max(0, _DIGITS - ceil(log10(largest))))

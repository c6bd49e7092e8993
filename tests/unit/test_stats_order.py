"""The runs test, against every order there is and against statsmodels."""

import math
from collections.abc import Sequence
from itertools import groupby, permutations

import numpy as np
import pytest
from statsmodels.sandbox.stats.runs import runstest_1samp

from analysis_service.stats.order import runs_z


def runs(values: Sequence[int]) -> int:
    return len(list(groupby(values)))


@pytest.mark.parametrize("values", [(0, 0, 1, 1, 2, 2), (0, 0, 0, 1, 2, 2), (0, 1, 0, 1, 0, 1, 1), (3, 1, 1, 2, 3)])
def test_against_every_order(values: Sequence[int]) -> None:
    every = np.array([runs(order) for order in set(permutations(values))])
    assert runs_z(values) == pytest.approx((runs(values) - every.mean()) / every.std())


def test_two_kinds_are_as_in_statsmodels() -> None:
    values = np.random.default_rng(6).integers(0, 2, 101)
    expected, _ = runstest_1samp(values, cutoff=0.5, correction=False)
    assert runs_z(values) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [1], [1, 1, 1], [1, 2], [1, 2, 3, 4]])
def test_where_every_order_is_alike_nothing_is_told(values: list[int]) -> None:
    assert math.isnan(runs_z(values))

"""Adjusted p-values against statsmodels, and their laws."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from analysis_service.stats.corrections import adjust

Method = Literal["holm", "bh", "none"]
NAMES = {"holm": "holm", "bh": "fdr_bh"}
METHODS: tuple[Method, ...] = ("holm", "bh", "none")

values = st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.05, 1.0]), min_size=1, max_size=60).map(np.array)


@pytest.mark.parametrize("method", ["holm", "bh"])
@settings(max_examples=10)  # statsmodels collects garbage at each call
@given(p=values)
def test_they_are_those_of_statsmodels(method: Method, p: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(adjust(p, method), multipletests(p, method=NAMES[method])[1], rtol=0, atol=1e-9)


def test_what_was_not_tested_does_not_count() -> None:
    p = np.array([0.01, np.nan, 0.04, np.nan])

    np.testing.assert_allclose(adjust(p, "holm"), [0.02, np.nan, 0.04, np.nan])
    np.testing.assert_allclose(adjust(p, "bh"), [0.02, np.nan, 0.04, np.nan])
    np.testing.assert_array_equal(adjust(p, "none"), p)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_and_nothing_tested_stay_as_they_are(method: Method) -> None:
    assert adjust(np.array([]), method).shape == (0,)
    assert np.isnan(adjust(np.array([np.nan, np.nan]), method)).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_passed_is_left_alone_and_keeps_its_shape(method: Method) -> None:
    p = np.array([[0.01, 0.5], [np.nan, 0.02]])
    before = p.copy()

    adjusted = adjust(p, method)

    np.testing.assert_array_equal(p, before)
    assert adjusted.shape == (2, 2)
    np.testing.assert_array_equal(adjusted.ravel(), adjust(p.ravel(), method))


@given(values, st.sampled_from(METHODS))
def test_they_are_never_below_p_nor_above_one(p: NDArray[np.float64], method: Method) -> None:
    adjusted = adjust(p, method)

    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()


@given(values, st.sampled_from(METHODS), st.integers(0, 2**32 - 1))
def test_they_rise_with_p_and_go_where_p_goes(p: NDArray[np.float64], method: Method, seed: int) -> None:
    adjusted = adjust(p, method)
    shuffle = np.random.default_rng(seed).permutation(len(p))

    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    np.testing.assert_array_equal(adjust(p[shuffle], method), adjusted[shuffle])


@given(values)
def test_holm_is_never_below_bh(p: NDArray[np.float64]) -> None:
    assert (adjust(p, "holm") >= adjust(p, "bh") - 1e-15).all()

"""Intervals against scipy and statsmodels, their laws, and in how many of all outcomes Wilson's hold the truth."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis_service.stats.intervals import (
    Limits,
    clip,
    clopper_pearson,
    clustered_wilson,
    effective_n,
    t_interval,
    wilson,
)

F = NDArray[np.float64]
CONFIDENCES = (0.5, 0.8, 0.95, 0.999)


def assert_same(found: Limits, low: Any, high: Any) -> None:
    """Equal to 1e-9, NaN to NaN."""
    np.testing.assert_allclose(found.low, low, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.high, high, rtol=0, atol=1e-9)


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("n", [1, 2, 30, 1319, 14_042])
def test_wilson_and_clopper_pearson_are_those_of_statsmodels(n: int, confidence: float) -> None:
    k = np.unique(np.linspace(0, n, 23).astype(int))

    assert_same(wilson(k, n, confidence), *proportion_confint(k, n, 1 - confidence, method="wilson"))
    assert_same(clopper_pearson(k, n, confidence), *proportion_confint(k, n, 1 - confidence, method="beta"))


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_t_intervals_are_those_of_scipy(confidence: float) -> None:
    df = np.array([1, 1.5, 2, 4, 9.7, 30, 4999, 1e7])

    assert_same(t_interval(0.3, 0.02, df, confidence), *stats.t.interval(confidence, df, 0.3, 0.02))
    assert_same(t_interval(0.3, 0.02, np.inf, confidence), *stats.norm.interval(confidence, 0.3, 0.02))


def test_what_has_no_interval_is_nan() -> None:
    for limits in (wilson([0, 0], 0, 0.95), clopper_pearson([0, 0], 0, 0.95), wilson([np.nan] * 2, 5, 0.95)):
        assert np.isnan(limits.low).all()
        assert np.isnan(limits.high).all()
    assert np.isnan(t_interval(0.5, 0.1, [0, 0.5, np.nan], 0.95).low).all()
    assert np.isnan(t_interval(0.5, np.nan, 7, 0.95).high)
    assert np.isnan(clustered_wilson(np.nan, np.nan, 0, 0.95).high)
    assert np.isnan(clustered_wilson(0.5, 0.1, 3, 0.95, df=np.nan).high)


def test_all_wrong_and_all_right_end_on_the_scale_exactly() -> None:
    n, confidence = np.arange(1, 300), np.linspace(0.5, 0.9999, 97)[:, None]

    for interval in (wilson, clopper_pearson):
        assert (interval(0, n, confidence).low == 0).all()
        assert (interval(n, n, confidence).high == 1).all()
    assert (clustered_wilson(1, 0, n, confidence).high == 1).all()


def test_clip_keeps_the_part_on_the_scale() -> None:
    clipped = clip(Limits(np.array([-0.2, 0.4, np.nan]), np.array([0.3, 1.7, np.nan])), 0, 1)

    np.testing.assert_array_equal(clipped.low, [0, 0.4, np.nan])
    np.testing.assert_array_equal(clipped.high, [0.3, 1, np.nan])


def coverage(n: int, p: F) -> F:
    """How often Wilson's intervals at 95 % hold each p, over all outcomes."""
    k = np.arange(n + 1)
    low, high = wilson(k, n, 0.95)
    holds = (low <= p[:, None]) & (p[:, None] <= high)
    return np.asarray((stats.binom.pmf(k, n, p[:, None]) * holds).sum(axis=1))


@pytest.mark.parametrize("n", [500, 501, 600, 1000, 1319, 5000])
def test_wilson_holds_what_it_says_from_500_questions(n: int) -> None:
    covered = coverage(n, np.linspace(0.05, 0.95, 181))

    assert covered.min() >= 0.935
    assert covered.max() <= 0.965


@pytest.mark.parametrize("n", [30, 31, 40, 57, 100, 200, 499])
def test_wilson_holds_what_it_says_on_average_from_30_questions(n: int) -> None:
    covered = coverage(n, np.linspace(0.05, 0.95, 181))

    assert 0.94 <= covered.mean() <= 0.965
    assert covered.min() >= 0.92


def test_effective_n_weighs_the_units_by_one_answer() -> None:
    # 100 questions, mean .9: an se of .03 is that of 100 answers, one of .015 that of 400.
    assert effective_n(0.9, 0.03, 100) == pytest.approx(100)
    assert effective_n(0.9, 0.015, 100) == pytest.approx(100 * (400 * 0.1 + 1) / (100 * 0.1 + 1))
    assert effective_n(0.9, 0.015, 100, 0.5) == pytest.approx(100 * (400 * 0.1 + 0.5) / (100 * 0.1 + 0.5))
    # At the ends, and where all units are the same, nothing is known but the units.
    np.testing.assert_array_equal(effective_n([0, 1, 0.5, 0.5, 0.7], [0, 0, 0, np.nan, 1e-17], 100), 100)
    # One of 8 attempts at one of 100 questions is right: 800 answers are not believed.
    assert effective_n(1 / 800, 1 / 800, 100) < 200


def test_with_one_attempt_a_question_clustered_is_nearly_plain_wilson() -> None:
    n, k = 400, np.arange(401)
    se = np.sqrt(k / n * (1 - k / n) / (n - 1))
    plain, clustered = wilson(k, n, 0.95), clustered_wilson(k / n, se, n, 0.95)

    np.testing.assert_allclose(clustered.low, plain.low, rtol=0, atol=1e-4)
    np.testing.assert_allclose(clustered.high, plain.high, rtol=0, atol=1e-4)


def test_many_clusters_are_as_questions_are() -> None:
    many, questions = clustered_wilson(0.02, 0.01, 500, 0.95, df=1e9), clustered_wilson(0.02, 0.01, 500, 0.95)

    assert_same(many, questions.low, questions.high)


def test_few_clusters_make_wider_intervals() -> None:
    wide, narrow = clustered_wilson(0.5, 0.05, 6, 0.95, df=5), clustered_wilson(0.5, 0.05, 6, 0.95)

    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


counts = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.floats(0.5, 0.9999)


@given(counts, confidences)
def test_wilson_stays_on_the_scale_around_the_mean(count: tuple[int, int], confidence: float) -> None:
    k, n = count
    low, high = wilson(k, n, confidence)

    assert 0 <= low <= k / n <= high <= 1
    assert low < high


@given(counts, confidences)
def test_wilson_of_the_wrong_answers_is_the_mirror_image(count: tuple[int, int], confidence: float) -> None:
    k, n = count
    right, wrong = wilson(k, n, confidence), wilson(n - k, n, confidence)

    assert_same(right, 1 - wrong.high, 1 - wrong.low)


@given(counts, confidences, st.integers(2, 50))
def test_wilson_narrows_with_n_and_widens_with_confidence(
    count: tuple[int, int], confidence: float, times: int
) -> None:
    k, n = count
    few, many = wilson(k, n, confidence), wilson(k * times, n * times, confidence)
    surer = wilson(k, n, (1 + confidence) / 2)

    assert few.low <= many.low
    assert many.high <= few.high
    assert surer.low <= few.low
    assert few.high <= surer.high


@given(st.floats(0, 1), st.floats(0, 0.5), st.integers(5, 2000), confidences)
def test_clustered_wilson_stays_on_the_scale_around_the_mean(
    mean: float, se: float, units: int, confidence: float
) -> None:
    low, high = clustered_wilson(mean, se, units, confidence)

    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1

"""Means of rows: which method fits, against scipy and statsmodels, and what there is not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from analysis_service.stats.intervals import clustered_wilson
from analysis_service.stats.means import (
    METHOD_NAMES,
    Estimates,
    Lack,
    Units,
    estimate_means,
    sum_questions,
    tell_lack,
    units_of_clusters,
    units_of_questions,
)

F = NDArray[np.float64]
NAN = np.nan
RANDOM = np.random.default_rng(12)


def estimate(rows: object, largest: int = 1, confidence: float = 0.95) -> Estimates:
    questions = sum_questions(np.array(rows, dtype=np.float64))
    units = units_of_questions(questions, largest)
    return estimate_means(questions, units, are_questions=True, confidence=confidence)


def row(found: Estimates, place: int) -> tuple[float, float, float, float]:
    return tuple(float(column[place]) for column in (found.mean, found.se, *found.limits))  # type: ignore[return-value]


def methods(found: Estimates) -> list[str | None]:
    return [METHOD_NAMES[method] for method in found.method]


def test_right_and_wrong_have_wilsons_interval_and_other_scores_students() -> None:
    real = RANDOM.random(9)
    found = estimate([[1, 0, 1, 1, NAN, 0, 1, 1, 1], real], confidence=0.9)
    assert methods(found) == ["wilson", "t"]
    assert row(found, 0) == pytest.approx((0.75, (0.75 * 0.25 / 8) ** 0.5, *proportion_confint(6, 8, 0.1, "wilson")))
    limits = stats.t.interval(0.9, 8, real.mean(), stats.sem(real))
    assert row(found, 1) == pytest.approx((real.mean(), stats.sem(real), *limits))


def test_students_interval_ends_with_the_scale() -> None:
    found = estimate([[0, 0, 0.1], [1, 1, 0.9]])
    assert (found.limits.low[0], found.limits.high[1]) == (0, 1)
    assert (found.limits.high[0] > 0.1, found.limits.low[1] < 0.9) == (True, True)


def test_several_attempts_at_a_question_have_an_effective_n() -> None:
    rows = np.array([[0.25, 0.5, 0.75, 1.0, 1.0, 0.5], [0, 1, 1, 0, 1, 1]])
    found = estimate(rows, largest=4)
    assert methods(found) == ["wilson on effective n"] * 2
    for place, values in enumerate(rows):
        expected = clustered_wilson(values.mean(), stats.sem(values), 6, 0.95)
        assert row(found, place) == pytest.approx((values.mean(), stats.sem(values), *map(float, expected)))


def test_questions_count_alike_or_by_their_attempts() -> None:
    """Entries by question are those of the first way where each has as many attempts."""
    scores = RANDOM.random((3, 10))
    questions = sum_questions(scores)
    every = np.repeat(np.arange(3), 10)
    by_attempt = units_of_clusters(every, 4 * scores.ravel(), np.full(30, 4.0), 3, kind="cr1")
    for own, other in zip(units_of_questions(questions, 4), by_attempt, strict=True):
        np.testing.assert_allclose(own, other)


def test_clusters_have_wilsons_interval_of_their_error_and_degrees_of_freedom() -> None:
    scores, cluster = RANDOM.random(40), np.repeat(np.arange(8), 5)
    questions = sum_questions(scores[None])
    total, count = np.bincount(cluster, scores).astype(np.float64), np.full(8, 5.0)
    units = units_of_clusters(np.zeros(8, np.intp), total, count, 1, kind="cr2")
    found = estimate_means(questions, units, are_questions=False, confidence=0.95)
    fit = OLS(scores, np.ones(40)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}, use_t=True
    )
    assert methods(found) == ["wilson on effective n (CR2)"]
    se = fit.bse[0] * (8 / 7) ** 0.5  # of clusters of one size, where CR2 is CR1
    limits = map(float, clustered_wilson(scores.mean(), se, 8, 0.95, 7))
    assert row(found, 0) == pytest.approx((scores.mean(), se, *limits))


def units(n: int, se: float) -> Units:
    return Units(*(np.array([float(value)]) for value in (se, n - 1, n, 3, n)))


def test_clusters_that_do_not_differ_still_have_a_width() -> None:
    found = estimate_means(sum_questions(np.ones((1, 30))), units(10, 0), are_questions=False, confidence=0.95)
    assert methods(found) == ["wilson on effective n (CR2)"]
    assert found.limits.low[0] < 0.75
    assert found.limits.high[0] == 1


def test_exact_intervals_of_right_or_wrong_scores_are_clopper_and_pearsons() -> None:
    questions = sum_questions(np.array([[1.0] * 3 + [0.0] * 17, [0.5] * 10 + [0.0] * 10]))
    found = estimate_means(questions, None, are_questions=True, confidence=0.9, is_exact=True)
    assert methods(found) == ["clopper-pearson", "t"]
    assert row(found, 0)[2:] == pytest.approx(proportion_confint(3, 20, 0.1, "beta"))


@pytest.mark.parametrize(
    ("values", "largest", "lack", "known"),
    [
        ([NAN, NAN], 1, Lack.NO_SCORES, ""),
        ([NAN, NAN], 2, Lack.NO_SCORES, ""),
        ([1.0, NAN], 1, Lack.ONE_QUESTION, "mean limits"),
        ([0.5, NAN], 1, Lack.ONE_QUESTION, "mean"),
        ([1.0, NAN], 2, Lack.ONE_QUESTION, "mean"),
        ([0.3, 0.3, 0.1 + 0.2], 1, Lack.ALL_EQUAL, "mean se"),
        ([0.3, 0.3, 0.1 + 0.2], 2, Lack.NOTHING, "mean se limits"),
        ([1.0, 1.0], 1, Lack.NOTHING, "mean se limits"),
        ([0.0, 0.0], 2, Lack.NOTHING, "mean se limits"),
    ],
)
def test_what_there_is_not_has_a_reason(values: list[float], largest: int, lack: Lack, known: str) -> None:
    found = estimate([values], largest)
    mean, se, low, high = row(found, 0)
    assert found.lack[0] == lack
    assert {"mean": not np.isnan(mean), "se": not np.isnan(se), "limits": not np.isnan(low)} == {
        name: name in known.split() for name in ("mean", "se", "limits")
    }
    assert np.isnan(low) == np.isnan(high) == (found.method[0] == 0)
    assert bool(tell_lack(lack)) == (lack != Lack.NOTHING)


def test_few_clusters_tell_nothing() -> None:
    scores = sum_questions(RANDOM.random((1, 30)))
    four, five = (estimate_means(scores, units(n, 0.1), are_questions=False, confidence=0.95) for n in (4, 5))
    assert (four.lack[0], five.lack[0]) == (Lack.FEW_CLUSTERS, Lack.NOTHING)
    assert np.isnan([four.se, *four.limits]).all()
    assert tell_lack(Lack.FEW_CLUSTERS, "passage") == "fewer than 5 values of passage to cluster by"


def test_columns_may_stand_for_several_questions() -> None:
    rows, times = np.array([[0.25, 1.0, 0.5], [NAN, 1.0, 0.0], [NAN, NAN, 0.5]]), np.array([3, 1, 4])
    for found, expected in zip(sum_questions(rows, times), sum_questions(np.repeat(rows, times, axis=1)), strict=True):
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("largest", [1, 8])
def test_all_wrong_and_all_right_still_have_an_interval(value: float, largest: int) -> None:
    mean, se, low, high = row(estimate([[value] * 30], largest), 0)
    assert (mean, se) == (value, 0)
    assert high - low == pytest.approx(0.1135, abs=1e-4)
    assert value in (low, high)

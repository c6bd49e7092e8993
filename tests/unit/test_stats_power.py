"""Detectable differences and questions needed, against statsmodels and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from analysis_service.stats.paired import mcnemar
from analysis_service.stats.power import detectable_difference, questions_needed

confidences = st.floats(0.5, 0.9999)
powers = st.floats(0.5, 0.99)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_detectable_difference_is_that_of_statsmodels(confidence: float, power: float) -> None:
    difference = detectable_difference(1 / np.sqrt(400), confidence, power)

    # One-sided at half the level: a two-sided test that finds a difference of the wrong sign has not found it. ratio=0
    # makes it a test of one sample, as paired differences are.
    found = NormalIndPower().power(difference, 400, (1 - confidence) / 2, ratio=0, alternative="larger")
    assert found == pytest.approx(power, abs=1e-9)


def test_a_difference_of_three_points_takes_about_a_thousand_questions() -> None:
    # Miller 2024, section 5: differences of variance 1/9 a question, 80 % power at 5 %.
    assert questions_needed(0.03, 1 / 3, 0.95) == 969
    assert detectable_difference(1 / 3 / np.sqrt(969), 0.95) == pytest.approx(0.03, abs=1e-5)


def test_no_difference_needs_no_number_of_questions() -> None:
    np.testing.assert_array_equal(questions_needed([0, np.nan, 0.1], [0.3, 0.3, np.nan], 0.95), np.nan)


def test_a_difference_without_variation_takes_one_question() -> None:
    assert questions_needed(0.1, 0, 0.95) == 1


def test_the_difference_that_some_questions_find_needs_exactly_those() -> None:
    n = np.arange(1, 2000)

    np.testing.assert_array_equal(questions_needed(detectable_difference(0.3 / np.sqrt(n), 0.95), 0.3, 0.95), n)


@pytest.mark.parametrize(
    ("differ", "delta"), [(0.2, 0.1), (0.3, 0.05), (0.1, 0.05), (0.5, 0.2), (0.05, 0.02), (0.4, 0.3)]
)
def test_exact_tests_have_the_power_too(differ: float, delta: float) -> None:
    sd, wins = np.sqrt(differ - delta**2), (differ + delta) / 2
    n = int(questions_needed(delta, sd, 0.95, answer=1))
    assert detectable_difference(sd / np.sqrt(n), 0.95, step=1 / n) == pytest.approx(delta, rel=0.03)
    drawn = np.random.default_rng(9).multinomial(n, [wins, differ - wins, 1 - differ], size=8000)
    power = np.mean(mcnemar(drawn[:, 0], drawn[:, 1]) <= 0.05)
    assert 0.775 < power < 0.84, "without a continuity correction from .67 to .78"


def test_few_degrees_of_freedom_tell_less() -> None:
    clusters = 6
    found = float(detectable_difference(1 / np.sqrt(clusters), 0.95, df=clusters - 1))
    t = np.random.default_rng(10).normal(found, 1, (20_000, clusters))
    power = np.mean(stats.ttest_1samp(t, 0, axis=1).pvalue <= 0.05)
    assert 0.76 < power < 0.84, "with normal quantiles 61 %"


def test_they_go_over_many_cells_at_once() -> None:
    assert detectable_difference([0.01, 0.02, np.nan], 0.95).shape == (3,)
    assert questions_needed([[0.1], [0.2]], [0.3, 0.4], 0.95).shape == (2, 2)


@given(st.floats(1e-4, 1), st.floats(1e-3, 1), confidences, powers)
def test_so_many_questions_suffice_and_one_less_does_not(
    delta: float, sd: float, confidence: float, power: float
) -> None:
    n = float(questions_needed(delta, sd, confidence, power))

    assert detectable_difference(sd / np.sqrt(n), confidence, power) <= delta * (1 + 1e-6)
    if n > 1:
        assert detectable_difference(sd / np.sqrt(n - 1), confidence, power) > delta * (1 - 1e-6)


@given(st.floats(1e-4, 1), st.floats(1e-3, 1), confidences, powers)
def test_the_sign_of_the_difference_does_not_matter(delta: float, sd: float, confidence: float, power: float) -> None:
    assert questions_needed(delta, sd, confidence, power) == questions_needed(-delta, sd, confidence, power)

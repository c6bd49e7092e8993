"""Paired comparisons against scipy, statsmodels and slow searches, and their laws."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from analysis_service.stats.clusters import clustered_means
from analysis_service.stats.paired import (
    MANY_DIFFERENCES,
    Paired,
    compare_counts,
    compare_paired,
    mcnemar,
    paired_t,
    tango,
)
from analysis_service.stats.sign_flips import sign_flips

F = NDArray[np.float64]
COUNTS = [
    (0, 0, 20),
    (3, 10, 44),
    (1, 0, 1),
    (5, 5, 30),
    (20, 0, 20),
    (0, 20, 20),
    (0, 7, 5000),
    (900, 700, 14042),
    (60, 2, 100),
]
NUMBERS = ("mean_a", "mean_b", "delta", "se", "sd", "ci_low", "ci_high", "df", "p")

tables = st.tuples(*(st.integers(0, 60),) * 3).filter(lambda table: sum(table) > 0)
graded = st.lists(st.tuples(*(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 2 / 3, 1.0]),) * 2), min_size=1, max_size=40)
binary = st.lists(st.tuples(*(st.sampled_from([0.0, 1.0]),) * 2), min_size=1, max_size=40)
measured = st.lists(st.tuples(*(st.floats(-5, 5, width=32),) * 2), min_size=1, max_size=25)
scores = st.one_of(graded, binary, measured)


def columns(pairs: Any) -> tuple[F, F]:
    """Scores of a and of b."""
    a, b = np.array(pairs, np.float64).T
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


def loss_probability(wins: int, losses: int, n: int, delta: float) -> float:
    """The likeliest probability of a loss if the true difference is delta, by a search for the likelihood's summit."""
    lowest, highest = max(0.0, -delta), (1 - delta) / 2

    def slope(loss: float) -> float:
        rest = n - wins - losses
        return (
            (wins / (loss + delta) if wins else 0)
            + (losses / loss if losses else 0)
            - (2 * rest / (1 - 2 * loss - delta) if rest else 0)
        )

    margin = 1e-11 * (highest - lowest)
    if slope(lowest + margin) <= 0:
        return lowest
    if slope(highest - margin) >= 0:
        return highest
    return float(optimize.brentq(slope, lowest + margin, highest - margin, xtol=1e-16, rtol=1e-14))


def tango_by_search(wins: int, losses: int, n: int, confidence: float) -> tuple[float, float]:
    """Where Tango's score statistic is as large as the normal quantile."""
    quantile = stats.norm.ppf((1 + confidence) / 2)

    def excess(delta: float) -> float:
        loss = loss_probability(wins, losses, n, delta)
        variance = n * (2 * loss + delta * (1 - delta))
        return float((wins - losses - n * delta) ** 2 - quantile**2 * variance)

    seen, end = (wins - losses) / n, 1 - 1e-4
    # At the difference seen the statistic is 0, and undefined where there are neither wins nor losses.
    low = -1.0 if seen <= -end else optimize.brentq(excess, -end, seen - 1e-10, xtol=1e-15)
    high = 1.0 if seen >= end else optimize.brentq(excess, seen + 1e-10, end, xtol=1e-15)
    return float(low), float(high)


def flip_all(differences: F) -> float:
    """The sign-flip p-value over every pattern of signs."""
    sums = [abs(float(np.dot(signs, differences))) for signs in product((-1, 1), repeat=len(differences))]
    return float(np.mean(np.array(sums) >= abs(float(differences.sum())) - 1e-9))


@pytest.mark.parametrize(("wins", "losses", "n"), COUNTS)
def test_mcnemar_is_that_of_statsmodels(wins: int, losses: int, n: int) -> None:
    table = [[n - wins - losses, wins], [losses, 0]]
    expected = mcnemar_of_statsmodels(table, exact=True).pvalue if wins + losses else 1.0
    assert float(mcnemar(wins, losses)) == pytest.approx(min(expected, 1), rel=1e-9)


def test_mcnemar_of_many_discordant_questions_is_exact() -> None:
    exact = sum(math.comb(5000, k) for k in range(2401)) * 2 / 2**5000
    assert float(mcnemar(2400, 2600)) == pytest.approx(exact, rel=1e-11)
    assert float(mcnemar(49_000, 51_000)) == pytest.approx(stats.binomtest(49_000, 100_000).pvalue, rel=1e-9)
    assert 0 < float(mcnemar(48_500, 51_500)) < 1e-20


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9999])
@pytest.mark.parametrize(("wins", "losses", "n"), COUNTS)
def test_tango_is_where_a_search_finds_the_statistic_critical(
    wins: int, losses: int, n: int, confidence: float
) -> None:
    assert np.array(tango(wins, losses, n, confidence)) == pytest.approx(
        tango_by_search(wins, losses, n, confidence), abs=1e-9
    )


def test_tango_is_what_was_published() -> None:
    """Of 21 children 1 and 7 differ: Fagerland, Lydersen & Laake 2014, "Recommended tests and confidence intervals for
    paired binomial proportions".
    """
    assert np.round(tango(1, 7, 21, 0.95), 3).tolist() == [-0.517, -0.026]


def test_tango_tells_many_pairs_as_it_tells_each() -> None:
    wins, losses, n = np.array(COUNTS).T
    together = tango(wins, losses, n, 0.95)
    apart = [tango(*counts, 0.95) for counts in COUNTS]
    assert together.low.tolist() == [float(limits.low) for limits in apart]
    assert np.isnan(tango(0, 0, 0, 0.95)).all()


@given(tables, st.floats(0.5, 0.999))
def test_tango_holds_the_difference_and_turns_with_the_pair(table: tuple[int, int, int], confidence: float) -> None:
    wins, losses, ties = table
    n = wins + losses + ties
    low, high = (float(limit) for limit in tango(wins, losses, n, confidence))
    turned = tango(losses, wins, n, confidence)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    assert (float(turned.low), float(turned.high)) == (-high, -low)


@pytest.mark.parametrize("n", [2, 30, 5000])
def test_paired_t_is_that_of_scipy(n: int) -> None:
    a, b = np.random.default_rng(n).random((2, n))
    expected = stats.ttest_rel(a, b)
    limits = expected.confidence_interval(0.99)
    differences = a - b
    told = paired_t(n, differences.sum(), (differences**2).sum(), 0.99)
    assert np.array([told.p, told.low, told.high, told.df]) == pytest.approx(
        [expected.pvalue, limits.low, limits.high, expected.df], rel=1e-9
    )
    assert float(told.se) == pytest.approx(stats.sem(differences), rel=1e-9)


def test_paired_t_has_nothing_to_tell_of_equal_differences() -> None:
    told = paired_t([0, 1, 3, 3, 1000], [0, 1, 0, 0.3, 0.1 * 1000], [0, 1, 0, 3 * 0.1**2, 1000 * 0.1**2], 0.95)
    assert np.isnan(told.se).all()
    assert np.isnan(told.low).all()
    np.testing.assert_array_equal(told.p, [np.nan, np.nan, 1, np.nan, np.nan])


@given(st.lists(st.sampled_from([-1.0, -2 / 3, -1 / 3, 0.0, 0.25, 1 / 3, 0.5, 1 - 1 / 3]), max_size=9))
def test_sign_flips_on_a_grid_are_all_flips(differences: list[float]) -> None:
    p, test = sign_flips(np.array(differences), 0)
    assert test == "sign flips (exact)"
    assert p == pytest.approx(flip_all(np.array(differences)) if differences else 1, rel=1e-9)


@pytest.mark.parametrize("m", [1, 2, 7, 12])
def test_sign_flips_of_few_are_all_flips(m: int) -> None:
    differences = np.random.default_rng(m).normal(0.4, 1, m)
    p, test = sign_flips(differences, 0)
    assert test == "sign flips (exact)"
    assert p == pytest.approx(flip_all(differences), rel=1e-9)


def test_sign_flips_of_ones_are_mcnemar() -> None:
    p, _ = sign_flips(np.repeat([1.0, -1.0, 0.0], [70, 40, 30]), 0)
    assert p == pytest.approx(float(mcnemar(70, 40)), rel=1e-9)


def test_random_flips_find_about_what_all_flips_would() -> None:
    rng = np.random.default_rng(1)
    differences = np.round(rng.normal(0.2, 1, 60), 3)
    exact, _ = sign_flips(differences, 0)
    off_grid = differences + rng.uniform(-1e-6, 1e-6, 60)
    p, test = sign_flips(off_grid, 7)
    assert test == "sign flips (10,000)"
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))
    assert (p, test) == sign_flips(-off_grid[::-1], 7)
    assert sign_flips(off_grid, 8)[0] != p
    assert sign_flips(np.abs(off_grid), 7)[0] == pytest.approx(0.5**59)


@pytest.mark.parametrize(("mean", "m"), [(1, 25), (1.2, 40), (0.9, 60), (0.6, 90), (3, 60)])
def test_few_extreme_flips_are_told_from_weighted_ones(mean: float, m: int) -> None:
    """However small p is: with 10,000 flips alone none of 500 pairs could be significant together."""
    differences = np.round(np.random.default_rng(m).normal(mean, 1, m), 2)
    differences[differences == 0] = 0.01
    # Beyond their sum on the grid, so that about half of the other flips with that sum are less extreme.
    exact, _ = sign_flips(differences, 0)
    off_grid = differences + 1e-6 * np.sqrt(np.arange(1, m + 1)) * np.sign(differences.sum())
    assert exact < 1e-3
    for seed in (0, 1):
        p, test = sign_flips(off_grid, seed)
        assert test == "sign flips (weighted)"
        assert p == pytest.approx(exact, rel=0.25)
        assert p == sign_flips(-off_grid[::-1], seed)[0]


@given(scores)
def test_a_pair_turned_round_is_told_the_same_turned_round(pairs: Any) -> None:
    a, b = columns(pairs)
    told, turned = compare_paired(a, b, confidence=0.9), compare_paired(b, a, confidence=0.9)
    assert (told.n, told.wins, told.losses, told.ties) == (turned.n, turned.losses, turned.wins, turned.ties)
    assert told.wins + told.losses + told.ties == told.n == len(a)
    assert (told.method, told.test, told.reason) == (turned.method, turned.test, turned.reason)
    mirrored = (turned.mean_b, turned.mean_a, -turned.delta, turned.se, -turned.ci_high, -turned.ci_low, turned.p)
    as_told = (told.mean_a, told.mean_b, told.delta, told.se, told.ci_low, told.ci_high, told.p)
    np.testing.assert_allclose(as_told, mirrored, rtol=1e-12, atol=1e-12)


@given(scores, st.randoms(use_true_random=False))
def test_the_order_of_questions_does_not_matter(pairs: Any, random: Any) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    told, again = (compare_paired(*columns(some), confidence=0.95, seed=3) for some in (pairs, shuffled))
    assert (told.method, told.test, told.reason, told.wins) == (again.method, again.test, again.reason, again.wins)
    np.testing.assert_allclose(_numbers(told), _numbers(again), rtol=1e-9, atol=1e-9)


@given(scores)
def test_a_pair_is_within_bounds_or_says_why_not(pairs: Any) -> None:
    a, b = columns(pairs)
    told = compare_paired(a, b, confidence=0.95)
    assert 0 < told.p <= 1
    assert told.delta == pytest.approx(told.mean_a - told.mean_b, abs=1e-12)
    assert (told.reason is None) == (told.se > 0)
    assert (told.method is None) == math.isnan(told.ci_low)
    assert math.isnan(told.ci_low) or told.ci_low <= told.delta <= told.ci_high
    if not (a - b).any():
        assert told.p == 1


def test_methods_and_tests_are_named() -> None:
    rng = np.random.default_rng(5)
    right = (rng.random((2, 300)) < [[0.7], [0.6]]).astype(np.float64)
    few, many = rng.random((2, MANY_DIFFERENCES - 1)), rng.random((2, MANY_DIFFERENCES))
    assert _named(compare_paired(*right, confidence=0.95)) == ("tango", "exact mcnemar")
    assert _named(compare_paired(*right, confidence=0.95, single_attempts=False)) == ("paired t", "paired t")
    assert _named(compare_paired(*right * 100, confidence=0.95)) == ("paired t", "paired t")
    assert _named(compare_paired(*few, confidence=0.95)) == ("paired t", "sign flips (10,000)")
    assert _named(compare_paired(*np.round(few * 4), confidence=0.95)) == ("paired t", "sign flips (exact)")
    assert _named(compare_paired(*many, confidence=0.95)) == ("paired t", "paired t")
    clusters = np.arange(300) // 10
    assert _named(compare_paired(*right, confidence=0.95, clusters=clusters)) == ("clustered t (CR2)", "clustered t")


def test_a_mean_comparison_is_that_of_scipy() -> None:
    a, b = np.random.default_rng(2).random((2, 400))
    told, expected = compare_paired(a, b, confidence=0.95), stats.ttest_rel(a, b)
    limits = expected.confidence_interval(0.95)
    assert (told.p, told.df) == pytest.approx((expected.pvalue, 399), rel=1e-9)
    assert (told.ci_low, told.ci_high) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_another_scale_changes_the_unit_only() -> None:
    right = (np.random.default_rng(4).random((2, 200)) < 0.6).astype(np.float64)
    told = compare_paired(*right, confidence=0.95)
    scaled = compare_paired(*right * 60 - 10, confidence=0.95, lowest=-10, highest=50)
    for name in ("delta", "se", "sd", "ci_low", "ci_high"):
        assert getattr(scaled, name) == pytest.approx(60 * getattr(told, name), rel=1e-12)
    assert scaled.mean_a == pytest.approx(60 * told.mean_a - 10)
    assert (scaled.p, scaled.test) == (told.p, told.test)


def test_counts_of_many_pairs_are_told_as_each_pair() -> None:
    right = (np.random.default_rng(6).random((4, 2, 90)) < 0.5).astype(np.float64)
    together = compare_counts(
        [90] * 4,
        right[:, 0].sum(axis=1),
        (right[:, 0] > right[:, 1]).sum(axis=1),
        (right[:, 0] < right[:, 1]).sum(axis=1),
        0.95,
    )
    for told, two in zip(together, right, strict=True):
        expected = compare_paired(*two, confidence=0.95)
        np.testing.assert_allclose(_numbers(told), _numbers(expected), rtol=1e-12)
        differences = two[0] - two[1]
        assert (told.delta, told.se) == pytest.approx((differences.mean(), stats.sem(differences)), rel=1e-9)
        assert told.mean_b == pytest.approx(two[1].mean())


def test_a_clustered_pair_is_a_t_test_of_equal_clusters() -> None:
    """With clusters of one size CR2 is Student's t of the clusters' means."""
    a, b = np.random.default_rng(8).random((2, 120))
    told = compare_paired(a, b, confidence=0.95, clusters=np.tile(np.arange(12) * 7, 10))
    expected = stats.ttest_1samp((a - b).reshape(10, 12).mean(axis=0), 0)
    limits = expected.confidence_interval(0.95)
    assert (told.p, told.df, told.n_clusters) == pytest.approx((expected.pvalue, 11, 12), rel=1e-9)
    assert (told.ci_low, told.ci_high) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_clusters_of_many_sizes_have_the_error_of_cr2() -> None:
    a, b = np.random.default_rng(10).random((2, 120))
    clusters = np.repeat(np.arange(6), [5, 5, 10, 20, 30, 50])
    told = compare_paired(a, b, confidence=0.95, clusters=clusters)
    totals, sizes = np.bincount(clusters, a - b), np.bincount(clusters)
    expected = clustered_means(np.zeros(6, np.intp), totals, sizes, 1, kind="cr2")
    assert (told.se, told.df) == pytest.approx((expected.se[0], expected.df[0]), rel=1e-9)
    assert told.p == pytest.approx(2 * stats.t.sf(abs(told.delta) / told.se, told.df), rel=1e-9)


def test_what_cannot_be_told_is_nan_with_its_reason() -> None:
    a, b = np.random.default_rng(9).random((2, 40))
    four = compare_paired(a, b, confidence=0.95, clusters=np.arange(40) // 10)
    assert (four.n_clusters, four.method, four.test) == (4, None, None)
    assert four.reason is not None
    assert "at least 5" in four.reason
    assert math.isnan(four.p)
    same = compare_paired(a, a, confidence=0.95, clusters=np.arange(40) // 4)
    assert (same.p, same.method) == (1, None)
    assert math.isnan(compare_paired(a, a - 0.5, confidence=0.95, clusters=np.arange(40) // 4).p)
    shifted = compare_paired(a, a - 0.5, confidence=0.95)
    assert shifted.method is None
    assert shifted.p == pytest.approx(2.0**-39, rel=1e-9)
    assert compare_paired(a[:1], b[:1], confidence=0.95).reason == "one shared question tells nothing of the error"
    for nothing in (
        compare_paired(a[:0], b[:0], confidence=0.95),
        compare_paired(a[:0], b[:0], confidence=0.95, lowest=2),
    ):
        assert (nothing.n, nothing.reason, nothing.method, nothing.test) == (0, "no shared questions", None, None)
        assert np.isnan(_numbers(nothing)).all()


def _numbers(told: Paired) -> list[float]:
    return [getattr(told, name) for name in NUMBERS]


def _named(told: Paired) -> tuple[str | None, str | None]:
    return told.method, told.test


@pytest.mark.parametrize("more", [1, 2, 50, 1000])
def test_mcnemar_of_counts_next_to_each_other_is_1(more: int) -> None:
    assert float(mcnemar(more, more - 1)) == float(mcnemar(more, more)) == 1

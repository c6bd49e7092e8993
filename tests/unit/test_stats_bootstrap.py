"""What bootstrap draws hang on, what they may not hang on, and that they spread as means do."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from analysis_service.stats.bootstrap import WEIGHTS, Steps, bootstrap_means, bootstrap_ranks, bootstrap_steps
from analysis_service.stats.seeds import seeded

F = NDArray[np.float64]
RNG = np.random.default_rng(0)
FEW_VALUES = RNG.choice([-1.0, 0.0, 1.0], p=[0.2, 0.5, 0.3], size=900)
MANY_VALUES = RNG.normal(0.1, 1, 900)
KINDS = pytest.mark.parametrize("differences", [FEW_VALUES, MANY_VALUES], ids=["few values", "many values"])

lists = st.one_of(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 1 / 3, 1.0]), max_size=30),
    st.lists(st.floats(-3, 3, width=32), max_size=90),
    st.lists(st.floats(-3, 3, width=32), min_size=66, max_size=90, unique=True),
)


def intervals(*differences: F, draws: int = 400, seed: int = 0, confidence: float = 0.95) -> list[tuple[float, float]]:
    """Of each, what its draws say but for how often they are above 0."""
    told = bootstrap_means(differences, draws=draws, seed=seed, confidence=confidence)
    return [(drawn.low, drawn.high) for drawn in told]


def redraw(scores: F, draws: int, seed: int) -> F:
    """Means of questions drawn with replacement, a model and draw each, the slow way."""
    rng, n = np.random.default_rng(seed), scores.shape[1]
    return np.array([scores[:, rng.integers(0, n, n)].mean(axis=1) for _ in range(draws)]).T


@given(lists, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_neither_order_nor_side_matters(differences: list[float], random: object) -> None:
    own = np.array(differences, np.float64)
    [(low, high)] = intervals(own, draws=50)
    random.shuffle(differences)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(intervals(np.array(differences, np.float64), draws=50), [(low, high)])
    np.testing.assert_array_equal(intervals(-own, draws=50), [(-high, -low)])
    if len(set(differences)) > 1:
        assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9
    else:
        assert np.isnan([low, high]).all()


def test_a_pair_has_its_interval_whatever_is_asked_with_it() -> None:
    rng = np.random.default_rng(1)
    pairs = [rng.normal(size=n) for n in (300, 900, 1100, 2000, *[500] * 70)]
    pairs += [rng.choice([0.0, 0.25, 0.5, 1.0], size=n) for n in (40, 900)]
    together = intervals(*pairs, draws=100)
    assert together == [intervals(own, draws=100)[0] for own in pairs]
    assert together == intervals(*pairs[::-1], draws=100)[::-1]
    assert len(set(together)) == len(pairs)


@KINDS
def test_seed_and_draws_make_the_interval(differences: F) -> None:
    told = [
        intervals(differences, seed=seed, draws=draws)[0]
        for seed, draws in [(0, 400), (1, 400), (2**70, 400), (0, 401)]
    ]
    assert len(set(told)) == 4
    assert told[2] == intervals(differences, seed=2**70)[0]


@KINDS
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_as_wide_as_the_mean_is_unsure(differences: F, confidence: float) -> None:
    [(low, high)] = intervals(differences, draws=20_000, confidence=confidence)
    slow = np.quantile(redraw(differences[None], 4000, 1)[0], [(1 - confidence) / 2, (1 + confidence) / 2])
    expected = stats.norm.interval(confidence, differences.mean(), stats.sem(differences))
    assert (low, high) == pytest.approx(expected, abs=0.02 * (high - low))
    assert (low, high) == pytest.approx(tuple(slow), abs=0.04 * (high - low))


def test_weights_are_those_of_a_poisson_distribution() -> None:
    shares = np.bincount(WEIGHTS.astype(np.int64)) / 2**16
    assert shares == pytest.approx(stats.poisson.pmf(np.arange(9), 1), abs=2 / 2**16)
    assert (len(WEIGHTS), WEIGHTS.mean(), WEIGHTS.var()) == (2**16, 1, 1)


@KINDS
def test_differences_that_mirror_themselves_have_a_symmetric_interval(differences: F) -> None:
    mirrored = np.concatenate([differences, -differences])
    [(low, high)] = intervals(mirrored)
    assert low == -high < 0
    assert high == pytest.approx(1.96 * stats.sem(mirrored), rel=0.1)


@KINDS
def test_the_unit_of_scores_does_not_matter(differences: F) -> None:
    [(low, high)] = intervals(differences)
    assert intervals(differences * 1024.0) == [(low * 1024, high * 1024)]
    assert intervals(differences * 2.0**-900) == [(low * 2.0**-900, high * 2.0**-900)]


def test_noise_in_the_last_digits_does_not_matter() -> None:
    thirds = np.repeat([1 / 3, -1 / 3, 1.0], [20, 10, 9])
    noisy = np.repeat([1 - 2 / 3, 2 / 3 - 1, 1.0], [20, 10, 9])
    assert not np.array_equal(thirds, noisy)
    assert intervals(thirds) == intervals(noisy)


def test_a_draw_of_no_question_tells_the_mean_that_was_seen() -> None:
    """Of two questions one draw in seven has neither."""
    assert intervals(np.array([1.0, 3.0])) == [(1, 3)]


def test_seeds_do_not_run_into_what_follows_them() -> None:
    drawn = [seeded(*of).random() for of in (("a", 1, 23), ("a", 12, 3), ("a1", 2, 3), ("a", 1, b"23"), ("a", -1))]
    assert len(set(drawn)) == 4
    assert drawn[0] == drawn[3]


def test_counts_are_the_differences_that_they_count() -> None:
    tables = [(900, 300, 200), (40, 0, 3), (40, 0, 0), (30, 30, 0), (90, 40, 40)]
    differences = [np.repeat([25.0, -25.0, 0.0], [wins, losses, n - wins - losses]) for n, wins, losses in tables]
    steps = [Steps.of_counts(*table, 25.0) for table in tables]
    counted = bootstrap_steps(steps, draws=300, seed=5, confidence=0.9)
    np.testing.assert_array_equal(counted, bootstrap_means(differences, draws=300, seed=5, confidence=0.9))


def test_where_there_is_nothing_to_draw_there_is_no_interval() -> None:
    nothing: Sequence[F] = (np.array([]), np.array([0.5]), np.zeros(30), np.full(100, 0.1))
    assert np.isnan(intervals(*nothing)).all()
    assert np.isnan(intervals(FEW_VALUES, MANY_VALUES, draws=0)).all()
    assert np.isnan(bootstrap_ranks(np.zeros((2, 0)), draws=10, seed=0)).all()
    assert np.isnan(bootstrap_ranks(np.ones((2, 9)), draws=0, seed=0)).all()


def test_who_is_first_is_as_likely_as_among_redrawn_questions() -> None:
    rng = np.random.default_rng(3)
    graded = rng.random((3, 400)) + np.array([[0.02], [0.0], [0.03]])
    right = (rng.random((3, 2000)) < [[0.51], [0.5], [0.52]]).astype(np.float64)
    for scores in (graded, right):
        told = bootstrap_ranks(scores, draws=4000, seed=0)
        means = redraw(scores, 4000, 2)
        firsts = means >= means.max(axis=0) - 1e-12
        assert told == pytest.approx((firsts / firsts.sum(axis=0)).mean(axis=1), abs=0.05)
        assert told.sum() == pytest.approx(1)


@pytest.mark.parametrize("n_values", [2, 1000])
def test_ranks_do_not_hang_on_the_order_of_questions(n_values: int) -> None:
    rng = np.random.default_rng(4)
    scores = rng.integers(0, n_values, (4, 500)) / (n_values - 1)
    told = bootstrap_ranks(scores, draws=300, seed=0)
    assert told.tolist() == bootstrap_ranks(scores[:, rng.permutation(500)], draws=300, seed=0).tolist()
    assert told.tolist() != bootstrap_ranks(scores, draws=300, seed=1).tolist()


@pytest.mark.parametrize("n", [50, 5000])
def test_equal_models_share_the_first_place(n: int) -> None:
    own = np.random.default_rng(5).random(n)
    assert bootstrap_ranks(np.stack([own, own, own - 0.2]), draws=100, seed=0).tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("n_values", [2, 1000])
def test_ranks_do_not_hang_on_the_order_of_named_models(n_values: int) -> None:
    rng = np.random.default_rng(5)
    scores = rng.integers(0, n_values, (4, 300)).astype(np.float64)
    names = ["d", "a", "c", "b"]
    found = bootstrap_ranks(scores, draws=200, seed=1, names=names)
    order = [2, 0, 3, 1]
    other = bootstrap_ranks(scores[order], draws=200, seed=1, names=[names[place] for place in order])
    assert other.tolist() == found[order].tolist()

"""Steps in series of runs: planted ones are found where they are, and none where there is none."""

import time
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis_service.stats.steps import STEPS_MAX, find_steps

F = NDArray[np.float64]


def series(seed: int, shifts: list[float], questions: int = 200) -> F:
    """Right and wrong answers of one run a shift, to questions of different difficulty."""
    random = np.random.default_rng(seed)
    chance = random.beta(4, 2, questions)
    moved = np.clip(chance + np.array(shifts)[:, None], 0, 1)
    return np.asarray(random.random((len(shifts), questions)) < moved, np.float64)


def test_planted_steps_are_found_and_measured() -> None:
    scores = series(1, [0.0] * 6 + [-0.2] * 5 + [0.1] * 4)
    down, up = find_steps(scores)
    assert (down.at, up.at) == (6, 11)
    difference = scores[6:11].mean(axis=0) - scores[:6].mean(axis=0)
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert down.delta == pytest.approx(difference.mean())
    assert down.se == pytest.approx(stats.sem(difference))
    assert (down.low, down.high) == pytest.approx((expected.low, expected.high))
    assert (down.df, down.n_questions) == (199, 200)
    assert -0.25 < down.delta < -0.15
    assert 0.2 < up.delta < 0.3
    assert max(down.p, up.p) < 0.01


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_none_is_found_where_there_is_none(shift: float) -> None:
    """With all splits looked at: 5 % of series may have one. More than 24 of 240 would happen once in 1,500.

    With the shift nearly all answers are right.
    """
    found = sum(bool(find_steps(series(seed, [shift] * 9, 60), seed=seed, flips=199)) for seed in range(240))
    assert found <= 24


def test_the_search_is_allowed_for() -> None:
    """What it is for: taking the best split's own p would find steps in far more than 5 % of series."""
    naive = 0
    for seed in range(100):
        scores = series(seed, [0.0] * 15, 60)
        naive += any(
            stats.ttest_1samp(scores[at:].mean(axis=0) - scores[:at].mean(axis=0), 0).pvalue < 0.05
            for at in range(1, 15)
        )
    assert naive > 15


def without_skewness(values: F) -> float:
    """Hall's transformation of t, by its definition."""
    t = stats.ttest_1samp(values, 0).statistic
    skewness = stats.skew(values) / np.sqrt(len(values))
    return abs(float(t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6))


def test_p_is_that_of_all_flips_at_the_one_split() -> None:
    """Two runs have one split, where p is that of a paired sign-flip test: here of all flips there are."""
    random = np.random.default_rng(72)  # with these t as it is would have .45
    difference = random.exponential(1, 10) - random.choice([0.2, 0.4, 0.6])
    scores = np.stack([np.ones(10), 1 + difference])
    [step] = find_steps(scores, questions_min=10, flips=39_999, confidence=0.5)
    flipped = [without_skewness(np.array(signs) * difference) for signs in product([-1, 1], repeat=10)]
    assert step.p == pytest.approx(np.mean(np.array(flipped) >= without_skewness(difference) - 1e-9), abs=0.01)


@pytest.mark.parametrize("wide", [1e-80, 1.0, 1e100])
def test_scales_do_not_matter(wide: float) -> None:
    scores = series(1, [0.0] * 4 + [-0.2] * 4)
    [plain], [scaled] = find_steps(scores), find_steps(scores * wide)
    assert (scaled.at, scaled.p) == (plain.at, plain.p)
    assert scaled.delta == pytest.approx(plain.delta * wide, rel=1e-9, abs=0)


def test_only_questions_of_both_sides_count() -> None:
    scores = series(2, [0.0] * 4 + [0.3] * 4, 120)
    scores[:4, 100:] = np.nan  # asked only after
    scores[4:, :10] = np.nan  # asked only before
    scores[1, 30:40] = np.nan  # left out once
    [step] = find_steps(scores)
    assert (step.at, step.n_questions) == (4, 90)
    before, after = np.nanmean(scores[:4, 10:100], axis=0), scores[4:, 10:100].mean(axis=0)
    assert step.delta == pytest.approx((after - before).mean())


def test_other_questions_are_no_step() -> None:
    """Easier questions from some run on: what both sides have has not moved, though the means have."""
    scores = series(3, [0.0] * 8, 150)
    scores[:4, 100:] = np.nan
    scores[4:, 100:] = 1.0
    assert find_steps(scores) == []
    scores[4:] += 1.0
    assert [step.at for step in find_steps(scores)] == [4]


def test_a_few_questions_in_common_are_too_few() -> None:
    scores = np.repeat([[0.0], [1.0]], 40, axis=1)
    scores[0, 25:], scores[1, :15] = np.nan, np.nan
    assert find_steps(scores) == []
    assert [step.n_questions for step in find_steps(scores, questions_min=10)] == [10]


@pytest.mark.parametrize(
    "scores",
    [np.zeros((0, 5)), np.ones((1, 50)), np.ones((6, 50)), np.full((4, 50), np.nan), np.zeros((3, 0)), np.eye(4)],
)
def test_where_nothing_can_be_found(scores: F) -> None:
    assert find_steps(scores) == []


def test_a_shift_of_every_question_alike() -> None:
    scores = np.zeros((5, 30))
    scores[2:] = 1.0
    [step] = find_steps(scores)
    assert (step.at, step.delta, step.se, step.low) == (2, 1, 0, 1)
    assert step.p == pytest.approx(1 / 2000)


def test_each_part_has_its_share_of_the_error() -> None:
    """What a search of the first runs alone finds is less sure where more runs are searched."""
    later = [-0.9] * 7
    clear = series(1, [0.0] * 3 + [0.25] * 3 + later)
    [alone] = find_steps(clear[:6])
    assert [step.p for step in find_steps(clear)] == pytest.approx([alone.p * 12 / 5, 1 / 2000])
    faint = series(3, [0.0] * 3 + [0.06] * 3 + later)
    [alone] = find_steps(faint[:6])
    assert 0.05 > alone.p > 0.05 * 5 / 12
    assert [step.at for step in find_steps(faint)] == [6]


def test_a_step_lies_where_it_is_though_questions_move_by_different_amounts() -> None:
    """t is about as great at every split then."""
    random = np.random.default_rng(9)
    scores = random.normal(0, 0.01, (12, 80))
    scores[7:] += random.normal(0.5, 0.5, 80)
    assert [step.at for step in find_steps(scores)] == [7]


def test_equal_seeds_give_equal_steps_and_questions_may_come_in_any_order() -> None:
    scores = series(5, [0.0] * 7 + [0.07] * 7)
    steps = find_steps(scores, seed=2**63 - 1)
    assert len(steps) == 1
    assert find_steps(scores, seed=2**63 - 1) == steps
    [moved] = find_steps(scores[:, ::-1], seed=2**63 - 1)
    assert moved.at == steps[0].at
    assert moved.delta == pytest.approx(steps[0].delta)
    [back] = find_steps(scores[::-1], seed=2**63 - 1)
    assert back.at == 14 - steps[0].at
    assert back.delta == pytest.approx(-steps[0].delta)
    [mirrored] = find_steps(1 - scores, seed=2**63 - 1)
    assert (mirrored.at, mirrored.p) == (steps[0].at, steps[0].p)
    assert mirrored.delta == pytest.approx(-steps[0].delta)


def test_a_fresh_step_of_the_last_run_is_found() -> None:
    [step] = find_steps(series(6, [0.0] * 11 + [-0.3]))
    assert step.at == 11
    assert step.delta < -0.2


def test_no_more_steps_than_told() -> None:
    staircase = np.arange(60)[:, None] + np.random.default_rng(1).normal(0, 0.01, (60, 40))
    assert len(find_steps(staircase)) == STEPS_MAX


def test_many_runs_of_a_large_benchmark() -> None:
    """Of more splits than are tested the step still lies where it is."""
    scores = series(8, [0.0] * 203 + [0.02] * 97, 2_000)
    began = time.process_time()
    [step] = find_steps(scores)
    assert time.process_time() - began < 5
    assert step.at == pytest.approx(203, abs=1)

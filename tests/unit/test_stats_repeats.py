"""What several attempts tell, against counting all draws, and a slow analysis of variance."""

from collections import Counter, defaultdict
from itertools import combinations
from math import comb
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis_service.stats.repeats import (
    agreement,
    count_right,
    majority_scores,
    pass_all_k,
    pass_at_k,
    question_means,
    variance_components,
)

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_pass_rates_are_what_all_draws_give(n: int) -> None:
    for c in range(n + 1):
        right = [place < c for place in range(n)]
        for k in range(1, n + 1):
            draws = list(combinations(right, k))
            assert pass_at_k(n, c, k) == pytest.approx(fmean(map(any, draws)), abs=1e-12)
            assert pass_all_k(n, c, k) == pytest.approx(fmean(map(all, draws)), abs=1e-12)


def test_pass_rates_of_many_attempts_are_exact() -> None:
    for n, c, k in [(200, 1, 100), (10_000, 3, 5_000), (10_000, 9_999, 10_000), (1_000, 500, 40)]:
        assert pass_at_k(n, c, k) == pytest.approx(float(1 - comb(n - c, k) / comb(n, k)), abs=1e-12)
        assert pass_all_k(n, c, k) == pytest.approx(comb(c, k) / comb(n, k), abs=1e-12)


def test_pass_rates_broadcast_and_leave_out_questions_with_fewer_attempts() -> None:
    at = pass_at_k(np.array([4, 2]), np.array([1, 1]), np.array([[1], [2], [3]]))
    assert at == pytest.approx(np.array([[0.25, 0.5], [0.5, 1.0], [0.75, np.nan]]), nan_ok=True)
    every = pass_all_k(np.array([4, 2]), np.array([3, 2]), np.array([[1], [3]]))
    assert every == pytest.approx(np.array([[0.75, 1.0], [0.25, np.nan]]), nan_ok=True)


@given(st.integers(1, 40), st.data())
def test_laws_of_pass_rates(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    ks = np.arange(1, n + 1)
    at, every = pass_at_k(n, c, ks), pass_all_k(n, c, ks)
    assert at[0] == pytest.approx(c / n) == every[0]
    assert (np.diff(at) >= -1e-12).all()
    assert (np.diff(every) <= 1e-12).all()
    assert ((at >= 0) & (at <= 1) & (every >= 0) & (every <= at + 1e-12)).all()
    # Some are wrong: the other side of all being right.
    assert pass_at_k(n, n - c, ks) == pytest.approx(1 - every, abs=1e-12)
    assert at[-1] == pytest.approx(float(c > 0))


def attempts(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Questions with one to seven attempts, in random order; some answers are missing."""
    random = np.random.default_rng(seed)
    question = np.repeat(np.arange(30), random.integers(1, 8, 30))
    random.shuffle(question)
    answer = random.integers(-1, 3, len(question)).astype(np.intp)
    score = np.where(answer == 0, 1.0, np.where(answer == 1, 0.25, 0.0))
    return question, score, answer


@pytest.mark.parametrize("seed", range(5))
def test_votes_and_agreement_equal_counting(seed: int) -> None:
    question, score, answer = attempts(seed)
    majority, alike = majority_scores(question, score, answer), agreement(question, answer)
    for number in range(30):
        own = [(int(a), float(s)) for q, s, a in zip(question, score, answer, strict=True) if q == number and a >= 0]
        counts = Counter(a for a, _ in own)
        if not own:
            assert np.isnan(majority[number])
        else:
            score_of = dict(own)
            best = [score_of[a] for a, count in counts.items() if count == max(counts.values())]
            assert majority[number] == pytest.approx(fmean(best))
        if len(own) < 2:
            assert np.isnan(alike[number])
        else:
            assert alike[number] == pytest.approx(fmean(a == b for (a, _), (b, _) in combinations(own, 2)))


def test_an_answer_that_was_graded_both_ways_counts_with_its_mean() -> None:
    question, answer = np.zeros(4, np.intp), np.array([1, 1, 1, 0])
    assert majority_scores(question, np.array([1.0, 0.0, 0.0, 1.0]), answer) == pytest.approx([1 / 3])


def test_no_answers_at_all() -> None:
    question, none = np.array([0, 0, 1]), np.full(3, -1)
    assert np.isnan(majority_scores(question, np.ones(3), none)).all()
    assert np.isnan(agreement(question, none)).all()


@pytest.mark.parametrize("seed", range(5))
def test_variance_components_equal_the_definition(seed: int) -> None:
    question, score, _ = attempts(seed)
    groups = defaultdict(list)
    for number, one in zip(question.tolist(), score.tolist(), strict=True):
        groups[number].append(one)
    sizes = [len(group) for group in groups.values()]
    n, a = sum(sizes), len(sizes)
    f = stats.f_oneway(*groups.values()).statistic
    within = sum(sum((one - fmean(group)) ** 2 for one in group) for group in groups.values()) / (n - a)
    n0 = (n - sum(size**2 for size in sizes) / n) / (a - 1)
    found = variance_components(question, score)
    assert found.attempt == pytest.approx(within, abs=1e-12)
    assert found.question == pytest.approx(max(0.0, (f * within - within) / n0), abs=1e-12)


def test_variance_components_are_unbiased_where_attempts_are_unequal() -> None:
    found = []
    for _ in range(300):
        question = np.repeat(np.arange(60), RANDOM.integers(1, 6, 60))
        score = RANDOM.normal(0, 2, 60)[question] + RANDOM.normal(0, 1, len(question))
        found.append(variance_components(question, score))
    assert np.mean([one.question for one in found]) == pytest.approx(4, rel=0.05)
    assert np.mean([one.attempt for one in found]) == pytest.approx(1, rel=0.05)


def test_variance_components_that_there_are_not() -> None:
    single = variance_components(np.arange(5), np.ones(5))
    assert np.isnan(single.question)
    assert np.isnan(single.attempt)
    one = variance_components(np.zeros(3, np.intp), np.array([0.0, 1.0, 1.0]))
    assert np.isnan(one.question)
    assert one.attempt == pytest.approx(1 / 3)
    # Attempts differ more than questions do: their share is not negative.
    assert variance_components(np.array([0, 0, 1, 1]), np.array([0.0, 1, 0, 1])).question == 0
    assert variance_components(np.array([0, 0, 1, 1]), np.zeros(4)) == (0, 0)


@given(st.permutations(list(range(25))))
def test_order_does_not_matter(order: list[int]) -> None:
    question, score, answer = attempts(3)
    place = np.array([one for one in order if one < len(question)])
    place = np.concatenate([place, np.arange(25, len(question))])
    again = question[place], score[place], answer[place]
    assert question_means(*again[:2]) == pytest.approx(question_means(question, score))
    assert majority_scores(*again) == pytest.approx(majority_scores(question, score, answer), nan_ok=True)
    assert variance_components(*again[:2]) == pytest.approx(variance_components(question, score))
    n, c = count_right(question, score == 1)
    assert [list(column) for column in count_right(again[0], again[1] == 1)] == [list(n), list(c)]

"""All pairs at once are told as each pair by itself."""

import math
from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis_service.stats.bootstrap import bootstrap_means, bootstrap_ranks
from analysis_service.stats.matrix import AllCompared, compare_all
from analysis_service.stats.paired import compare_paired, subtract

F = NDArray[np.float64]
N = 260


def made_scores(kind: str) -> F:
    """Five models × 260 questions, some of them without a score."""
    rng = np.random.default_rng(0)
    scores = rng.random((5, N)) + np.linspace(0, 0.2, 5)[:, None]
    match kind:
        case "right or wrong":
            scores = np.round(scores / 1.2)
        case "grades":
            scores = np.round(scores / 1.2 * 4) / 4
        case "two of each":
            scores[:3] = np.round(scores[:3] / 1.2)
        case "no gaps":
            return np.round(scores / 1.2)
    gaps = rng.random((5, N)) < 0.1
    gaps[4, :100] = True
    return np.where(gaps, np.nan, scores)


def compare(scores: F, **others: object) -> AllCompared:
    """With settings of no interest."""
    return compare_all(scores, confidence=0.9, draws=200, seed=3, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["right or wrong", "grades", "two of each", "measured", "no gaps"])
@pytest.mark.parametrize("single", [True, False])
def test_each_pair_is_told_as_by_itself(kind: str, single: bool) -> None:
    scores = made_scores(kind)
    is_single = np.ones(scores.shape, np.bool_)
    is_single[1, ::2] = single
    told = compare(scores, single_attempts=is_single)
    for place, (i, j) in enumerate(combinations(range(5), 2)):
        shared = ~np.isnan(scores[i] + scores[j])
        a, b = scores[i, shared], scores[j, shared]
        alone = compare_paired(a, b, confidence=0.9, seed=3, single_attempts=bool(single or 1 not in (i, j)))
        assert (told.pairs[place].method, told.pairs[place].test) == (alone.method, alone.test)
        for found, expected in zip(astuple(told.pairs[place]), astuple(alone), strict=True):
            if isinstance(expected, float):
                assert found == pytest.approx(expected, rel=1e-12, abs=1e-14, nan_ok=True)
            else:
                assert found == expected
        [limits] = bootstrap_means([subtract(a, b)], draws=200, seed=3, confidence=0.9)
        assert told.bootstrap[place] == limits


def test_ranks_are_about_the_questions_that_all_share() -> None:
    scores = made_scores("grades")
    shared = scores[:, ~np.isnan(scores).any(axis=0)]
    told = compare(scores)
    assert told.n_shared_by_all == shared.shape[1] < N
    assert told.means.tolist() == shared.mean(axis=1).tolist()
    assert told.p_best.tolist() == bootstrap_ranks(shared, draws=200, seed=3).tolist()


def test_attempts_at_other_questions_do_not_matter_to_a_pair() -> None:
    scores = made_scores("right or wrong")[:2]
    scores[0, :10], scores[1, :10] = 1, np.nan
    is_single = np.ones(scores.shape, np.bool_)
    is_single[0, :10] = False
    found, expected = compare(scores, single_attempts=is_single), compare(scores)
    assert (found.pairs, found.bootstrap) == (expected.pairs, expected.bootstrap)
    assert found.pairs[0].method == "tango"
    is_single[0, 20:60] = False
    assert compare(scores, single_attempts=is_single).pairs[0].method == "paired t"


@pytest.mark.parametrize("kind", ["right or wrong", "grades", "measured"])
def test_of_two_the_draws_of_the_pair_tell_who_is_first(kind: str) -> None:
    scores = made_scores(kind)[:2]
    shared = scores[:, ~np.isnan(scores).any(axis=0)]
    shared[1] += shared[0].mean() - shared[1].mean() + 0.01  # close, so that draws differ
    told, turned = (compare_all(own, confidence=0.9, draws=5000, seed=3).p_best for own in (shared, shared[::-1]))
    assert told.tolist() == turned[::-1].tolist()
    assert told.sum() == 1
    np.testing.assert_allclose(told, bootstrap_ranks(shared, draws=5000, seed=4), atol=4 * (0.5 / 5000) ** 0.5)


@pytest.mark.parametrize(("delta", "p_best"), [(0, [0.5, 0.5]), (0.1, [1, 0]), (-0.1, [0, 1])])
def test_of_two_that_differ_by_the_same_everywhere_all_draws_tell_the_same(delta: float, p_best: list[float]) -> None:
    scores = np.stack([np.linspace(0.2, 0.8, 40) + delta, np.linspace(0.2, 0.8, 40)])
    assert compare(scores).p_best.tolist() == p_best


def test_clusters_are_those_of_the_shared_questions() -> None:
    scores = made_scores("grades")
    clusters = np.arange(N) // 10
    told = compare(scores, clusters=clusters)
    shared = ~np.isnan(scores[0] + scores[4])
    alone = compare_paired(scores[0, shared], scores[4, shared], confidence=0.9, clusters=clusters[shared])
    assert told.pairs[3] == alone
    assert (alone.n_clusters, alone.method) == (16, "clustered t (CR2)")
    assert np.isnan(told.bootstrap).all()


def test_clusters_make_it_less_sure_who_is_best() -> None:
    rng = np.random.default_rng(1)
    clusters = np.arange(N) // 26
    scores = rng.random((2, N)) / 10 + rng.random((2, 10))[:, clusters] + [[0.03], [0.0]]
    clear, clustered = compare(scores).p_best, compare(scores, clusters=clusters).p_best
    best = int(np.argmax(clear))
    assert 0.5 < clustered[best] < clear[best]


def test_nothing_shared_is_nothing_told() -> None:
    scores = np.full((3, 40), np.nan)
    scores[0, :20], scores[1, 20:], scores[2] = 1, 0, np.arange(40) % 2
    told = compare(scores)
    assert [pair.n for pair in told.pairs] == [0, 20, 20]
    assert told.pairs[0].reason == "no shared questions"
    assert math.isnan(told.pairs[0].p)
    assert told.n_shared_by_all == 0
    assert np.isnan([*told.means, *told.p_best, *told.bootstrap[0]]).all()
    assert np.isnan(compare(scores / 3).bootstrap[0]).all()


def test_a_scale_of_its_own_is_right_or_wrong_at_its_ends() -> None:
    scores = made_scores("right or wrong")
    told, scaled = compare(scores), compare(scores * 100 - 50, lowest=-50, highest=50)
    assert {pair.method for pair in scaled.pairs} == {"tango"}
    assert [pair.p for pair in scaled.pairs] == [pair.p for pair in told.pairs]
    times = [100, 100, 1]  # the share of draws is of no scale
    np.testing.assert_allclose(scaled.bootstrap, times * np.array(told.bootstrap), rtol=1e-8)

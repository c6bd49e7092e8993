"""Ranks, their intervals and tie groups, in tables and laws."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis_service.stats.ranks import rank_intervals

NAN = float("nan")


def told_better(n: int, *pairs: tuple[int, int]) -> NDArray[np.int8]:
    """Of each pair the first is told to be better."""
    told = np.zeros((n, n), np.int8)
    for better, worse in pairs:
        told[better, worse], told[worse, better] = 1, -1
    return told


TABLE = [
    # means, (better, worse) …, rank, low, high, tie group
    ([0.5], [], [1], [1], [1], [1]),
    ([0.9, 0.8, 0.7], [], [1, 2, 3], [1, 1, 1], [3, 3, 3], [1, 1, 1]),
    ([0.7, 0.8, 0.9], [(2, 0), (2, 1), (1, 0)], [3, 2, 1], [3, 2, 1], [3, 2, 1], [3, 2, 1]),
    # The first is told from the last alone; the one between from neither.
    ([0.9, 0.8, 0.7], [(0, 2)], [1, 2, 3], [1, 1, 2], [2, 3, 3], [1, 1, 2]),
    # A lower mean, of which less is known, may be in the first group where a higher one is not.
    ([0.9, 0.8, 0.7], [(0, 1)], [1, 2, 3], [1, 2, 1], [2, 3, 3], [1, 2, 1]),
    ([0.8, 0.9, 0.8, 0.8 + 1e-16], [(1, 0)], [2, 1, 2, 2], [2, 1, 1, 1], [4, 3, 4, 4], [2, 1, 1, 1]),
    ([0.8, NAN, 0.9], [(2, 0)], [2, 0, 1], [2, 0, 1], [2, 0, 1], [2, 0, 1]),
    ([NAN, NAN], [], [0, 0], [0, 0], [0, 0], [0, 0]),
    ([0.0, 0.0, -3.0], [(0, 2)], [1, 1, 3], [1, 1, 2], [2, 3, 3], [1, 1, 2]),
]


@pytest.mark.parametrize(("means", "better", "rank", "low", "high", "group"), TABLE)
def test_ranks_are(
    means: list[float],
    better: list[tuple[int, int]],
    rank: list[int],
    low: list[int],
    high: list[int],
    group: list[int],
) -> None:
    found = rank_intervals(np.array(means), told_better(len(means), *better))
    assert [numbers.tolist() for numbers in found] == [rank, low, high, group]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.data())
def test_a_rank_is_within_its_interval_and_a_group_starts_with_its_best(
    means: list[float], data: st.DataObject
) -> None:
    n = len(means)
    apart = [
        (i, j) if means[i] > means[j] else (j, i)
        for i, j in combinations(range(n), 2)
        if abs(means[i] - means[j]) > 1e-6 and data.draw(st.booleans())
    ]
    told = told_better(n, *apart)
    ranks = rank_intervals(np.array(means), told)
    assert (ranks.low <= ranks.rank).all()
    assert (ranks.rank <= ranks.high).all()
    assert sorted(set(ranks.tie_group.tolist())) == list(range(1, int(ranks.tie_group.max()) + 1))
    for group in set(ranks.tie_group.tolist()):
        members = np.flatnonzero(ranks.tie_group == group)
        best = ranks.rank[members].min()
        assert any((told[first, members] == 0).all() for first in members if ranks.rank[first] == best)
        assert all((told[np.flatnonzero(ranks.tie_group == g)][:, members] != 0).any() for g in range(1, int(group)))
    order = data.draw(st.permutations(range(n)))
    moved = rank_intervals(np.array(means)[order], told[np.ix_(order, order)])
    assert moved.rank.tolist() == ranks.rank[order].tolist()
    assert moved.low.tolist() == ranks.low[order].tolist()

"""Who is first, and how sure that is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DECIMALS = 12


class Ranks(NamedTuple):
    """One whole number an entry; 0 where its mean is NaN."""

    rank: NDArray[np.int64]
    """1 + how many have a higher mean."""
    low: NDArray[np.int64]
    """The best rank that is not ruled out."""
    high: NDArray[np.int64]
    """The worst one."""
    tie_group: NDArray[np.int64]
    """Numbered from the top: whoever is not told apart from the first of a group is in it."""


def rank_intervals(means: NDArray[np.float64], significant_difference: NDArray[np.int8]) -> Ranks:
    """Ranks of K entries by their means, with intervals from what tests say of all pairs.

    `significant_difference[i, j]` is 1 where i is told to be better than j, −1 where worse, 0 where neither. An entry's
    ranks are from 1 + how many are told better to K − how many are told worse (Mogstad, Romano, Shaikh & Wilhelm 2024,
    "Inference for ranks with applications to mobility across neighbourhoods and academic achievement across
    countries"). Where the tests together say anything wrong with at most 5 %, as with Holm 1979, all intervals hold at
    once with at least 95 %.
    """
    is_ranked = ~np.isnan(means)
    told = np.where(is_ranked[:, None] & is_ranked, significant_difference, 0)
    # Sums in another order may differ in their last digits.
    scale = np.abs(means[is_ranked]).max(initial=0) or 1.0
    rounded = np.round(means / scale, _DECIMALS)
    rank = 1 + (rounded[:, None] < rounded).sum(axis=1)
    low = 1 + (told < 0).sum(axis=1)
    high = int(is_ranked.sum()) - (told > 0).sum(axis=1)
    group = _tie_groups(rank, told, is_ranked)
    return Ranks(*(np.where(is_ranked, numbers, 0).astype(np.int64) for numbers in (rank, low, high, group)))


def _tie_groups(rank: NDArray[np.int64], told: NDArray[np.int8], is_ranked: NDArray[np.bool_]) -> NDArray[np.int64]:
    group = np.zeros(len(rank), np.int64)
    for first in np.argsort(rank, kind="stable"):
        if is_ranked[first] and group[first] == 0:
            group[is_ranked & (group == 0) & (told[first] == 0)] = group.max() + 1
    return group

"""Rank intervals from corrected tests of all pairs: how often they hold the ranks of all models at once."""

from itertools import combinations

import numpy as np

from analysis_service.stats.corrections import adjust
from analysis_service.stats.paired import mcnemar
from analysis_service.stats.ranks import rank_intervals
from tests.simulation.promises import AT_LEAST_95, F, Promise

SETTINGS = {
    "8 equal models": np.full(8, 0.7),
    "8 models, two groups": np.repeat([0.72, 0.66], 4),
    "8 models, .01 apart": 0.65 + 0.01 * np.arange(8),
    "8 models, .04 apart": 0.5 + 0.04 * np.arange(8),
}


def ranks_coverage(rounds: int) -> list[Promise]:
    """Of all ranks at once, by Holm's correction of exact McNemar tests."""
    random = np.random.default_rng(91)
    return [
        Promise(
            f"rank intervals, {name}, n = 200 and 1,000, all ranks at once",
            np.array([np.mean([_holds(means, n, random) for _ in range(rounds)]) for n in (200, 1000)]),
            rounds,
            each=AT_LEAST_95,
        )
        for name, means in SETTINGS.items()
    ]


def _holds(means: F, n: int, random: np.random.Generator) -> bool:
    # Questions differ in hardness in the same way for all models, so answers are correlated.
    hardness = random.uniform(-0.25, 0.25, n)
    right = (random.random((len(means), n)) < means[:, None] + hardness).astype(np.float64)
    both = right @ right.T
    i, j = np.array(list(combinations(range(len(means)), 2))).T
    wins, losses = both[i, i] - both[i, j], both[j, j] - both[i, j]
    told = np.zeros((len(means), len(means)), np.int8)
    told[i, j] = np.where(adjust(mcnemar(wins, losses), "holm") <= 0.05, np.sign(wins - losses), 0)
    told -= told.T
    ranks = rank_intervals(right.mean(axis=1), told)
    # Equal models hold all the ranks that they share.
    is_better, is_worse = means[:, None] < means, means[:, None] > means
    best, worst = 1 + is_better.sum(axis=1), len(means) - is_worse.sum(axis=1)
    return bool((ranks.low <= best).all() and (ranks.high >= worst).all())

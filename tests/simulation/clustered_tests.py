"""Tests of no difference where questions come in clusters, such as those about one passage, beside those that err."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from analysis_service.stats.bootstrap import bootstrap_means
from analysis_service.stats.clusters import clustered_means
from tests.simulation.promises import SIZE_5, F, Promise

Random = np.random.Generator
CLUSTERS = (5, 10, 20, 50)
SPREADS = (0.145, 0.3)
"""Standard deviations, over clusters, of the true difference in a cluster; 0 on average. With 50 questions a cluster
the first makes the variance of the mean six times that of as many independent questions."""
_DIFFER = 0.2
"""Of the questions of a cluster, those that one or the other is right at."""
_DRAWS = 500


def cluster_tests_size(rounds: int) -> list[Promise]:
    """Of `cluster_by` tests of two models that are equal over all clusters, but not in each."""
    random = np.random.default_rng(81)
    promises = []
    for n_clusters in CLUSTERS:
        for is_uneven in (False, True):
            sizes = random.integers(15, 86, (rounds, n_clusters)) if is_uneven else np.full((rounds, n_clusters), 50)
            cells = [_draw_totals(sizes, spread, random) for spread in SPREADS]
            what = f"{n_clusters} clusters of {'15 … 85' if is_uneven else '50'} questions"
            for kind in ("cr1", "cr2"):
                found = []
                for totals in cells:
                    row = np.repeat(np.arange(rounds), n_clusters)
                    means = clustered_means(row, totals.ravel(), sizes.ravel(), rounds, kind=kind)
                    found.append(float(np.mean(2 * stdtr(means.df, -np.abs(means.mean / means.se)) <= 0.05)))
                asked = None if is_uneven and kind == "cr1" else SIZE_5
                told = f"{kind.upper()}, {what}" if asked else f"for comparison: {kind.upper()}, {what}"
                promises.append(Promise(told, np.array(found), rounds, each=asked, nominal="5 %"))
    return promises


def bootstraps_size(rounds: int) -> list[Promise]:
    """For comparison, of what others do: bootstraps of questions, and of clusters."""
    random = np.random.default_rng(82)
    naive, clustered = [], []
    for n_clusters in CLUSTERS:
        sizes = np.full((rounds, n_clusters), 50)
        wins, losses = _draw_wins_and_losses(sizes, SPREADS[0], random)
        differences = [
            np.repeat([1.0, -1.0, 0.0], [won, lost, 50 * n_clusters - won - lost])
            for won, lost in zip(wins.sum(axis=1), losses.sum(axis=1), strict=True)
        ]
        limits = bootstrap_means(differences, draws=_DRAWS, seed=82, confidence=0.95)
        naive.append(np.mean([own.low > 0 or own.high < 0 for own in limits]))
    for n_clusters in (4, *CLUSTERS):
        totals = _draw_totals(np.full((rounds, n_clusters), 50), SPREADS[0], random)
        clustered.append(_cluster_bootstrap_size(totals, random))
    found = np.array(naive)
    promises = [Promise("for comparison: bootstrap of questions, 5 … 50 clusters of 50", found, rounds, nominal="5 %")]
    promises += [
        Promise(f"for comparison: bootstrap of {n} clusters of 50", np.array([size]), rounds, nominal="5 %")
        for n, size in zip((4, *CLUSTERS), clustered, strict=True)
    ]
    return promises


def _draw_wins_and_losses(
    sizes: NDArray[np.int64], spread: float, random: Random
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By round and cluster."""
    # What a cluster's true difference is, within what so many differing questions allow for.
    delta = np.clip(spread * random.standard_normal(sizes.shape), -1, 1)
    differ = np.maximum(_DIFFER, np.abs(delta))
    discordant = random.binomial(sizes, differ)
    wins = random.binomial(discordant, (differ + delta) / (2 * differ))
    return wins, discordant - wins


def _draw_totals(sizes: NDArray[np.int64], spread: float, random: Random) -> F:
    wins, losses = _draw_wins_and_losses(sizes, spread, random)
    return (wins - losses).astype(np.float64)


def _cluster_bootstrap_size(totals: F, random: Random) -> float:
    """How often percentiles of draws of whole clusters exclude 0."""
    n_clusters = totals.shape[1]
    drawn = random.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), _DRAWS)
    # Rounds share the draws, which are of weights alone.
    low, high = np.quantile(totals @ drawn.T, [0.025, 0.975], axis=1)
    return float(np.mean((low > 0) | (high < 0)))

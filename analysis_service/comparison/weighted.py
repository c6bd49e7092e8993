"""Comparisons over several benchmarks that have weights: each benchmark compared by itself, then put together. Pure.

A mean over benchmarks is Σ share_b × mean_b, its variance Σ share_b² × se_b² (stratified sampling: Cochran 1977,
"Sampling Techniques"), and its distribution taken as normal, since it is over many questions.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations as pairs_of

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from analysis_service.comparison.score_table import ScoreTable
from analysis_service.stats.bootstrap import NOTHING_DRAWN, Resampled, bootstrap_means, bootstrap_ranks
from analysis_service.stats.clusters import MIN_CLUSTERS
from analysis_service.stats.intervals import clopper_pearson
from analysis_service.stats.matrix import AllCompared, compare_all
from analysis_service.stats.paired import Paired
from shared.registry.specs import BenchmarkSpec
from shared.statistics import MIN_SHARED

F = NDArray[np.float64]

METHOD = "mover over weighted benchmarks"
NUMBERS_AT_ONCE = 4_000_000
"""Differences that are in memory at once for bootstrap draws, or one pair's."""


def compare_weighted(
    table: ScoreTable,
    specs: Sequence[BenchmarkSpec],
    weights: Sequence[float],
    *,
    confidence: float,
    draws: int,
    seed: int,
    names: Sequence[str],
) -> AllCompared:
    """All pairs, as `stats.matrix.compare_all` tells them; a benchmark and a weight for each part of the table.

    `names` are those of the entries.
    """
    share = np.array(weights, dtype=np.float64) / math.fsum(weights)
    by_part = []
    for number, spec in enumerate(specs):
        own = table.among(table.part == number)
        by_part.append(
            compare_all(
                own.scores,
                confidence=confidence,
                draws=0,
                seed=seed,
                clusters=own.clusters,
                single_attempts=own.is_single,
                lowest=spec.score_min,
                highest=spec.score_max,
            ).pairs
        )
    pairs = [combine(of_parts, share, specs, confidence) for of_parts in zip(*by_part, strict=True)]
    shared = table.among(table.is_shared_by_all)
    has_all = len(np.unique(shared.part)) == len(specs)
    n_entries = len(table.scores)
    p_best = np.full(n_entries, np.nan)
    if has_all and draws:
        p_best = bootstrap_ranks(contributions(shared, share), draws=draws, seed=seed, names=names)
    return AllCompared(
        pairs=pairs,
        bootstrap=_bootstrap(table, pairs, share, confidence=confidence, draws=draws, seed=seed),
        n_shared_by_all=len(shared.part),
        means=weighted_means(shared, share) if has_all else np.full(n_entries, np.nan),
        p_best=p_best,
    )


def combine(of_parts: Sequence[Paired], share: F, specs: Sequence[BenchmarkSpec], confidence: float) -> Paired:
    """One pair over all benchmarks, from what it is on each of them."""
    n, wins, losses, ties = (
        sum(counts) for counts in zip(*((own.n, own.wins, own.losses, own.ties) for own in of_parts), strict=True)
    )
    clusters = [own.n_clusters for own in of_parts if own.n_clusters is not None]
    counted = Paired(
        n, wins, losses, ties, math.nan, math.nan, math.nan, n_clusters=sum(clusters) if clusters else None
    )
    few = [f"{own.n} of {spec.name}" for own, spec in zip(of_parts, specs, strict=True) if own.n < MIN_SHARED]
    if few:
        reason = f"with weights, each benchmark needs {MIN_SHARED} shared questions, and there are {' and '.join(few)}"
        return replace(counted, reason=reason)
    mean_a, mean_b, delta = (
        float(share @ np.array(values))
        for values in zip(*((own.mean_a, own.mean_b, own.delta) for own in of_parts), strict=True)
    )
    told = replace(counted, mean_a=mean_a, mean_b=mean_b, delta=delta)
    rough = [
        spec.name
        for own, spec in zip(of_parts, specs, strict=True)
        if own.n_clusters is not None and own.n_clusters < MIN_CLUSTERS
    ]
    if rough:
        return replace(told, reason=f"fewer than {MIN_CLUSTERS} clusters of {' and '.join(rough)}")
    se = float(np.linalg.norm(share * [own.se if own.se > 0 else 0.0 for own in of_parts]))
    is_same = se == 0
    limits = [_limits(own, spec, confidence) for own, spec in zip(of_parts, specs, strict=True)]
    below = float(np.linalg.norm(share * [own.delta - low for own, (low, _) in zip(of_parts, limits, strict=True)]))
    above = float(np.linalg.norm(share * [high - own.delta for own, (_, high) in zip(of_parts, limits, strict=True)]))
    # The error that reaches as far as the interval does on the side of 0: the test agrees with it.
    quantile = float(ndtri((1 + confidence) / 2)) * delta / (below if delta > 0 else above)
    return replace(
        told,
        se=math.nan if is_same else se,
        sd=math.nan if is_same else se * math.sqrt(n),
        ci_low=delta - below,
        ci_high=delta + above,
        method=METHOD,
        p=float(2 * ndtr(-abs(quantile))),
        test=METHOD,
        reason="the two differ by the same on all shared questions, which tells nothing of the error"
        if is_same
        else None,
    )


def _limits(own: Paired, spec: BenchmarkSpec, confidence: float) -> tuple[float, float]:
    """The interval of one benchmark's difference.

    Where all of many differences are the same and there is none: the share of questions, or clusters, with another one
    is at most what an exact interval says of none in n, and on these the difference is at most the scale.
    """
    if not math.isnan(own.ci_low):
        return own.ci_low, own.ci_high
    other = float(clopper_pearson(0, own.n_clusters or own.n, confidence).high)
    centre, reach = (1 - other) * own.delta, other * (spec.score_max - spec.score_min)
    return centre - reach, centre + reach


def weighted_means(table: ScoreTable, share: F) -> F:
    """Of each entry, which has questions of every part, the mean over parts with their shares."""
    return _part_means(table.scores, table.part, len(share)) @ share


def contributions(table: ScoreTable, share: F) -> F:
    """Entries × units: numbers whose mean is the entry's weighted mean, and whose resampling is that of its parts.

    A unit is a question, or a cluster of them. Every entry has every question of the table. A unit's number is the
    weighted mean and, times the units of all parts, the share of its part over that one's questions × the distance of
    its scores from their mean. So their variance is Σ share_b² × s_b² / n_b, and which parts a draw takes its units
    from matters little (an influence function: Efron & Tibshirani 1993, "An Introduction to the Bootstrap").
    """
    means = _part_means(table.scores, table.part, len(share))
    of_question = share / np.bincount(table.part, minlength=len(share))
    distance = (table.scores - means[:, table.part]) * of_question[table.part]
    if table.clusters is not None:
        _, cluster = np.unique(table.clusters, return_inverse=True)
        distance = np.stack([np.bincount(cluster, row) for row in distance])
    return np.asarray((means @ share)[:, None] + distance.shape[1] * distance)


def _part_means(scores: F, part: NDArray[np.intp], n_parts: int) -> F:
    """Entries × parts."""
    totals = np.stack([np.bincount(part, row, minlength=n_parts) for row in scores])
    return np.asarray(totals / np.bincount(part, minlength=n_parts), dtype=np.float64)


def _bootstrap(
    table: ScoreTable, pairs: Sequence[Paired], share: F, *, confidence: float, draws: int, seed: int
) -> list[Resampled]:
    """Of each pair; none with clusters, of which more are needed than for Student's t."""
    resampled = [NOTHING_DRAWN] * len(pairs)
    drawn = [place for place, pair in enumerate(pairs) if pair.se > 0] if draws and table.clusters is None else []
    at_once = max(1, NUMBERS_AT_ONCE // table.scores.shape[1])
    of_place = list(pairs_of(range(len(table.scores)), 2))
    for start in range(0, len(drawn), at_once):
        places = drawn[start : start + at_once]
        differences = [_weighted_differences(table.rows(of_place[place]), share) for place in places]
        told = bootstrap_means(differences, draws=draws, seed=seed, confidence=confidence)
        for place, own in zip(places, told, strict=True):
            resampled[place] = own
    return resampled


def _weighted_differences(two: ScoreTable, share: F) -> F:
    own, other = contributions(two.among(two.is_shared_by_all), share)
    return np.asarray(own - other)

"""What is told of one entry by itself: its mean over all of its own questions, with an interval. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from analysis_service.comparison.score_table import ScoreTable
from analysis_service.comparison.weighted import METHOD
from analysis_service.means import ToldMean, as_shares, tell_means
from analysis_service.stats.means import Units, estimate_means, sum_questions, units_of_clusters, units_of_questions
from shared.registry.specs import BenchmarkSpec


def measure_own(
    table: ScoreTable,
    specs: Sequence[BenchmarkSpec],
    weights: Sequence[float] | None,
    *,
    cluster_by: str | None,
    confidence: float,
) -> list[ToldMean]:
    """The mean over questions of each entry; with `weights`, one a benchmark, the mean of its benchmarks' means.

    `cluster_by` is the field that the table's clusters are of.
    """
    if weights is None:
        return _measure(table, specs[0], cluster_by, confidence)
    by_part = [
        _measure(table.among(table.part == number), spec, cluster_by, confidence) for number, spec in enumerate(specs)
    ]
    return [_weigh(of_parts, specs, weights, confidence) for of_parts in zip(*by_part, strict=True)]


def _measure(table: ScoreTable, spec: BenchmarkSpec, cluster_by: str | None, confidence: float) -> list[ToldMean]:
    questions = sum_questions(as_shares(table.scores, spec))
    units = _units_of_clusters(table, spec)
    if units is None:
        units = units_of_questions(questions, np.where(table.is_single.all(axis=1), 1, 2))
    found = estimate_means(questions, units, are_questions=table.clusters is None, confidence=confidence)
    return tell_means(found, spec, cluster_by)


def _units_of_clusters(table: ScoreTable, spec: BenchmarkSpec) -> Units | None:
    if table.clusters is None:
        return None
    n_rows, n_clusters = len(table.scores), int(table.clusters.max(initial=-1)) + 1
    total, count = np.zeros((2, n_rows, n_clusters))
    for row, is_scored in enumerate(table.is_scored):
        cluster = table.clusters[is_scored]
        total[row] = np.bincount(cluster, as_shares(table.scores[row, is_scored], spec), n_clusters)
        count[row] = np.bincount(cluster, minlength=n_clusters)
    some = count > 0
    return units_of_clusters(np.nonzero(some)[0], total[some], count[some], n_rows, kind="cr2")


def _weigh(
    of_parts: Sequence[ToldMean], specs: Sequence[BenchmarkSpec], weights: Sequence[float], confidence: float
) -> ToldMean:
    """Σ w m / Σ w, its variance Σ w² se² / (Σ w)², and limits as far from it as those of its parts together.

    MOVER (Zou & Donner 2008, "Construction of confidence limits about effect measures: a general approach").
    """
    share = [weight / math.fsum(weights) for weight in weights]
    means = [own.mean for own in of_parts if own.mean is not None]
    if len(means) < len(of_parts):
        without = [spec.name for own, spec in zip(of_parts, specs, strict=True) if own.mean is None]
        reason = f"no attempt was scored of {' and '.join(without)}, which has a weight"
        return ToldMean(None, None, None, None, None, reason)
    mean = math.fsum(part * own for part, own in zip(share, means, strict=True))
    errors = [own.se for own in of_parts if own.se is not None]
    if len(errors) < len(of_parts):
        reason = "; ".join(
            f"{spec.name}: {own.reason}" for own, spec in zip(of_parts, specs, strict=True) if own.se is None
        )
        return ToldMean(mean, None, None, None, None, reason)
    se = math.hypot(*(part * own for part, own in zip(share, errors, strict=True)))
    limits = [(own.ci_low, own.ci_high) for own in of_parts if own.ci_low is not None and own.ci_high is not None]
    if len(limits) < len(of_parts):
        return ToldMean(
            mean, se, None, None, None, "all scores of a benchmark are equal, which tells nothing of the error"
        )
    below = math.hypot(*(part * (own - low) for part, own, (low, _) in zip(share, means, limits, strict=True)))
    above = math.hypot(*(part * (high - own) for part, own, (_, high) in zip(share, means, limits, strict=True)))
    return ToldMean(mean, se, mean - below, mean + above, METHOD, None)

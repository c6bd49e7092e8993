"""Means of runs in the lines of a time series, each with its interval. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.cells import LEFT_OUT
from analysis_service.means import ToldMean, as_shares, tell_means
from analysis_service.question_scores import QuestionScores
from analysis_service.stats.means import Scores, estimate_means, units_of_clusters
from analysis_service.time_series.lines import LineValues
from shared.registry.specs import BenchmarkSpec


class Point(NamedTuple):
    """A run in a line."""

    n: int
    """Scored attempts."""
    told: ToldMean
    """Their mean."""


def measure_points(
    scores: Sequence[QuestionScores], values: LineValues, spec: BenchmarkSpec, confidence: float
) -> list[list[Point]]:
    """The points of each run in all lines."""
    n_lines = len(values.values)
    return [_points_of_run(own, values.of_questions(own.combination), n_lines, spec, confidence) for own in scores]


def _points_of_run(
    own: QuestionScores, line: NDArray[np.int32], n_lines: int, spec: BenchmarkSpec, confidence: float
) -> list[Point]:
    kept = line != LEFT_OUT
    line, count = line[kept], own.count[kept].astype(np.float64)
    total = count * as_shares(own.mean[kept], spec)
    n, sums, squares = (
        np.bincount(line, column, n_lines).astype(np.float64) for column in (count, total, total**2 / count)
    )
    # Of squares alone those of questions with one attempt matter: where there are others, questions are clusters.
    units = units_of_clusters(line, total, count, n_lines, kind="cr1")
    found = estimate_means(Scores(n, sums, squares), units, are_questions=True, confidence=confidence)
    return [Point(int(of_line), told) for of_line, told in zip(n, tell_means(found, spec), strict=True)]

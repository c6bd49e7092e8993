"""Means of rows, each with the interval that fits: columns in, columns out, all on the scale from 0 to 1.

The method follows from what a row has. Scored once a question and all right or wrong: Wilson's interval. Scored once a
question: Student's t. Several attempts at a question: clustered by question (CR1), Wilson's interval on the effective
n. With clusters of questions: the same with CR2 and Satterthwaite's degrees of freedom. Where an interval must never
cover less than it says: Clopper & Pearson's. `intervals` and `clusters` name the sources.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis_service.stats.clusters import MIN_CLUSTERS, clustered_means
from analysis_service.stats.intervals import Limits, clip, clopper_pearson, clustered_wilson, t_interval, wilson
from analysis_service.stats.strata import squares_left

F = NDArray[np.float64]
Codes = NDArray[np.int64]

_NOISE = 1e-11
"""What rounding leaves of right and wrong answers, each, of the difference between scores and their squares."""


class Method(IntEnum):
    """Of an interval."""

    NONE = 0
    WILSON = 1
    T = 2
    CLUSTERED_WILSON = 3
    CLUSTERED_WILSON_CR2 = 4
    CLOPPER_PEARSON = 5


METHOD_NAMES = (None, "wilson", "t", "wilson on effective n", "wilson on effective n (CR2)", "clopper-pearson")


class Lack(IntEnum):
    """Why something of a row is not known."""

    NOTHING = 0
    NO_SCORES = 1
    ONE_QUESTION = 2
    ALL_EQUAL = 3
    FEW_CLUSTERS = 4


def tell_lack(lack: Lack, cluster_by: str | None = None) -> str:
    """Why, in words; `cluster_by` is the field whose values are clusters."""
    match lack:
        case Lack.NOTHING:
            return ""
        case Lack.NO_SCORES:
            return "no attempt was scored"
        case Lack.ONE_QUESTION:
            return "one question tells nothing of the error"
        case Lack.ALL_EQUAL:
            return "all scores are equal, which tells nothing of the error"
        case Lack.FEW_CLUSTERS:
            return f"fewer than {MIN_CLUSTERS} values of {cluster_by} to cluster by"


class Scores(NamedTuple):
    """What the scores of each row come to."""

    n: F
    total: F
    square: F
    """The sum of their squares."""


class Units(NamedTuple):
    """The errors of rows whose attempts are not independent but those of different units are."""

    se: F
    df: F
    n: F
    """Units that a row has attempts of."""
    largest: F
    """The most attempts that a row has of one unit."""
    even: F
    """So many units of one size would tell as much: (Σ n)² / Σ n² over their attempts (Kish 1965)."""


def sum_questions(values: F, times: ArrayLike = 1) -> Scores:
    """Of rows of `values`, a column a question, or for so many alike; NaN are questions that a row is not about."""
    known = ~np.isnan(values)
    values, weight = np.where(known, values, 0.0), np.broadcast_to(np.asarray(times, np.float64), values.shape[1:])
    return Scores(known @ weight, values @ weight, np.einsum("ij,ij,j->i", values, values, weight))


def units_of_questions(questions: Scores, largest: ArrayLike) -> Units:
    """Of rows of one score a question, each that of up to so many attempts: CR1, where every question counts alike."""
    n = questions.n
    return Units(_standard_error(questions), n - 1, n, np.broadcast_to(np.asarray(largest, np.float64), n.shape), n)


def units_of_clusters(
    row: NDArray[np.signedinteger], total: F, count: F, n_rows: int, *, kind: Literal["cr1", "cr2"]
) -> Units:
    """Of `n_rows` rows out of entries: `clustered_means` of what each row has of a unit, an entry each."""
    means = clustered_means(row, total, count, n_rows, kind=kind)
    largest = np.zeros(n_rows)
    np.maximum.at(largest, row, count)
    squares = np.bincount(row, count**2, n_rows)
    even = np.bincount(row, count, n_rows) ** 2 / np.where(squares > 0, squares, np.nan)
    return Units(means.se, means.df, means.n_clusters.astype(np.float64), largest, even)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of each row; NaN where there is none, and `lack` says why."""

    mean: F
    se: F
    limits: Limits
    method: Codes
    lack: Codes


def estimate_means(
    scores: Scores, units: Units | None, *, are_questions: bool, confidence: float, is_exact: bool = False
) -> Estimates:
    """Means of rows, their standard errors and intervals.

    `units` are clusters of questions, or where they `are_questions` count only in rows that have several attempts at
    one. If it is to be `is_exact`, intervals of right-or-wrong scores never cover less than they say.
    """
    n, total, square = scores
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.clip(total / n, 0, 1)
        binary_se = np.sqrt(mean * (1 - mean) / n)
    se = _standard_error(scores)
    # Scores between 0 and 1 are above their squares.
    binary = total - square <= _NOISE * n
    found = (clopper_pearson if is_exact else wilson)(np.clip(total, 0, n), n, confidence)
    low, high = found.low.copy(), found.high.copy()
    method = np.full(len(n), Method.CLOPPER_PEARSON if is_exact else Method.WILSON, dtype=np.int64)
    lack = np.zeros(len(n), dtype=np.int64)
    other = ~binary
    if other.any():
        t = clip(t_interval(mean[other], se[other], n[other] - 1, confidence), 0, 1)
        low[other], high[other], method[other] = t.low, t.high, Method.T
        equal = other & (se == 0)
        low[equal] = high[equal] = np.nan
        lack[equal] = Lack.ALL_EQUAL
    se[binary] = binary_se[binary]
    one = n == 1
    se[one] = np.nan
    lack[one] = Lack.ONE_QUESTION
    estimates = Estimates(mean, se, Limits(low, high), method, lack)
    if units is not None:
        clustered = units.largest > 1 if are_questions else n > 0
        _estimate_clustered(estimates, clustered, units, are_questions=are_questions, confidence=confidence)
    lack[n == 0] = Lack.NO_SCORES
    method[np.isnan(low)] = Method.NONE
    return estimates


def _standard_error(scores: Scores) -> F:
    """Of means of independent scores; NaN of one alone."""
    n, total, square = scores
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(squares_left(n, total, square) / (n - 1) / n))


def _estimate_clustered(
    into: Estimates, rows: NDArray[np.bool_], units: Units, *, are_questions: bool, confidence: float
) -> None:
    """Write what `rows` have that are clustered."""
    if not rows.any():
        return
    own, own_se, own_n = into.mean[rows], units.se[rows].copy(), units.n[rows]
    df = np.inf if are_questions else np.where(own_n > 1, units.df[rows], 1)
    # Of clusters, whose degrees of freedom allow for their sizes already, each is one.
    limits = clustered_wilson(own, own_se, units.even[rows] if are_questions else own_n, confidence, df)
    into.lack[rows] = Lack.NOTHING
    if are_questions:
        into.method[rows], least, why = Method.CLUSTERED_WILSON, 2, Lack.ONE_QUESTION
    else:
        into.method[rows], least, why = Method.CLUSTERED_WILSON_CR2, MIN_CLUSTERS, Lack.FEW_CLUSTERS
    few = own_n < least
    own_se[few] = limits.low[few] = limits.high[few] = np.nan
    into.lack[np.flatnonzero(rows)[few]] = why
    into.se[rows], into.limits.low[rows], into.limits.high[rows] = own_se, limits.low, limits.high

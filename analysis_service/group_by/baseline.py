"""How rows differ from a baseline model's on the questions that both have in the same group. Pure."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from analysis_service.stats.clusters import MIN_CLUSTERS, clustered_means
from analysis_service.stats.intervals import t_interval
from analysis_service.stats.paired import mcnemar, paired_t, tango
from shared.statistics import MIN_SHARED

F = NDArray[np.float64]
Codes = NDArray[np.int64]

_NOISE = 1e-12
"""Means of the same scores differ by that much."""


class DeltaMethod(IntEnum):
    """Of a difference's interval, and with it of its p-value."""

    NONE = 0
    TANGO = 1
    """And p by McNemar's exact test."""
    PAIRED_T = 2
    CLUSTERED_T = 3


DELTA_METHOD_NAMES = (None, "tango", "paired t", "clustered t (CR2)")


class DeltaLack(IntEnum):
    """Why a difference is not known."""

    NOTHING = 0
    IS_BASELINE = 1
    FEW_SHARED = 2
    ALL_EQUAL = 3
    FEW_CLUSTERS = 4


class Pairs(NamedTuple):
    """Questions that a row shares with the baseline, an entry each; scores are means of attempts, from 0 to 1."""

    row: Codes
    score: F
    baseline: F
    binary: NDArray[np.bool_]
    """Whether each has one attempt at it, right or wrong."""
    cluster: Codes


def pair_questions(
    row: Codes, question: Codes, cluster: Codes, n: F, total: F, *, group: Codes, is_baseline: NDArray[np.bool_]
) -> Pairs:
    """The shared questions of all rows out of entries: what each has of a question, in any number of parts.

    `group` and `is_baseline` are of rows. All of the baseline's attempts in a group count. Of several clusters that a
    row has a question in, the first counts.
    """
    key = (row << 32) | question
    order = np.argsort(key, kind="stable")
    begins = np.flatnonzero(np.diff(key[order], prepend=-1) != 0)
    row, question = row[order[begins]], question[order[begins]]
    if len(begins):
        n, total = np.add.reduceat(n[order], begins), np.add.reduceat(total[order], begins)
        cluster = np.minimum.reduceat(cluster[order], begins)
    key = (group[row] << 32) | question
    mine = is_baseline[row]
    keys, position = np.unique(key[mine], return_inverse=True)
    base_n = np.bincount(position, n[mine], len(keys))
    base_total = np.bincount(position, total[mine], len(keys))
    place = np.minimum(np.searchsorted(keys, key), max(len(keys) - 1, 0))
    shared = ~mine & (keys[place] == key) if len(keys) else np.zeros(len(key), dtype=np.bool_)
    place = place[shared]
    score, baseline = total[shared] / n[shared], base_total[place] / base_n[place]
    binary = (n[shared] == 1) & (base_n[place] == 1) & _is_end(score) & _is_end(baseline)
    return Pairs(row[shared], score, baseline, binary, cluster[shared])


def _is_end(score: F) -> NDArray[np.bool_]:
    return np.asarray((score == 0) | (score == 1))


@dataclass(frozen=True, slots=True)
class Deltas:
    """Differences of rows to the baseline's, from -1 to 1; NaN where there is none, and `lack` says why."""

    n_shared: NDArray[np.int64]
    delta: F
    se: F
    low: F
    high: F
    p: F
    """Two-sided, of no difference; NaN where none was tested."""
    method: NDArray[np.int64]
    lack: NDArray[np.int64]


def compare_rows(pairs: Pairs, is_baseline: NDArray[np.bool_], *, clustered: bool, confidence: float) -> Deltas:
    """The mean paired difference of each row: score − baseline."""
    rows = len(is_baseline)
    difference = pairs.score - pairs.baseline
    difference[np.abs(difference) < _NOISE] = 0

    def sums(values: F | NDArray[np.bool_]) -> F:
        return np.bincount(pairs.row, values, rows).astype(np.float64)

    n = np.bincount(pairs.row, minlength=rows)
    tested = n >= MIN_SHARED
    binary = tested & (sums(~pairs.binary) == 0) & (not clustered)
    result = Deltas(n, *(np.full(rows, np.nan) for _ in range(5)), *(np.zeros(rows, np.int64) for _ in range(2)))
    result.lack[~tested] = DeltaLack.FEW_SHARED
    result.lack[is_baseline] = DeltaLack.IS_BASELINE
    if clustered:
        _compare_clustered(result, pairs, difference, tested, confidence)
        return result
    totals, squares = sums(difference), sums(difference**2)
    t = paired_t(n[tested], totals[tested], squares[tested], confidence)
    for into, found in zip((result.delta, result.se, result.low, result.high, result.p), t, strict=False):
        into[tested] = found
    result.method[tested] = DeltaMethod.PAIRED_T
    if binary.any():
        wins, losses = (sums(difference > 0)[binary], sums(difference < 0)[binary])
        result.low[binary], result.high[binary] = tango(wins, losses, n[binary], confidence)
        result.p[binary] = mcnemar(wins, losses)
        result.method[binary] = DeltaMethod.TANGO
    _tell_all_equal(result, tested)
    return result


def _compare_clustered(result: Deltas, pairs: Pairs, difference: F, tested: NDArray[np.bool_], level: float) -> None:
    key, position = np.unique((pairs.row << 32) | pairs.cluster, return_inverse=True)
    found = clustered_means(
        key >> 32,
        np.bincount(position, difference, len(key)),
        np.bincount(position, minlength=len(key)),
        len(tested),
        kind="cr2",
    )
    few = tested & (found.n_clusters < MIN_CLUSTERS)
    result.lack[few] = DeltaLack.FEW_CLUSTERS
    result.delta[tested] = found.mean[tested]
    known = tested & ~few
    result.se[known] = found.se[known]
    result.low[known], result.high[known] = t_interval(found.mean[known], found.se[known], found.df[known], level)
    varied = known & (found.se > 0)
    result.p[varied] = 2 * stdtr(found.df[varied], -np.abs(found.mean[varied] / found.se[varied]))
    result.method[known] = DeltaMethod.CLUSTERED_T
    _tell_all_equal(result, known)


def _tell_all_equal(result: Deltas, tested: NDArray[np.bool_]) -> None:
    """Where all differences are the same a t interval has no width, which would claim too much; Tango's has."""
    equal = tested & ~(result.se > 0)
    result.se[equal] = np.nan
    result.lack[equal] = DeltaLack.ALL_EQUAL
    equal &= result.method != DeltaMethod.TANGO
    result.low[equal] = result.high[equal] = np.nan
    # Where none differs there is nothing to be told; where all differ by the same, t has no error to go by.
    result.p[equal] = np.where(result.delta[equal] == 0, 1.0, np.nan)
    result.method[equal] = DeltaMethod.NONE

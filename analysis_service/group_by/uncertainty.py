"""What rows' means and their errors are made of: attempts as the error policy reads them, units, macro means. Pure:
columns in, columns out, all on the scale from 0 to 1; `stats.means` tells what comes of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis_service.stats.intervals import Limits, clustered_wilson
from analysis_service.stats.means import Scores, Units, units_of_clusters
from analysis_service.stats.strata import StrataErrors, add_up, clustered_strata_errors, stratified_means
from shared.analysis import ErrorPolicy

F = NDArray[np.float64]
Codes = NDArray[np.int64]


class Reading(NamedTuple):
    """How attempts without a score count: not at all, or with a score."""

    counts: bool
    score: float


EXCLUDED, LOWEST, HIGHEST = Reading(counts=False, score=0), Reading(counts=True, score=0), Reading(counts=True, score=1)


class Readings(NamedTuple):
    """Those of the mean and of the two ends of its interval."""

    mean: Reading
    low: Reading
    high: Reading


READINGS: Mapping[ErrorPolicy, Readings] = {
    ErrorPolicy.EXCLUDE: Readings(EXCLUDED, EXCLUDED, EXCLUDED),
    ErrorPolicy.WRONG: Readings(LOWEST, LOWEST, LOWEST),
    ErrorPolicy.BOUNDS: Readings(EXCLUDED, LOWEST, HIGHEST),
}


@dataclass(frozen=True, slots=True)
class Attempts:
    """What the attempts of some cells come to."""

    n: F
    """Scored ones."""
    total: F
    square: F
    """Of their scores, and of the squares of these."""
    unknown: F
    """Those without a score that the error policy counts."""

    @property
    def scores(self) -> Scores:
        """Those of the scored ones."""
        return Scores(self.n, self.total, self.square)

    def read(self, reading: Reading) -> "Attempts":
        """The same with the unknown ones counted so."""
        if not reading.counts:
            return self
        more = self.unknown * reading.score
        return Attempts(self.n + self.unknown, self.total + more, self.square + more, self.unknown)


class UnitErrors(NamedTuple):
    """The errors of rows whose attempts are not independent but those of different units are."""

    units: Units
    macro: StrataErrors


def unit_errors(
    row: Codes, value: Codes, unit: Codes, attempts: Attempts, n_rows: int, *, kind: Literal["cr1", "cr2"], macro: bool
) -> UnitErrors:
    """The errors of `n_rows` rows out of entries: what each has of a value (-1: of none) and a unit (below 2**32)."""
    counts = attempts.n > 0
    row, value, unit = row[counts], value[counts], unit[counts]
    n, total = attempts.n[counts], attempts.total[counts]
    key, (whole_n, whole_total) = add_up((row << 32) | unit, n, total)
    units = units_of_clusters(key >> 32, whole_total, whole_n, n_rows, kind=kind)
    nothing = np.full(n_rows, np.nan)
    errors = StrataErrors(nothing, nothing, nothing)
    if macro:
        known = value >= 0
        errors = clustered_strata_errors(row[known], value[known], unit[known], n[known], total[known], n_rows)
    return UnitErrors(units, errors)


@dataclass(frozen=True, slots=True)
class Macro:
    """Unweighted means over values; NaN where there is none."""

    mean: F
    errors: StrataErrors


def macro_means(row: Codes, value: Codes, attempts: Attempts, n_rows: int) -> Macro:
    """The macro means of rows out of what each has of a value (-1: of none), if attempts are independent."""
    some = (attempts.n > 0) & (value >= 0)
    n, total, square = attempts.n[some], attempts.total[some], attempts.square[some]
    return Macro(*stratified_means(row[some], value[some], n, total, square, n_rows))


def macro_limits(macro: Macro, confidence: float) -> Limits:
    """Intervals of macro means: Wilson's on the effective n; NaN where the error is not known."""
    errors = macro.errors
    n_units, df = errors.n_units, np.maximum(errors.df, 1)
    limits = clustered_wilson(np.clip(macro.mean, 0, 1), errors.se, n_units, confidence, df)
    unknown = np.isnan(errors.se)
    return Limits(np.where(unknown, np.nan, limits.low), np.where(unknown, np.nan, limits.high))

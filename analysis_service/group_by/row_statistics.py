"""The statistics of one benchmark's rows: what has come of them, and their columns. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.baseline import Deltas, compare_rows, pair_questions
from analysis_service.group_by.cells import RunningSums
from analysis_service.group_by.question_needs import QuestionNeeds
from analysis_service.group_by.question_totals import QuestionEntries, QuestionTotals, joined
from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.group_by.resolve_statistics import StatisticsAsked
from analysis_service.group_by.slots import Slots
from analysis_service.group_by.statistics_columns import (
    Columns,
    delta_columns,
    delta_texts,
    join_reasons,
    lack_texts,
    macro_lacks,
    macro_texts,
    named,
)
from analysis_service.group_by.uncertainty import (
    READINGS,
    Attempts,
    Macro,
    Reading,
    UnitErrors,
    macro_limits,
    macro_means,
    unit_errors,
)
from analysis_service.means import on_scale, round_means
from analysis_service.stats.clusters import MIN_CLUSTERS
from analysis_service.stats.intervals import Limits
from analysis_service.stats.means import METHOD_NAMES, Units, estimate_means
from analysis_service.stats.strata import StrataErrors
from shared.analysis import ErrorPolicy

F = NDArray[np.float64]

_STATUSES = ("n_scored", "n_refused", "n_truncated", "n_error", "n_unscored")
_UNKNOWN: Mapping[ErrorPolicy, tuple[str, ...]] = {
    ErrorPolicy.EXCLUDE: (),
    ErrorPolicy.WRONG: ("n_refused", "n_truncated", "n_error"),
    ErrorPolicy.BOUNDS: ("n_refused", "n_truncated", "n_error", "n_unscored"),
}


class RowStatistics:
    """What has come of the statistics of one benchmark's rows."""

    def __init__(
        self,
        resolved: ResolvedAnalysis,
        asked: StatisticsAsked,
        policy: ErrorPolicy,
        slots: Slots | None,
        needs: QuestionNeeds | None,
        division_of: Mapping[int, int],
        *,
        questions_at_once: int,
    ) -> None:
        self._spec, self._policy, self._asked = resolved.spec, policy, asked
        self.questions_at_once = questions_at_once
        """That are in memory while they are added up."""
        self._slots = Slots((), (), (0,), None, has_values=False) if slots is None else slots
        self._by_question = frozenset() if needs is None else needs.divisions
        columns = ("n_scored", "score_sum", "score_square_sum", *_UNKNOWN[policy])
        self.sums = RunningSums(self._slots, columns) if resolved.has_slots else None
        """Of slots, where these are not rows."""
        self.questions: QuestionTotals | None = None
        self._readings = list(dict.fromkeys(READINGS[policy]))
        self._units: dict[Reading, UnitErrors] = {}
        self._entries: list[QuestionEntries] = []
        if needs is not None:
            divisions = [division_of[run_no] for run_no in needs.reads.run_nos]
            self.questions = QuestionTotals(self._slots, divisions, policy, self._take)
            self._units = {reading: _no_units(self._slots.first_rows[-1]) for reading in self._readings}

    def columns(
        self, sums: Mapping[str, F], *, group: NDArray[np.int64], is_baseline: NDArray[np.bool_] | None
    ) -> Columns:
        """The columns of rows that have these `sums`, in their order; what correction adds is not among them.

        `is_baseline` tells which rows are the baseline's, where there is one.
        """
        rows, level, spec = len(group), self._asked.confidence, self._spec
        attempts = self._attempts(sums)
        in_slots = None if self.sums is None else self._attempts(self.sums.by_column())
        self._add_clusters(in_slots, rows)
        estimates = {
            reading: estimate_means(
                attempts.read(reading).scores,
                self._units[reading].units if reading in self._units else None,
                are_questions=self._asked.cluster_by is None,
                confidence=level,
                is_exact=self._policy is ErrorPolicy.BOUNDS,  # whose interval promises to hold whatever failures hide
            )
            for reading in self._readings
        }
        mean, low, high = READINGS[self._policy]
        span = spec.score_max - spec.score_min
        limits = Limits(estimates[low].limits.low, estimates[high].limits.high)
        columns: Columns = {
            "se": round_means(span * estimates[mean].se, spec),
            "ci_low": on_scale(limits.low, spec),
            "ci_high": on_scale(limits.high, spec),
            "method": named(METHOD_NAMES, np.maximum(estimates[low].method, estimates[high].method)),
            "confidence": np.full(rows, level),
            "n_clusters": self._n_clusters(mean, rows),
            **dict.fromkeys(("macro_mean", "macro_se", "macro_ci_low", "macro_ci_high"), np.full(rows, None)),
        }
        lacks = np.maximum(estimates[mean].lack, np.maximum(estimates[low].lack, estimates[high].lack))
        reasons = [(lacks, lack_texts(self._asked))]
        if in_slots is not None and self._slots.has_values:
            macro = {reading: self._macro(in_slots, reading, rows) for reading in self._readings}
            columns |= {
                "macro_mean": on_scale(macro[mean].mean, spec),
                "macro_se": round_means(span * macro[mean].errors.se, spec),
                "macro_ci_low": on_scale(macro_limits(macro[low], level).low, spec),
                "macro_ci_high": on_scale(macro_limits(macro[high], level).high, spec),
            }
            reasons.append((macro_lacks(macro.values(), attempts.read(mean)), macro_texts(self._asked)))
        scored, refused, truncated, error, unscored = (sums[name].astype(np.int64) for name in _STATUSES)
        answered = scored + unscored
        ledger = (answered + refused + truncated + error, answered, scored, refused, truncated, error, unscored)
        names = ("n_asked", "n_answered", "n_scored", "n_refused", "n_truncated", "n_error", "n_unscored")
        columns |= dict(zip(names, ledger, strict=True))
        if is_baseline is not None:
            deltas = self._deltas(group, is_baseline, mean)
            columns |= delta_columns(deltas, spec)
            reasons.append((deltas.lack, delta_texts(self._asked)))
        columns["reason"] = join_reasons(reasons)
        return columns

    def _attempts(self, sums: Mapping[str, F]) -> Attempts:
        unknown = sum((sums[name] for name in _UNKNOWN[self._policy]), np.zeros(len(sums["n_scored"])))
        return self._scaled(sums["n_scored"], sums["score_sum"], sums["score_square_sum"], unknown)

    def _scaled(self, n: F, total: F, square: F, unknown: F) -> Attempts:
        """The same on the scale from 0 to 1."""
        low, span = self._spec.score_min, self._spec.score_max - self._spec.score_min
        if (low, span) == (0, 1):
            return Attempts(n, total, square, unknown)
        squares = (square - 2 * low * total + low * low * n) / (span * span)
        return Attempts(n, (total - low * n) / span, squares, unknown)

    def _take(self, division: int, entries: QuestionEntries) -> None:
        """Take what a division has of each question."""
        if self._asked.baseline is not None:
            self._entries.append(entries)
        first, end = self._slots.first_rows[division : division + 2]
        block = self._slots.blocks[division]
        slot = entries.slot - self._slots.first(division)
        unit = entries.question
        if self._slots.clusters is not None:
            unit = self._cluster(block.cluster[slot], entries.question)
        attempts = self._scaled(entries.n, entries.total, np.zeros(len(entries.n)), entries.unknown)
        for reading in self._readings:
            found = unit_errors(
                block.row[slot],
                block.value[slot],
                unit,
                attempts.read(reading),
                end - first,
                kind="cr1" if self._slots.clusters is None else "cr2",
                macro=self._slots.has_values,
            )
            _write(self._units[reading], slice(first, end), found)

    def _cluster(self, code: NDArray[np.int64], question: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number of each cluster; a question without one is its own."""
        assert self._slots.clusters is not None  # noqa: S101 - asked where there are some
        return np.where(code < 0, len(self._slots.clusters.values) + question, code)

    def _add_clusters(self, in_slots: Attempts | None, rows: int) -> None:
        """The errors of clusters, where stored sums tell them."""
        slots = self._slots
        if self._asked.cluster_by is None or in_slots is None or len(self._by_question) == len(slots.blocks):
            return
        row, value, cluster = slots.row, slots.value, slots.cluster
        from_questions = np.zeros(rows, dtype=np.bool_)
        for division in self._by_question:
            from_questions[slots.first_rows[division] : slots.first_rows[division + 1]] = True
        kept = ~from_questions[row]
        for reading in self._readings:
            read = in_slots.read(reading)
            some = Attempts(read.n[kept], read.total[kept], read.square[kept], read.unknown[kept])
            found = unit_errors(row[kept], value[kept], cluster[kept], some, rows, kind="cr2", macro=slots.has_values)
            before = self._units.get(reading)
            if before is not None:
                _write(found, from_questions, _taken(before, from_questions))
            self._units[reading] = found

    def _macro(self, in_slots: Attempts, reading: Reading, rows: int) -> Macro:
        found = macro_means(self._slots.row, self._slots.value, in_slots.read(reading), rows)
        if reading not in self._units:
            return found
        (units, own), errors = self._units[reading], found.errors
        if self._asked.cluster_by is not None:
            se = np.where(units.n < MIN_CLUSTERS, np.nan, own.se)
            return Macro(found.mean, StrataErrors(se, own.n_units, np.minimum(own.df, units.n - 1)))
        several = units.largest > 1
        pairs = ((own.se, errors.se), (own.n_units, errors.n_units), (own.df, errors.df))
        return Macro(found.mean, StrataErrors(*(np.where(several, clustered, single) for clustered, single in pairs)))

    def _n_clusters(self, reading: Reading, rows: int) -> NDArray[Any]:
        told: NDArray[Any] = np.full(rows, None, dtype=object)
        if reading in self._units:
            units = self._units[reading].units
            clustered = units.largest > (0 if self._asked.cluster_by is not None else 1)
            told[clustered] = units.n[clustered].astype(np.int64).astype(object)
        return told

    def _deltas(self, group: NDArray[np.int64], is_baseline: NDArray[np.bool_], reading: Reading) -> Deltas:
        entries = joined(self._entries)
        slot, question = entries.slot, entries.question
        n, total, unknown = entries.n, entries.total, entries.unknown
        read = self._scaled(n, total, np.zeros(len(n)), unknown).read(reading)
        clustered = self._slots.clusters is not None
        cluster = self._slots.cluster[slot]
        if clustered:
            cluster = self._cluster(cluster, question)
        some = read.n > 0
        pairs = pair_questions(
            self._slots.row[slot][some],
            question[some],
            cluster[some],
            read.n[some],
            read.total[some],
            group=group,
            is_baseline=is_baseline,
        )
        return compare_rows(pairs, is_baseline, clustered=clustered, confidence=self._asked.confidence)


def _no_units(rows: int) -> UnitErrors:
    return UnitErrors(
        Units(*(np.zeros(rows) for _ in Units._fields)), StrataErrors(*(np.zeros(rows) for _ in StrataErrors._fields))
    )


def _write(into: UnitErrors, rows: slice | NDArray[np.bool_], errors: UnitErrors) -> None:
    for own, other in zip((*into.units, *into.macro), (*errors.units, *errors.macro), strict=True):
        own[rows] = other


def _taken(errors: UnitErrors, rows: NDArray[np.bool_]) -> UnitErrors:
    return UnitErrors(
        Units(*(column[rows] for column in errors.units)), StrataErrors(*(column[rows] for column in errors.macro))
    )

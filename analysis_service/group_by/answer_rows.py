"""Makes the rows of an answer out of sums: measures, order, and as many rows as are wanted. Pure.

Everything is a column until the end: only rows that are answered become dicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.cells import Rows
from analysis_service.group_by.combinations import Combinations, value_sorter
from analysis_service.group_by.resolve import ResolvedAnalysis, run_value
from analysis_service.means import round_means
from analysis_service.runs import layout_of
from shared.analysis import ErrorPolicy

_MEANS = ("n_scored", "score_sum", "question_weight", "question_mean_sum")
_FAILED = ("n_refused", "n_truncated", "n_error")

Sums = Mapping[str, NDArray[np.float64]]
Codes = NDArray[np.int32] | NDArray[np.int64]


def needed_columns(policy: ErrorPolicy) -> tuple[str, ...]:
    """The columns of sums that rows are made of."""
    match policy:
        case ErrorPolicy.EXCLUDE:
            return _MEANS
        case ErrorPolicy.WRONG:
            return (*_MEANS, *_FAILED)
        case ErrorPolicy.BOUNDS:
            return (*_MEANS, *_FAILED, "n_unscored")


@dataclass(frozen=True, slots=True)
class Divisions:
    """The chosen runs by what of themselves is among the levels."""

    of_run: Mapping[int, int]
    """Run number → its division; runs that lack a value of a level are in none, unless null is wanted."""
    layout_of_run: Mapping[int, int]
    """Run number → its layout's, of the same runs."""
    layouts: Sequence[tuple[int, ...]]
    """Of each division, ascending."""
    codes: Mapping[str, NDArray[np.int32]]
    """Of each level, the code of its value, by division."""
    values: Mapping[str, Sequence[str | None]]
    """Of each level, its values by code, in the order of answers."""


def divide_runs(resolved: ResolvedAnalysis) -> Divisions:
    """The chosen runs that have sums, divided."""
    names = resolved.run_levels
    divisions: dict[tuple[str | None, ...], int] = {}
    of_run: dict[int, int] = {}
    layout_of_run: dict[int, int] = {}
    layouts: list[set[int]] = []
    for run in resolved.runs:
        key = tuple([run_value(run, name) for name in names])
        if None in key and not resolved.include_null:
            continue
        division = divisions.setdefault(key, len(divisions))
        if division == len(layouts):
            layouts.append(set())
        of_run[run.run_no] = division
        layout_of_run[run.run_no] = layout_of(run)
        layouts[division].add(layout_of_run[run.run_no])
    values, codes = {}, {}
    for position, name in enumerate(names):
        own = [key[position] for key in divisions]
        values[name] = sorted(set(own), key=_null_last)
        code_of = {value: code for code, value in enumerate(values[name])}
        codes[name] = np.array([code_of[value] for value in own], dtype=np.int32)
    return Divisions(of_run, layout_of_run, [tuple(sorted(numbers)) for numbers in layouts], codes, values)


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """The rows of one benchmark as columns, in the order of their groups."""

    groups: Mapping[str, list[Any]]
    """Of each name in `group_by`, the values."""
    measures: dict[str, NDArray[Any]]
    """Numbers, NaN where there is none; or objects."""


def answer_columns(
    resolved: ResolvedAnalysis,
    combinations: Combinations | None,
    divisions: Divisions,
    group_codes: Mapping[str, Codes],
    rows: Rows,
    sums: Sums,
    policy: ErrorPolicy,
    statistics: Mapping[str, NDArray[Any]] | None = None,
) -> AnswerColumns:
    """The columns of one benchmark's rows; `statistics` are more measures, in the order of `rows`."""
    division, group = rows.division, rows.group
    codes: dict[str, Codes] = {}
    values: dict[str, Sequence[Any]] = {}
    for name in resolved.group_by:
        if name in divisions.values:
            codes[name], values[name] = divisions.codes[name][division], divisions.values[name]
        elif combinations is not None:
            codes[name], values[name] = group_codes[name][group], combinations.fields[name].values
        else:  # no run is chosen
            codes[name], values[name] = group, ()
    # Codes are in the order of answers.
    order = np.lexsort([codes[name] for name in reversed(resolved.group_by)])
    groups = {}
    for name in resolved.group_by:
        of_code = values[name]
        groups[name] = [of_code[code] for code in codes[name][order].tolist()]
    n, means = _measures({name: column[order] for name, column in sums.items()}, resolved, policy)
    n_questions = np.array(rows.n_questions, dtype=np.int64)[order]
    more = {name: column[order] for name, column in (statistics or {}).items()}
    return AnswerColumns(groups, {"n": n.astype(np.int64), "n_questions": n_questions, **means, **more})


def _measures(
    sums: Sums, resolved: ResolvedAnalysis, policy: ErrorPolicy
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """`n`, and the means."""
    low, high = resolved.spec.score_min, resolved.spec.score_max
    n, total = sums["n_scored"], sums["score_sum"]
    means: dict[str, NDArray[np.float64]] = {}
    if policy is not ErrorPolicy.EXCLUDE:
        failed = sums["n_refused"] + sums["n_truncated"] + sums["n_error"]
        if policy is ErrorPolicy.WRONG:
            n, total = n + failed, total + failed * low
        else:
            unknown = failed + sums["n_unscored"]
            means["mean_low"] = _mean(total + unknown * low, n + unknown)
            means["mean_high"] = _mean(total + unknown * high, n + unknown)
    means = {"mean": _mean(total, n), **means}
    means["mean_by_question"] = _mean(sums["question_mean_sum"], sums["question_weight"])
    return n, {name: round_means(mean, resolved.spec) for name, mean in means.items()}


def _mean(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = np.full(len(total), np.nan)
    np.divide(total, count, out=mean, where=count != 0)
    return mean


def row_columns(
    parts: Mapping[str | None, AnswerColumns], resolved: ResolvedAnalysis, *, limit: int
) -> dict[str, list[Any]]:
    """The first `limit` rows of all parts in the order that was asked for, as columns.

    Parts are by the name of their benchmark, which their rows have then, or by None.
    """
    groups = {name: [value for part in parts.values() for value in part.groups[name]] for name in resolved.group_by}
    [first, *_] = parts.values()
    if None not in parts:
        sizes = {name: len(part.measures["n"]) for name, part in parts.items()}
        groups = {"benchmark": [name for name, size in sizes.items() for _ in range(size)], **groups}
    measures = first.measures
    if len(parts) > 1:
        measures = {name: np.concatenate([part.measures[name] for part in parts.values()]) for name in measures}
    order = _order(groups, measures, resolved)
    shown = slice(limit) if order is None else order[:limit]
    return {
        name: column[:limit] if order is None else [column[row] for row in order[:limit].tolist()]
        for name, column in groups.items()
    } | {name: _without_nan(column[shown]) for name, column in measures.items()}


def rows_of(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The same, row by row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _without_nan(column: NDArray[Any]) -> list[Any]:
    values: list[Any] = column.tolist()
    if column.dtype.kind != "f" or not np.isnan(column).any():
        return values
    # NaN is not equal to itself.
    return [value if value == value else None for value in values]  # noqa: PLR0124


def _order(
    groups: Mapping[str, list[Any]], measures: Mapping[str, NDArray[Any]], resolved: ResolvedAnalysis
) -> NDArray[np.intp] | None:
    """The rows' numbers as ordered, unknown values last and equal ones as they stand; None for as they stand."""
    column = resolved.order_by
    if column is None:
        return None
    if column in groups:
        values = groups[column]
        spec = resolved.spec.by_name.get(column)
        known = sorted({value for value in values if value is not None}, key=value_sorter(spec) if spec else None)
        rank_of = {value: float(rank) for rank, value in enumerate(known)} | {None: np.nan}
        ranks = np.array([rank_of[value] for value in values], dtype=np.float64)
    else:
        ranks = measures[column].astype(np.float64)
    return np.argsort(-ranks if resolved.descending else ranks, kind="stable")


def _null_last(value: str | None) -> tuple[bool, str]:
    return value is None, value or ""

"""Folds the rows of a group-by query into the rows of an answer. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyroaring import BitMap

from analysis_service.database import Row
from analysis_service.queries.group_by import RunKey
from analysis_service.queries.tables import SUM_COLUMNS
from analysis_service.resolve import ResolvedAnalysis, run_value
from analysis_service.runs import Run
from shared.analysis import ErrorPolicy
from shared.registry.specs import BenchmarkSpec, FieldSpec, FieldType

_COLUMN = {name: position for position, name in enumerate(SUM_COLUMNS)}


@dataclass(slots=True)
class Cell:
    """One group: column-wise sums, and the sets of its questions."""

    sums: list[float]
    sets: set[int] = field(default_factory=set)

    def __getitem__(self, column: str) -> float:
        return self.sums[_COLUMN[column]]


def fold_rows(rows: Sequence[Row], resolved: ResolvedAnalysis) -> dict[tuple[Any, ...], Cell]:
    """Group key (in the order of `group_by`) → cell. Several model ids may be one model, several models one vendor."""
    key_of = _key_maker(resolved)
    width = len(resolved.plan.fields) + (resolved.plan.run_key is not RunKey.NONE)
    cells: dict[tuple[Any, ...], Cell] = {}
    for row in rows:
        key = key_of(row)
        if key is None:
            continue
        values = row[width + 1 :]
        cell = cells.get(key)
        if cell is None:
            cells[key] = cell = Cell([float(value) for value in values])
        else:
            cell.sums = [left + float(right) for left, right in zip(cell.sums, values, strict=True)]
        cell.sets.add(row[width])
    return cells


def _key_maker(resolved: ResolvedAnalysis) -> Callable[[Row], tuple[Any, ...] | None]:
    plan = resolved.plan
    offset = 0 if plan.run_key is RunKey.NONE else 1
    run_of: Mapping[Any, Run] = {}
    if plan.run_key is RunKey.MODEL:
        run_of = {run.model_id: run for run in resolved.runs}
    elif plan.run_key is RunKey.RUN:
        run_of = {run.run_no: run for run in resolved.runs}
    makers: list[Callable[[Row], Any]] = []
    for name in resolved.group_by:
        if name in plan.fields:
            makers.append(_field_reader(offset + plan.fields.index(name), resolved.spec.by_name[name]))
        else:
            makers.append(_run_reader(run_of, name))

    def key_of(row: Row) -> tuple[Any, ...] | None:
        if offset and row[0] not in run_of:
            return None
        key = tuple(make(row) for make in makers)
        return key if resolved.include_null or None not in key else None

    return key_of


def _run_reader(run_of: Mapping[Any, Run], name: str) -> Callable[[Row], str | None]:
    return lambda row: run_value(run_of[row[0]], name)


def _field_reader(position: int, spec: FieldSpec) -> Callable[[Row], Any]:
    if spec.type is FieldType.BOOLEAN:
        return lambda row: None if row[position] is None else bool(row[position])
    return lambda row: row[position]


def answer_rows(
    cells: Mapping[tuple[Any, ...], Cell],
    resolved: ResolvedAnalysis,
    question_sets: Mapping[int, BitMap],
    policy: ErrorPolicy,
) -> list[dict[str, Any]]:
    """The rows of one benchmark, in the order of their groups."""
    rows = [
        dict(zip(resolved.group_by, key, strict=True))
        | _measures(cell, len(BitMap.union(*(question_sets[number] for number in cell.sets))), resolved.spec, policy)
        for key, cell in cells.items()
    ]
    sorters = [(name, _value_sorter(resolved, name)) for name in resolved.group_by]
    rows.sort(key=lambda row: tuple(key(row[name]) for name, key in sorters))
    return rows


def order_rows(rows: list[dict[str, Any]], resolved: ResolvedAnalysis) -> list[dict[str, Any]]:
    """`rows`, which stand in the order of their groups, in the order that was asked for; unknown values last."""
    column = resolved.order_by
    if column is None:
        return rows
    known = [row for row in rows if row[column] is not None]
    key = _value_sorter(resolved, column) if column in resolved.group_by else _as_it_is
    known.sort(key=lambda row: key(row[column]), reverse=resolved.descending)
    return known + [row for row in rows if row[column] is None]


def _measures(cell: Cell, n_questions: int, spec: BenchmarkSpec, policy: ErrorPolicy) -> dict[str, Any]:
    n, total = int(cell["n_scored"]), cell["score_sum"]
    failed = int(cell["n_refused"] + cell["n_truncated"] + cell["n_error"])
    if policy is ErrorPolicy.WRONG:
        n, total = n + failed, total + failed * spec.score_min
    measures: dict[str, Any] = {"n": n, "n_questions": n_questions, "mean": total / n if n else None}
    if policy is ErrorPolicy.BOUNDS:
        unknown = failed + int(cell["n_unscored"])
        asked = n + unknown
        measures["mean_low"] = (total + unknown * spec.score_min) / asked if asked else None
        measures["mean_high"] = (total + unknown * spec.score_max) / asked if asked else None
    weight = cell["question_weight"]
    measures["mean_by_question"] = cell["question_mean_sum"] / weight if weight else None
    return measures


def _value_sorter(resolved: ResolvedAnalysis, name: str) -> Callable[[Any], Any]:
    spec = resolved.spec.by_name.get(name)
    return value_sorter(spec) if spec else _null_last


def _null_last(value: str | None) -> tuple[bool, str]:
    return value is None, value or ""


def _as_it_is(value: Any) -> Any:  # noqa: ANN401
    return value


def value_sorter(spec: FieldSpec) -> Callable[[Any], tuple[bool, int, Any]]:
    """A sort key for a field's values: the registry's order, then their own, null last."""
    order = {value: position for position, value in enumerate(spec.values)}
    empty: Any = "" if spec.type is FieldType.CATEGORY else 0

    def key(value: Any) -> tuple[bool, int, Any]:  # noqa: ANN401
        return (value is None, order.get(value, len(order)), empty if value is None else value)

    return key

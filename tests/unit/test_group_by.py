"""The engine of group-bys over random layouts and runs, against a fold of dicts cell by cell."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from analysis_service.group_by.answer_rows import answer_columns, divide_runs, needed_columns, row_columns, rows_of
from analysis_service.group_by.cells import RunningSums, SetSizes, group_cells, lay_rows
from analysis_service.group_by.combinations import Combinations, FieldValues, add_combinations
from analysis_service.group_by.layouts import join_layouts
from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.packed_sums import SCORE_COLUMNS, Layout
from analysis_service.runs import Run
from shared.analysis import ErrorPolicy
from shared.problems import TooManyGroups
from shared.registry.specs import BenchmarkSpec
from tests.unit.test_resolve import run

SPEC = BenchmarkSpec.model_validate(
    {
        "name": "shapes",
        "title": {"en": "x"},
        "description": {"en": "x"},
        "score_min": -1.0,
        "fields": [
            {"name": "form", "type": "category", "description": {"en": "x"}, "values": ["z", "a"]},
            {"name": "size", "type": "integer", "description": {"en": "x"}},
            {"name": "flag", "type": "boolean", "description": {"en": "x"}},
        ],
    }
)
STORED: dict[str, list[Any]] = {"form": ["z", "a", "b", None], "size": [-3, 10, 9, None], "flag": [0, 1, None]}
MODELS = ["gpt-4", "openai/gpt-4", "gpt-4o", "some/model"]
LEVELS = ["form", "size", "flag", "model", "run", "vendor"]


@st.composite
def stores(draw: st.DrawFn) -> dict[str, Any]:
    """Combinations, layouts over them, and runs with sums."""
    values = draw(st.lists(st.tuples(*(st.sampled_from(STORED[name]) for name in STORED)), min_size=1, max_size=8))
    numbers = st.integers(1, len(values))
    sets = draw(st.lists(st.frozensets(st.integers(1, 9), min_size=1), min_size=1, max_size=5))
    layouts = draw(
        st.lists(
            st.dictionaries(numbers, st.integers(0, len(sets) - 1), min_size=1).map(
                lambda cells: sorted(cells.items())
            ),
            min_size=1,
            max_size=3,
        )
    )
    runs = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        layout_no = draw(st.integers(0, len(layouts) - 1))
        # Halves add up exactly in any order.
        sums = st.lists(st.integers(0, 9).map(lambda n: n / 2), min_size=9, max_size=9)
        cells = [draw(sums) for _ in layouts[layout_no]]
        runs.append((run(number, draw(st.sampled_from(MODELS)), layout_no=layout_no, benchmark="shapes"), cells))
    return {"values": values, "sets": sets, "layouts": layouts, "runs": runs}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Levels and options."""
    filters = draw(st.dictionaries(st.sampled_from(list(STORED)), st.sets(st.integers(0, 1)), max_size=2))
    return {
        "group_by": tuple(draw(st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4, unique=True))),
        "filters": tuple((name, tuple(STORED[name][place] for place in places)) for name, places in filters.items()),
        "include_null": draw(st.booleans()),
        "policy": draw(st.sampled_from(ErrorPolicy)),
        "among": draw(st.none() | st.frozensets(st.integers(1, 9))),
    }


def resolved_of(runs: list[Run], request: dict[str, Any], order_by: str | None = None) -> ResolvedAnalysis:
    return ResolvedAnalysis(
        spec=SPEC,
        group_by=request["group_by"],
        filters=request["filters"],
        runs=tuple(runs),
        include_null=request["include_null"],
        shared_questions=False,
        order_by=(order_by or "").removeprefix("-") or None,
        descending=(order_by or "").startswith("-"),
    )


def nothing_known() -> Combinations:
    empty = FieldValues(np.full(1, -1, dtype=np.int32), (None,))
    return Combinations(0, (), dict.fromkeys(STORED, empty))


def run_engine(
    store: dict[str, Any], request: dict[str, Any], order_by: str | None = None, max_rows: int = 10_000
) -> list[dict[str, Any]]:
    resolved = resolved_of([one for one, _ in store["runs"]], request, order_by)
    divisions = divide_runs(resolved)
    used = {number for layouts in divisions.layouts for number in layouts}
    layouts = {
        number: Layout(np.array([place for place, _ in cells]), np.array([10 + index for _, index in cells]))
        for number, cells in enumerate(store["layouts"])
        if number in used
    }
    cells = join_layouts(layouts)
    # In two goes, as they come in while the service runs.
    rows = [(number, *values) for number, values in enumerate(store["values"], 1)]
    combinations = add_combinations(add_combinations(nothing_known(), SPEC, rows[:3]), SPEC, rows[3:])
    drop_null = () if resolved.include_null else resolved.fields
    groups = group_cells(cells, combinations, resolved.fields, resolved.filters, drop_null)
    among = None if request["among"] is None else BitMap(request["among"])
    sizes = SetSizes({10 + index: BitMap(members) for index, members in enumerate(store["sets"])}, among)
    laid = lay_rows(divisions.layouts, cells, groups, sizes, max_rows=max_rows)
    sums = RunningSums(laid, needed_columns(request["policy"]))
    for one, own in store["runs"]:
        if one.run_no in divisions.of_run:
            matrix = np.array(own, dtype=np.float64).T
            sums.add([(divisions.of_run[one.run_no], one.layout_no)], [matrix])
    columns = answer_columns(resolved, combinations, divisions, groups.codes, laid, sums.by_column(), request["policy"])
    return rows_of(row_columns({None: columns}, resolved, limit=10_000))


def fold(store: dict[str, Any], request: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The same, by the definitions."""
    sums: dict[tuple[Any, ...], dict[str, float]] = defaultdict(lambda: dict.fromkeys(SCORE_COLUMNS, 0.0))
    asked: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for one, own in store["runs"]:
        facts = {"model": one.model, "run": one.result_name, "vendor": one.vendor}
        for (place, index), cell in zip(store["layouts"][one.layout_no], own, strict=True):
            told = dict(zip(STORED, store["values"][place - 1], strict=True))
            if any(told[name] is None or told[name] not in kept for name, kept in request["filters"]):
                continue
            told["flag"] = None if told["flag"] is None else bool(told["flag"])
            key = tuple((facts | told)[name] for name in request["group_by"])
            if None in key and not request["include_null"]:
                continue
            asked[key] |= store["sets"][index]
            for name, value in zip(SCORE_COLUMNS, cell, strict=True):
                sums[key][name] += value
    return {key: measures(own, asked[key], request) for key, own in sums.items()}


def measures(own: dict[str, float], asked: set[int], request: dict[str, Any]) -> dict[str, Any]:
    n, total = own["n_scored"], own["score_sum"]
    failed = own["n_refused"] + own["n_truncated"] + own["n_error"]
    unknown = failed + own["n_unscored"]
    row: dict[str, Any] = {}
    if request["policy"] is ErrorPolicy.BOUNDS:
        row["mean_low"] = (total - unknown) / (n + unknown) if n + unknown else None
        row["mean_high"] = (total + unknown) / (n + unknown) if n + unknown else None
    if request["policy"] is ErrorPolicy.WRONG:
        n, total = n + failed, total - failed
    weight = own["question_weight"]
    counted = asked if request["among"] is None else asked & request["among"]
    row |= {"n": int(n), "n_questions": len(counted), "mean": total / n if n else None}
    return row | {"mean_by_question": own["question_mean_sum"] / weight if weight else None}


def place(name: str, value: Any) -> tuple[bool, Any]:
    """Where a value stands among those of its level."""
    if value is None:
        return True, 0
    return False, {"z": -2, "a": -1, "b": 0}[value] if name == "form" else value


@settings(deadline=None, max_examples=150)
@given(store=stores(), request_=requests())
def test_every_row_is_the_fold_of_its_cells(store: dict[str, Any], request_: dict[str, Any]) -> None:
    rows = run_engine(store, request_)
    names = request_["group_by"]
    keys = [tuple(row[name] for name in names) for row in rows]
    expected = fold(store, request_)
    for row, key in zip(rows, keys, strict=True):
        assert row.keys() == {*names, *expected[key]}
        told = {name: row[name] for name in expected[key]}
        assert {name: value is None for name, value in told.items()} == {
            name: value is None for name, value in expected[key].items()
        }
        known = {name: value for name, value in expected[key].items() if value is not None}
        assert {name: told[name] for name in known} == pytest.approx(known, rel=1e-12, abs=1e-12)
    assert len(keys) == len(expected)
    assert keys == sorted(keys, key=lambda key: [place(name, value) for name, value in zip(names, key, strict=True)])
    assert all(type(row["n"]) is int and type(row.get("flag", True)) in (bool, type(None)) for row in rows)


@settings(deadline=None, max_examples=50)
@given(store=stores(), request_=requests(), data=st.data())
def test_any_column_orders(store: dict[str, Any], request_: dict[str, Any], data: st.DataObject) -> None:
    rows = run_engine(store, request_)
    column = data.draw(st.sampled_from([*request_["group_by"], "n", "n_questions", "mean", "mean_by_question"]))
    known = [row for row in rows if row[column] is not None]
    unknown = [row for row in rows if row[column] is None]
    for sign, reverse in (("", False), ("-", True)):
        ordered = sorted(known, key=lambda row: place(column, row[column]), reverse=reverse)
        assert run_engine(store, request_, sign + column) == ordered + unknown


@settings(deadline=None, max_examples=50)
@given(store=stores(), request_=requests())
def test_more_rows_than_allowed_are_refused(store: dict[str, Any], request_: dict[str, Any]) -> None:
    count = len(run_engine(store, request_))
    run_engine(store, request_, max_rows=count)
    if count:
        with pytest.raises(TooManyGroups, match="setting MAX_GROUPS"):
            run_engine(store, request_, max_rows=count - 1)

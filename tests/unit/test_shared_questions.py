"""What is left of cells and answers over shared questions alone."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from analysis_service.group_by.cells import LEFT_OUT, Groups
from analysis_service.group_by.layouts import join_layouts
from analysis_service.group_by.shared_questions import cut_cells, find_shared, shared_mask, sum_kept
from analysis_service.packed_sums import SCORE_COLUMNS, Layout
from analysis_service.projection.answers import AnswerColumns, pack, pack_scores, unpack_scores
from analysis_service.projection.sums import sheet_of, sum_answers
from tests.unit.test_resolve import run

SETS = {1: BitMap([1, 2, 3]), 2: BitMap([2, 3, 4]), 3: BitMap([9]), 4: BitMap([2])}


@pytest.mark.parametrize(
    ("set_nos", "shared"), [([1, 1], None), ([2], None), ([1, 2], [2, 3]), ([1, 2, 4], [2]), ([1, 3], []), ([], None)]
)
def test_shared_are_the_questions_of_all_runs(set_nos: list[int], shared: list[int] | None) -> None:
    runs = [run(number, set_no=set_no) for number, set_no in enumerate(set_nos, 1)]
    found = find_shared(runs, SETS)
    assert (None if found is None else list(found)) == shared


def test_a_cell_counts_whole_or_not_or_its_layout_is_cut() -> None:
    layouts = {
        7: Layout(np.array([1, 2, 3]), np.array([1, 3, 4])),  # all, none and one shared
        8: Layout(np.array([1]), np.array([2])),  # some
        9: Layout(np.array([2]), np.array([2])),  # some, but left out before
    }
    groups = Groups(np.array([0, 1, 2, 0, LEFT_OUT]), {})
    found = cut_cells(join_layouts(layouts), groups, SETS, BitMap([1, 2, 3]))
    assert found.groups.of_cell.tolist() == [0, LEFT_OUT, 2, 0, LEFT_OUT]
    assert found.cut == {8}


def answers(rows: list[tuple[int, int, int, float]]) -> AnswerColumns:
    question, combination, status, score = (np.array(column) for column in zip(*rows, strict=True))
    nothing = np.full(len(rows), np.nan)
    return AnswerColumns(
        question_no=question.astype(np.int32),
        name_no=question.astype(np.int32),
        combination=combination.astype(np.int32),
        attempt=np.arange(len(rows), dtype=np.int16),
        status=status.astype(np.int8),
        score=score.astype(np.float64),
        latency_ms=nothing,
        input_tokens=nothing,
        output_tokens=nothing,
        cost_usd=nothing,
        answer=("x",) * len(rows),
        target=(None,) * len(rows),
    )


ROWS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 4), st.sampled_from([0.0, 0.1, 1.0, float("nan")])),
    min_size=1,
    max_size=30,
)


@given(rows=ROWS, shared=st.frozensets(st.integers(1, 6)))
def test_sums_over_shared_questions_are_those_of_a_run_that_was_asked_no_others(
    rows: list[tuple[int, int, int, float]], shared: frozenset[int]
) -> None:
    columns = answers(rows)
    layout = sheet_of(columns).layout
    packed = unpack_scores(pack(columns))
    found = sum_kept(packed, shared_mask(BitMap(shared)).kept(packed), layout)
    assert found.shape == (len(SCORE_COLUMNS), len(layout.combination))
    kept = [row for row in rows if row[0] in shared]
    expected = np.zeros_like(found)
    if kept:
        alone = answers(kept)
        sheet = sheet_of(alone)
        expected[:, np.searchsorted(layout.combination, sheet.layout.combination)] = sum_answers(alone, sheet).scores
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("packed", [pack, pack_scores])
def test_scores_are_unpacked_as_they_were_packed(packed: Callable[[AnswerColumns], bytes]) -> None:
    columns = answers([(1, 2, 0, 0.5), (3, 4, 1, float("nan"))])
    found = unpack_scores(packed(columns))
    for name in ("question_no", "combination", "status", "score"):
        assert getattr(found, name).dtype == getattr(columns, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(columns, name))

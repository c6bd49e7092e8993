"""Packed answers and sums, against a slow reference."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis_service.packed_sums import COST_COLUMNS, SCORE_COLUMNS, pack_layout, unpack_columns, unpack_layout
from analysis_service.packed_sums import pack_columns as pack_sums
from analysis_service.projection.answers import AnswerColumns, answer_columns, pack, unpack
from analysis_service.projection.sums import set_number, sheet_of, sum_answers
from shared.submission import Question, Status

AMOUNT = st.none() | st.floats(0, 1e6)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Question], list[int], list[int]]:
    """Questions, their numbers and their combinations."""
    size = draw(st.integers(1, 40))
    questions = []
    for index in range(size):
        status = draw(st.sampled_from(Status))
        score = draw(st.floats(0, 1)) if status is Status.SCORED else draw(st.none() | st.floats(0, 1))
        questions.append(
            Question(
                question_id=f"q{index}",
                attempt=draw(st.integers(0, 32_767)),
                status=status,
                score=score,
                answer=draw(st.none() | st.text() | st.lists(st.integers(-5, 5))),
                latency_ms=draw(AMOUNT),
                input_tokens=draw(st.none() | st.integers(0, 10**9)),
                cost_usd=draw(AMOUNT),
            )
        )
    numbers = st.lists(st.integers(1, 12), min_size=size, max_size=size)
    return questions, draw(numbers), draw(numbers)


def columns_of(questions: list[Question], numbers: list[int], combinations: list[int]) -> AnswerColumns:
    names = np.arange(1, len(questions) + 1, dtype=np.int32)
    return answer_columns(questions, np.array(numbers, np.int32), names, np.array(combinations, np.int32))


@given(runs())
def test_packing_keeps_everything(run: tuple[list[Question], list[int], list[int]]) -> None:
    columns = columns_of(*run)
    again = unpack(pack(columns))
    for name in AnswerColumns.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(columns, name), err_msg=name)


@given(runs())
def test_sums_by_the_definitions(run: tuple[list[Question], list[int], list[int]]) -> None:
    questions, numbers, combinations = run
    rows = list(zip(questions, numbers, combinations, strict=True))
    attempts = Counter(number for question, number, _ in rows if question.status is Status.SCORED)
    columns = columns_of(*run)
    sheet = sheet_of(columns)
    sums = sum_answers(columns, sheet)
    assert sheet.layout.combination.tolist() == sorted(set(combinations))
    assert sheet.n_questions == len(set(numbers))
    assert sheet.question_sets[sheet.set_no].tolist() == sorted(set(numbers))
    for cell, combination in enumerate(sheet.layout.combination.tolist()):
        mine = [(question, number) for question, number, own in rows if own == combination]
        asked = sheet.question_sets[int(sheet.layout.set_no[cell])]
        assert asked.tolist() == sorted({number for _, number in mine})
        scored = [(question.score or 0.0, number) for question, number in mine if question.status is Status.SCORED]
        weights = [1 / attempts[number] for _, number in scored]
        told = [question.latency_ms for question, _ in mine if question.latency_ms is not None]
        expected: dict[str, Any] = {
            **{f"n_{status}": sum(question.status is status for question, _ in mine) for status in Status},
            "score_sum": math.fsum(score for score, _ in scored),
            "score_square_sum": math.fsum(score * score for score, _ in scored),
            "question_weight": math.fsum(weights),
            "question_mean_sum": math.fsum(w * score for w, (score, _) in zip(weights, scored, strict=True)),
            "latency_n": len(told),
            "latency_ms_sum": math.fsum(told),
            "input_tokens_sum": sum(question.input_tokens or 0 for question, _ in mine),
        }
        values = dict(zip(SCORE_COLUMNS, sums.scores[:, cell], strict=True))
        values |= dict(zip(COST_COLUMNS, sums.costs[:, cell], strict=True))
        assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(runs(), runs())
def test_sums_are_stored_as_they_are(
    one: tuple[list[Question], list[int], list[int]], other: tuple[list[Question], list[int], list[int]]
) -> None:
    for run in (one, other):
        columns = columns_of(*run)
        sheet = sheet_of(columns)
        again = unpack_layout(pack_layout(sheet.layout))
        assert again.number == sheet.layout_no
        np.testing.assert_array_equal(again.combination, sheet.layout.combination)
        np.testing.assert_array_equal(again.set_no, sheet.layout.set_no)
        sums = sum_answers(columns, sheet)
        stacked = unpack_columns([pack_sums(sums.scores), pack_sums(sums.scores * 2)], SCORE_COLUMNS)
        np.testing.assert_array_equal(stacked, [sums.scores, sums.scores * 2])


def test_sets_are_told_apart_by_their_members() -> None:
    one, other = np.array([1, 2, 3], np.int32), np.array([1, 2, 4], np.int32)
    assert set_number(one) == set_number(one.astype(np.int64).astype(np.int32))
    assert set_number(one) != set_number(other)
    assert 0 <= set_number(one) < 2**63

"""Scores by question, against the slow way."""

import random
from collections import defaultdict

import numpy as np
import pytest

from analysis_service.group_by.combinations import Combinations, FieldValues
from analysis_service.projection.answers import STATUSES, ScoreColumns
from analysis_service.question_scores import ANSWERS_MAX, QuestionScores, align, check_answers, score_questions
from analysis_service.runs import Run
from shared.problems import TooManyGroups
from shared.registry.load import load_registry
from shared.submission import Status
from tests.unit.test_resolve import run as make_run

SPEC = load_registry().benchmarks["mmlu-redux"]
RUN: Run = make_run(1)
SUBJECTS = FieldValues(np.array([-1, 0, 1, 2], dtype=np.int32), ["anatomy", "law", None])
COMBINATIONS = Combinations(1, (3,), {"subject": SUBJECTS})
"""Numbers 1, 2 and 3: anatomy, law and none."""

Attempt = tuple[int, int, Status, float | None]
"""Question, combination, status, score."""


def columns(attempts: list[Attempt]) -> ScoreColumns:
    return ScoreColumns(
        question_no=np.array([attempt[0] for attempt in attempts], dtype=np.int32),
        combination=np.array([attempt[1] for attempt in attempts], dtype=np.int32),
        status=np.array([STATUSES.index(attempt[2]) for attempt in attempts], dtype=np.int8),
        score=np.array([attempt[3] for attempt in attempts], dtype=np.float64),
    )


def random_attempts(seed: int) -> list[Attempt]:
    chance = random.Random(seed)
    return [
        (
            chance.randint(1, 30),
            chance.randint(1, 3),
            (status := chance.choice([Status.SCORED, Status.SCORED, Status.ERROR, Status.UNSCORED])),
            chance.choice([0.0, 0.1, 0.7, 1.0]) if status is Status.SCORED or chance.random() < 0.5 else None,
        )
        for _ in range(chance.randint(0, 90))
    ]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kept", [None, ["law"], ["law", "anatomy"]])
def test_the_scores_are_those_of_the_slow_way(seed: int, kept: list[str] | None) -> None:
    attempts = random_attempts(seed)
    names = {1: "anatomy", 2: "law", 3: None}
    by_question: defaultdict[int, list[tuple[int, Attempt]]] = defaultdict(list)
    for place, attempt in enumerate(attempts):
        if attempt[2] is Status.SCORED and (kept is None or names[attempt[1]] in kept):
            by_question[attempt[0]].append((place, attempt))
    filters = [] if kept is None else [("subject", kept)]
    found = score_questions(RUN, columns(attempts), SPEC, COMBINATIONS, filters)
    assert found.question_no.tolist() == sorted(by_question)
    for row, number in enumerate(found.question_no.tolist()):
        own = by_question[number]
        assert found.mean[row] == pytest.approx(sum(attempt[3] or 0 for _, attempt in own) / len(own), abs=1e-12)
        assert found.count[row] == len(own)
        assert (found.place[row], found.combination[row]) == (own[0][0], own[0][1][1])
    assert [found.question_no.dtype.name, found.mean.dtype.name] == ["int32", "float64"]


def test_means_do_not_hang_on_the_order_of_attempts() -> None:
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 are not the same number, and no win of either."""
    means = {
        float(score_questions(RUN, columns([(1, 1, Status.SCORED, score) for score in scores]), SPEC).mean[0])
        for scores in ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.3, 0.1, 0.2])
    }
    assert means == {0.2}


def scores(*questions: int, combination: int = 1, factor: float = 1.0) -> QuestionScores:
    attempts: list[Attempt] = [(number, combination, Status.SCORED, number * factor / 100) for number in questions]
    return score_questions(RUN, columns(attempts), SPEC)


def test_alignment_puts_questions_side_by_side() -> None:
    aligned = align([scores(3, 1), scores(3, 7, combination=2, factor=2), scores()])
    assert aligned.question_no.tolist() == [1, 3, 7]
    assert aligned.combination.tolist() == [1, 1, 2], "the first run that has it tells"
    np.testing.assert_array_equal(aligned.mean, [[0.01, 0.03, np.nan], [np.nan, 0.06, 0.14], [np.nan] * 3])


def test_equal_questions_are_stacked() -> None:
    aligned = align([scores(1, 2), scores(2, 1, factor=3)])
    np.testing.assert_array_equal(aligned.mean, [[0.01, 0.02], [0.03, 0.06]])
    assert align([scores(5)]).mean.tolist() == [[0.05]]


def test_too_many_answers_are_refused_before_any_is_read() -> None:
    check_answers([make_run(1, n_answers=ANSWERS_MAX)])
    with pytest.raises(TooManyGroups, match="10,000,001 single answers of 2 runs, and 10,000,000 may be read"):
        check_answers([make_run(1, n_answers=ANSWERS_MAX), make_run(2, n_answers=1)])

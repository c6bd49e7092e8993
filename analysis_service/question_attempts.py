"""A run's attempts at some of its questions, out of its packed answers. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis_service.projection.answers import STATUSES, AnswerColumns, unpack
from shared.questions import ATTEMPTS_MAX, TEXT_MAX, QuestionAttempt
from shared.submission import Status


@dataclass(frozen=True, slots=True)
class Attempts:
    """What a run made of one question."""

    name_no: int
    """The id that the run gave it."""
    combination: int
    """The metadata of its first attempt."""
    n: int
    """Scored attempts."""
    mean: float | None
    total: int
    shown: list[QuestionAttempt]
    """The first ones, by number."""


def find_attempts(packed: bytes, questions: Iterable[int]) -> Mapping[int, Attempts]:
    """Number of a question → the attempts at it; questions that the run did not ask are left out."""
    columns = unpack(packed)
    found = {}
    for number in questions:
        rows = np.flatnonzero(columns.question_no == number)
        if rows.size:
            found[number] = _attempts(columns, rows[np.argsort(columns.attempt[rows], kind="stable")].tolist())
    return found


def _attempts(columns: AnswerColumns, rows: list[int]) -> Attempts:
    scored = [
        float(columns.score[row])
        for row in rows
        if STATUSES[columns.status[row]] is Status.SCORED and not np.isnan(columns.score[row])
    ]
    return Attempts(
        name_no=int(columns.name_no[rows[0]]),
        combination=int(columns.combination[rows[0]]),
        n=len(scored),
        mean=sum(scored) / len(scored) if scored else None,
        total=len(rows),
        shown=[_attempt(columns, row) for row in rows[:ATTEMPTS_MAX]],
    )


def _attempt(columns: AnswerColumns, row: int) -> QuestionAttempt:
    answer, target = columns.answer[row], columns.target[row]
    return QuestionAttempt(
        attempt=int(columns.attempt[row]),
        status=STATUSES[columns.status[row]],
        score=_known(columns.score[row]),
        answer=_cut(answer),
        target=_cut(target),
        truncated=any(text is not None and len(text) > TEXT_MAX for text in (answer, target)),
        latency_ms=_known(columns.latency_ms[row]),
        input_tokens=_count(columns.input_tokens[row]),
        output_tokens=_count(columns.output_tokens[row]),
        cost_usd=_known(columns.cost_usd[row]),
    )


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _count(value: np.float64) -> int | None:
    return None if np.isnan(value) else int(value)


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:TEXT_MAX]

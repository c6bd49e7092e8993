"""Sums over a run's answers by combination of metadata values, and what they are about. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.packed_sums import COST_COLUMNS, SCORE_COLUMNS, Layout
from analysis_service.projection.answers import STATUSES, AnswerColumns
from shared.submission import Status


@dataclass(frozen=True, slots=True)
class QuestionSheet:
    """What a run asked, attempt by attempt and by number, without what came of it. Most runs share one with others."""

    question_no: NDArray[np.int32]
    name_no: NDArray[np.int32]
    combination: NDArray[np.int32]
    cell: NDArray[np.intp]
    """Of each attempt, which cell of the layout it counts in."""
    layout: Layout
    layout_no: int
    set_no: int
    """The number of the set of all its questions."""
    n_questions: int

    @property
    def question_sets(self) -> Mapping[int, NDArray[np.int32]]:
        """The set of all questions, and that of each cell, by number; ascending."""
        asked = np.unique(self.question_no)
        return {self.set_no: asked} | dict(
            zip(self.layout.set_no.tolist(), _questions_by_cell(self.question_no, self.cell), strict=True)
        )

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        arrays = (self.question_no, self.name_no, self.combination, self.cell, *_arrays(self.layout))
        return sum(array.nbytes for array in arrays)


def _arrays(layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return layout.combination, layout.set_no


def make_sheet(
    question_no: NDArray[np.int32], name_no: NDArray[np.int32], combination: NDArray[np.int32]
) -> QuestionSheet:
    """The sheet of attempts with these numbers; there is at least one."""
    combinations, cell = np.unique(combination, return_inverse=True)
    set_nos = [set_number(questions) for questions in _questions_by_cell(question_no, cell)]
    layout = Layout(combinations.astype(np.int64), np.array(set_nos, dtype=np.int64))
    asked = np.unique(question_no)
    return QuestionSheet(
        question_no, name_no, combination, cell, layout, layout.number, set_number(asked), n_questions=len(asked)
    )


def sheet_of(columns: AnswerColumns) -> QuestionSheet:
    """The sheet that packed answers were made with."""
    return make_sheet(columns.question_no, columns.name_no, columns.combination)


def _questions_by_cell(question_no: NDArray[np.int32], cell: NDArray[np.intp]) -> list[NDArray[np.int32]]:
    """Of each cell the distinct questions, ascending."""
    # One number a (cell, question): sorting those is an order faster than sorting pairs.
    pairs = np.unique((cell.astype(np.int64) << 32) | question_no)
    bounds = np.flatnonzero(np.diff(pairs >> 32)) + 1
    return np.split((pairs & 0xFFFFFFFF).astype(np.int32), bounds)


@dataclass(frozen=True, slots=True)
class RunSums:
    """What a run's answers come to, in the order of its layout's cells."""

    scores: NDArray[np.float64]
    """`SCORE_COLUMNS` × cells."""
    costs: NDArray[np.float64]
    """`COST_COLUMNS` × cells."""

    @property
    def n_scored(self) -> int:
        """Scored attempts of the whole run."""
        return int(self.scores[SCORE_COLUMNS.index("n_scored")].sum())

    @property
    def score_sum(self) -> float:
        """The sum of their scores."""
        return float(self.scores[SCORE_COLUMNS.index("score_sum")].sum())


def sum_answers(columns: AnswerColumns, sheet: QuestionSheet) -> RunSums:
    """The sums of `columns`, whose sheet is `sheet`. Always the same bits for the same columns."""
    cell, size = sheet.cell, len(sheet.layout.combination)
    costs: dict[str, NDArray[np.float64] | NDArray[np.intp]] = {}
    for count, total, values in (
        ("latency_n", "latency_ms_sum", columns.latency_ms),
        ("input_tokens_n", "input_tokens_sum", columns.input_tokens),
        ("output_tokens_n", "output_tokens_sum", columns.output_tokens),
        ("cost_n", "cost_usd_sum", columns.cost_usd),
    ):
        told = ~np.isnan(values)
        costs[count] = np.bincount(cell[told], minlength=size)
        costs[total] = np.bincount(cell[told], weights=values[told], minlength=size)
    return RunSums(
        sum_scores(cell, columns.question_no, columns.status, columns.score, size=size),
        np.array([costs[name] for name in COST_COLUMNS], dtype=np.float64),
    )


def sum_scores(
    cell: NDArray[np.intp],
    question_no: NDArray[np.int32],
    status: NDArray[np.int8],
    score: NDArray[np.float64],
    *,
    size: int,
) -> NDArray[np.float64]:
    """`SCORE_COLUMNS` × `size` cells: the sums of attempts, told the cell of each."""
    scored = (status == STATUSES.index(Status.SCORED)) & ~np.isnan(score)
    sums: dict[str, NDArray[np.float64] | NDArray[np.intp]] = {
        f"n_{name}": np.bincount(cell[status == code], minlength=size) for code, name in enumerate(STATUSES)
    }
    score, scored_cell = score[scored], cell[scored]
    sums["score_sum"] = np.bincount(scored_cell, weights=score, minlength=size)
    sums["score_square_sum"] = np.bincount(scored_cell, weights=score * score, minlength=size)
    # Each scored attempt weighs 1/k where its question has k of them in the run: so questions add up over combinations
    # even where attempts at one question differ in metadata.
    attempts = np.bincount(question_no[scored])
    weight = 1.0 / attempts[question_no[scored]]
    sums["question_weight"] = np.bincount(scored_cell, weights=weight, minlength=size)
    sums["question_mean_sum"] = np.bincount(scored_cell, weights=weight * score, minlength=size)
    return np.array([sums[name] for name in SCORE_COLUMNS], dtype=np.float64)


def set_number(questions: NDArray[np.int32]) -> int:
    """The number of a set of question numbers (ascending): 63 bits of a digest of its members.

    What a number means never changes, whatever happens to the store; a million sets share one with odds of 1 in 18
    million.
    """
    digest = blake2b(questions.astype("<i4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def set_members(questions: NDArray[np.int32]) -> bytes:
    """The set as it is stored."""
    return bytes(BitMap(questions).serialize())

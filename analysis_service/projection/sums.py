"""Sums over a run's answers by combination of metadata values. Pure."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.projection.answers import STATUSES, AnswerColumns
from analysis_service.queries.tables import SUM_COLUMNS
from shared.submission import Status


@dataclass(frozen=True, slots=True)
class CombinationSums:
    """The sums of one combination; `values` are in the order of `SUM_COLUMNS`."""

    combination: int
    questions: NDArray[np.int32]
    """Distinct question numbers, ascending."""
    set_no: int
    """The number of that set."""
    values: tuple[int | float, ...]


def sum_by_combination(columns: AnswerColumns) -> list[CombinationSums]:
    """One entry for each combination that occurs, ascending."""
    combinations, cell = np.unique(columns.combination, return_inverse=True)
    size = len(combinations)
    scored = (columns.status == STATUSES.index(Status.SCORED)) & ~np.isnan(columns.score)
    sums: dict[str, NDArray[np.float64] | NDArray[np.intp]] = {
        f"n_{status}": np.bincount(cell[columns.status == code], minlength=size) for code, status in enumerate(STATUSES)
    }
    score = columns.score[scored]
    sums["score_sum"] = np.bincount(cell[scored], weights=score, minlength=size)
    sums["score_square_sum"] = np.bincount(cell[scored], weights=score * score, minlength=size)
    # Each scored attempt weighs 1/k where its question has k of them in the run: so questions add up over combinations
    # even where attempts at one question differ in metadata.
    attempts = np.bincount(columns.question_no[scored])
    weight = 1.0 / attempts[columns.question_no[scored]]
    sums["question_weight"] = np.bincount(cell[scored], weights=weight, minlength=size)
    sums["question_mean_sum"] = np.bincount(cell[scored], weights=weight * score, minlength=size)
    for count, total, values in (
        ("latency_n", "latency_ms_sum", columns.latency_ms),
        ("input_tokens_n", "input_tokens_sum", columns.input_tokens),
        ("output_tokens_n", "output_tokens_sum", columns.output_tokens),
        ("cost_n", "cost_usd_sum", columns.cost_usd),
    ):
        told = ~np.isnan(values)
        sums[count] = np.bincount(cell[told], minlength=size)
        sums[total] = np.bincount(cell[told], weights=values[told], minlength=size)
    table = [sums[name].tolist() for name in SUM_COLUMNS]
    pairs = np.unique(np.stack([cell, columns.question_no.astype(np.int64)]), axis=1)
    bounds = np.searchsorted(pairs[0], np.arange(size + 1))
    cells = []
    for row in range(size):
        questions = pairs[1, bounds[row] : bounds[row + 1]].astype(np.int32)
        sums_here = tuple(column[row] for column in table)
        cells.append(CombinationSums(int(combinations[row]), questions, set_number(questions), sums_here))
    return cells


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

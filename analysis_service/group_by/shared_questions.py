"""Sums over the questions alone that every chosen run was asked. Pure.

Where the questions of a cell all count or none does, its stored sums are exact. Only runs with a cell of which some do
and some do not are summed anew from their packed answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.group_by.cells import LEFT_OUT, Groups
from analysis_service.group_by.layouts import Cells
from analysis_service.packed_sums import Layout
from analysis_service.projection.answers import ScoreColumns
from analysis_service.projection.sums import sum_scores
from analysis_service.runs import Run


def find_shared(runs: Sequence[Run], sets: Mapping[int, BitMap]) -> BitMap | None:
    """The questions that all of `runs` were asked; None if these are all the questions that any was."""
    numbers = sorted({run.set_no for run in runs if run.set_no is not None})
    if len(numbers) < 2:
        return None
    return BitMap.intersection(*(sets[number] for number in numbers))


@dataclass(frozen=True, slots=True)
class SharedCells:
    """What of some cells is about shared questions."""

    groups: Groups
    """Without the cells that have none."""
    cut: frozenset[int]
    """Layouts with cells of which some questions count and some do not: their runs' stored sums are no help."""


def cut_cells(cells: Cells, groups: Groups, sets: Mapping[int, BitMap], shared: BitMap) -> SharedCells:
    """The cells that count, over the `shared` questions."""
    numbers, position = np.unique(cells.set_no, return_inverse=True)
    counted, size = np.zeros(len(numbers), dtype=np.int64), np.zeros(len(numbers), dtype=np.int64)
    for index, number in enumerate(numbers.tolist()):
        members = sets.get(number)  # those of cells that are left out are not read
        if members is not None:
            counted[index], size[index] = members.intersection_cardinality(shared), len(members)
    none, some = (counted == 0)[position], (counted < size)[position]
    kept = groups.without(none)
    is_cut = some & (kept.of_cell != LEFT_OUT)
    return SharedCells(kept, frozenset(number for number, place in cells.place.items() if is_cut[place].any()))


@dataclass(frozen=True, slots=True)
class SharedMask:
    """Whether a question is shared, by its number."""

    is_shared: NDArray[np.bool_]

    def kept(self, answers: ScoreColumns) -> NDArray[np.bool_]:
        """Which of a run's answers are to shared questions."""
        kept = np.zeros(len(answers.question_no), dtype=np.bool_)
        within = answers.question_no < len(self.is_shared)
        kept[within] = self.is_shared[answers.question_no[within]]
        return kept


def sum_kept(answers: ScoreColumns, kept: NDArray[np.bool_], layout: Layout) -> NDArray[np.float64]:
    """The sums (`SCORE_COLUMNS` × cells of the run's layout) of those of a run's answers that are `kept`."""
    cell = np.searchsorted(layout.combination, answers.combination[kept])
    size = len(layout.combination)
    return sum_scores(cell, answers.question_no[kept], answers.status[kept], answers.score[kept], size=size)


def shared_mask(shared: BitMap) -> SharedMask:
    """The mask of these questions."""
    is_shared = np.zeros(shared.max() + 1 if shared else 0, dtype=np.bool_)
    is_shared[np.fromiter(shared, dtype=np.int64, count=len(shared))] = True
    return SharedMask(is_shared)

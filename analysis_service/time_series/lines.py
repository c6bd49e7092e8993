"""The lines of a time series, and where the measurement changed between two of their runs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.group_by.cells import LEFT_OUT, Groups
from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import Cells
from analysis_service.runs import Run, layout_of

PROVENANCE = ("harness", "harness_version", "task_version", "grader", "config_hash")
"""What of a run's making breaks a line when it changes; `config_hash` stands for prompt and sampling settings."""
_HASH_SHOWN = 12


@dataclass(frozen=True, slots=True)
class LineValues:
    """The values that lines are of, with the questions of each."""

    values: Sequence[Any]
    """One a line, in the order of answers; None alone without a level."""
    of_combination: NDArray[np.int32] | None
    """The line of each combination of metadata, by its number, `LEFT_OUT` for none; None if there is but one line."""
    asked: Sequence[Mapping[int, BitMap]]
    """Of each line, the questions that runs of a layout were asked, by the layout's number; none where it lacks any."""

    def of_questions(self, combination: NDArray[np.int32]) -> NDArray[np.int32]:
        """The line of each question, by the combination of its metadata."""
        if self.of_combination is None:
            return np.zeros(len(combination), dtype=np.int32)
        return self.of_combination[combination]


def find_values(
    cells: Cells,
    groups: Groups,
    combinations: Combinations | None,
    level: str | None,
    sets: Mapping[int, BitMap],
) -> LineValues:
    """A line for each of `groups`, which are by `level` alone; `sets` are the question sets of their cells."""
    n_lines = len(groups.codes[level]) if level is not None else 1
    asked: list[dict[int, BitMap]] = [{} for _ in range(n_lines)]
    for layout, place in cells.place.items():
        line, set_no = groups.of_cell[place], cells.set_no[place]
        order = np.argsort(line, kind="stable")
        line, set_no = line[order], set_no[order]
        edges = [*np.flatnonzero(np.diff(line, prepend=LEFT_OUT)).tolist(), len(line)]
        for begin, end in pairwise(edges):
            asked[line[begin]][layout] = BitMap.union(*(sets[number] for number in set_no[begin:end].tolist()))
    if level is None or combinations is None:
        return LineValues([None], None, asked)
    field = combinations.fields[level]
    line_of_code = np.full(len(field.values) + 1, LEFT_OUT, dtype=np.int32)  # the last is of code -1: no such number
    line_of_code[groups.codes[level]] = np.arange(n_lines)
    return LineValues([field.values[code] for code in groups.codes[level]], line_of_code[field.codes], asked)


class Break(NamedTuple):
    """Between two consecutive runs of a line."""

    place: int
    """In the line, of the later one."""
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Line:
    """The runs that have questions of one value, oldest first."""

    value: Any
    places: Sequence[int]
    """Of each, among all runs."""
    asked: Sequence[BitMap]
    """Of each, its questions of this value."""
    breaks: Sequence[Break]

    @property
    def segments(self) -> list[range]:
        """The stretches of runs between breaks, as places in the line."""
        edges = [0, *(own.place for own in self.breaks), len(self.places)]
        return [range(begin, end) for begin, end in pairwise(edges)]


def draw_lines(values: LineValues, runs: Sequence[Run]) -> list[Line]:
    """The lines through `runs`, which are oldest first, in the order of their values."""
    lines = []
    for value, asked_in in zip(values.values, values.asked, strict=True):
        places = [place for place, run in enumerate(runs) if layout_of(run) in asked_in]
        asked = [asked_in[layout_of(runs[place])] for place in places]
        lines.append(Line(value, places, asked, find_breaks([runs[place] for place in places], asked)))
    return lines


def find_breaks(runs: Sequence[Run], asked: Sequence[BitMap]) -> list[Break]:
    """Where consecutive `runs` of a line differ in how they were made, or in the questions that they `asked` of it.

    What one of them tells of its making and the other does not is a difference: nobody knows that it is none.
    """
    breaks = []
    for place in range(1, len(runs)):
        reasons = [*_changes(runs[place - 1], runs[place]), *_other_questions(asked[place - 1], asked[place])]
        if reasons:
            breaks.append(Break(place, reasons))
    return breaks


def _changes(before: Run, after: Run) -> list[str]:
    changes = []
    for name in PROVENANCE:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            changes.append(f"{name}: {_shown(name, old)} → {_shown(name, new)}")
    return changes


def _shown(name: str, value: str | None) -> str:
    if value is None:
        return "not told"
    return value[:_HASH_SHOWN] if name == "config_hash" else value


def _other_questions(before: BitMap, after: BitMap) -> list[str]:
    if before == after:
        return []
    new, gone = after.difference_cardinality(before), before.difference_cardinality(after)
    told = [f"{new:,} of {len(after):,} are others"] if new else []
    if gone > new:
        told.append(f"{gone - new:,} fewer than before")
    return [f"questions: {', '.join(told)}"]

"""Which group each cell of the chosen runs counts in, and the sums of the groups. Pure: columns in, columns out.

A *group* is a combination of values of the metadata fields asked for, a *division* one of the values that a run itself
has (its model, its vendor …). A *row* of the answer is a group of a division. Runs of one layout have the same groups,
so these are found once a layout, and rows once for all divisions that have the same layouts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.group_by.combinations import Combinations
from analysis_service.group_by.layouts import Cells
from analysis_service.packed_sums import SCORE_COLUMNS
from shared.problems import StoreUnavailable, TooManyGroups

LEFT_OUT = -1
"""The group of a cell that does not count."""

Filters = Sequence[tuple[str, Sequence[str | int | float]]]
"""Metadata fields and the values to keep of each, as they are stored."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of each of some cells."""

    of_cell: NDArray[np.int64]
    codes: Mapping[str, NDArray[np.int32]]
    """Of each field, the code of its value, by group."""

    def without(self, cells: NDArray[np.bool_]) -> "Groups":
        """The same, but for `cells`, which are left out."""
        return Groups(np.where(cells, LEFT_OUT, self.of_cell), self.codes)


def group_cells(
    cells: Cells, combinations: Combinations | None, fields: Sequence[str], filters: Filters, drop_null: Iterable[str]
) -> Groups:
    """The groups by `fields` of the cells that pass the filters and have a value of each field of `drop_null`.

    Without `combinations` there are no fields and filters, and all cells are one group.
    """
    if combinations is None:
        return Groups(np.zeros(len(cells.combination), dtype=np.int64), {})
    kept = kept_cells(cells, combinations, filters, drop_null)
    number = cells.combination[kept]
    key = np.zeros(len(number), dtype=np.int64)
    for name in fields:  # three at most, so that the product of their values fits
        field = combinations.fields[name]
        key = key * len(field.values) + field.codes[number]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    of_cell = np.full(len(cells.combination), LEFT_OUT, dtype=np.int64)
    of_cell[kept] = group
    return Groups(of_cell, {name: combinations.fields[name].codes[number[first]] for name in fields})


def kept_cells(
    cells: Cells, combinations: Combinations, filters: Filters, drop_null: Iterable[str]
) -> NDArray[np.bool_]:
    """Which cells pass the filters and have a value of each field of `drop_null`."""
    kept = np.ones(len(cells.combination), dtype=np.bool_)
    for name, values in filters:
        field = combinations.fields[name]
        wanted = set(values)
        passes = np.array([value is not None and value in wanted for value in field.values])
        kept &= passes[field.codes[cells.combination]]
    for name in drop_null:
        field = combinations.fields[name]
        kept &= field.codes[cells.combination] != field.null
    if combinations.fields:
        known = next(iter(combinations.fields.values())).codes[cells.combination] >= 0
        if not known.all():
            raise StoreUnavailable(
                f"The SQL store lacks {len(known) - int(known.sum()):,} combinations of metadata that runs refer to; "
                "the command `scorehouse check` finds and mends it"
            )
    return kept


@dataclass(frozen=True, slots=True)
class SetSizes:
    """Sizes of question sets and of their unions, over all questions or over those that count."""

    sets: Mapping[int, BitMap]
    among: BitMap | None = None
    """The questions that count; None for all."""

    def count(self, number: int) -> int:
        """The questions of one set."""
        members = self.sets[number]
        return len(members) if self.among is None else members.intersection_cardinality(self.among)

    def count_union(self, numbers: Iterable[int]) -> int:
        """The distinct questions of some sets; there is at least one."""
        union = BitMap.union(*(self.sets[number] for number in numbers))
        return len(union) if self.among is None else union.intersection_cardinality(self.among)


def count_questions(key: NDArray[Any], set_no: NDArray[np.int64], sizes: SetSizes) -> tuple[NDArray[Any], list[int]]:
    """The distinct keys, ascending, and of each the distinct questions of the sets that it stands beside."""
    if not len(key):
        return key, []
    numbers, position = np.unique(set_no, return_inverse=True)
    pairs = np.unique(key.astype(np.int64) * len(numbers) + position)
    keys = pairs // len(numbers)
    sets = numbers[pairs % len(numbers)].tolist()
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = [*begins[1:].tolist(), len(keys)]
    known: dict[tuple[int, ...], int] = {}
    counts = []
    for begin, end in zip(begins.tolist(), ends, strict=True):
        if end - begin == 1:
            counts.append(sizes.count(sets[begin]))
            continue
        union = tuple(sets[begin:end])
        if union not in known:
            known[union] = sizes.count_union(union)
        counts.append(known[union])
    return keys[begins], counts


@dataclass(frozen=True, slots=True)
class _Block:
    """The rows of every division with these layouts."""

    groups: NDArray[np.int64]
    """Those that occur, ascending: one a row."""
    n_questions: Sequence[int]
    row: Mapping[int, NDArray[np.int64]]
    """Of each layout, the row of each of its cells, from 0; the last is one too many and of cells that are left out."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all divisions, one division after the other."""

    blocks: Sequence[_Block]
    """Of each division."""
    begins: Sequence[int]
    """Where the sums of each begin; each takes one place more than it has rows."""

    def __len__(self) -> int:
        return sum(len(block.groups) for block in self.blocks)

    @property
    def places(self) -> int:
        """Places for sums."""
        return self.begins[-1] + len(self.blocks[-1].groups) + 1 if self.blocks else 0

    @property
    def division(self) -> NDArray[np.int64]:
        """Of each row."""
        return np.repeat(np.arange(len(self.blocks)), [len(block.groups) for block in self.blocks])

    @property
    def group(self) -> NDArray[np.int64]:
        """Of each row."""
        return _joined([block.groups for block in self.blocks])

    @property
    def n_questions(self) -> list[int]:
        """Of each row: distinct questions asked."""
        return [count for block in self.blocks for count in block.n_questions]

    def places_of(self, division: int, layout: int) -> NDArray[np.int64]:
        """Where the sums of each cell of a run go."""
        return self.blocks[division].row[layout] + self.begins[division]

    def sums(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of columns × places, columns × rows."""
        rows = [
            np.arange(begin, begin + len(block.groups)) for begin, block in zip(self.begins, self.blocks, strict=True)
        ]
        return places[:, _joined(rows)]


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)


def lay_rows(
    divisions: Sequence[tuple[int, ...]],
    cells: Cells,
    groups: Groups,
    sizes: SetSizes,
    *,
    max_rows: int,
    rows_before: int = 0,
) -> Rows:
    """The rows of divisions that have these layouts (ascending).

    TooManyGroups if they are more than `max_rows`, with `rows_before` that the answer has already.
    """
    known: dict[tuple[int, ...], _Block] = {}
    blocks: list[_Block] = []
    begins: list[int] = []
    end, n_rows = 0, rows_before
    for layouts in divisions:
        block = known.get(layouts)
        if block is None:
            block = known[layouts] = _lay_block(layouts, cells, groups, sizes)
        blocks.append(block)
        begins.append(end)
        end += len(block.groups) + 1
        n_rows += len(block.groups)
        if n_rows > max_rows:
            raise TooManyGroups(
                f"the answer would have more than {max_rows:,} groups (setting MAX_GROUPS); "
                "ask for fewer levels, or filter by runs, models or values"
            )
    return Rows(blocks, begins)


def _lay_block(layouts: Sequence[int], cells: Cells, groups: Groups, sizes: SetSizes) -> _Block:
    group = _joined([groups.of_cell[cells.place[number]] for number in layouts])
    set_no = _joined([cells.set_no[cells.place[number]] for number in layouts])
    counts = group != LEFT_OUT
    found, n_questions = count_questions(group[counts], set_no[counts], sizes)
    row = {}
    for number in layouts:
        own = groups.of_cell[cells.place[number]]
        row[number] = np.where(own == LEFT_OUT, len(found), np.searchsorted(found, own))
    return _Block(found, n_questions, row)


class Places(Protocol):
    """Where sums go: rows, or what rows are divided into."""

    @property
    def places(self) -> int:
        """Places for sums."""

    def places_of(self, division: int, layout: int) -> NDArray[np.int64]:
        """Where the sums of each cell of a run go."""

    def sums(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of columns × places, those that are told."""


class RunningSums:
    """The sums of all rows, column by column, as runs come in. The same runs in the same order give the same bits."""

    def __init__(self, rows: Places, columns: Sequence[str]) -> None:
        self._rows = rows
        self._columns = [SCORE_COLUMNS.index(name) for name in columns]
        self._names = columns
        self._places = np.zeros((len(columns), rows.places))

    def add(self, runs: Sequence[tuple[int, int]], scores: Sequence[NDArray[np.float64]]) -> None:
        """Add runs by division and layout, with the sums (`SCORE_COLUMNS` × cells) of each."""
        place = _joined([self._rows.places_of(division, layout) for division, layout in runs])
        values = scores[0] if len(scores) == 1 else np.concatenate(scores, axis=1)
        for index, column in enumerate(self._columns):
            # One by one, in order: so the bits depend neither on the machine nor on how the runs come in.
            np.add.at(self._places[index], place, values[column])

    def by_column(self) -> Mapping[str, NDArray[np.float64]]:
        """Of each row, by column."""
        return dict(zip(self._names, self._rows.sums(self._places), strict=True))

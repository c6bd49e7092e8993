"""What rows are divided into for their statistics: values of the macro field, and clusters. Pure.

A *slot* is what a row has of one value of the field that its macro mean is over and of one cluster, where these are
asked for; else it is the row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.cells import LEFT_OUT, Groups, Rows
from analysis_service.group_by.combinations import Combinations, FieldValues
from analysis_service.group_by.layouts import Cells
from shared.problems import TooManyGroups

SLOTS_MAX = 1_000_000
"""Slots that an answer may have: in memory they take about a hundred bytes each."""


@dataclass(frozen=True, slots=True)
class _Block:
    """The slots of every division with the same layouts."""

    row: NDArray[np.int64]
    """Counted from the division's first row."""
    value: NDArray[np.int64]
    cluster: NDArray[np.int64]
    slot: Mapping[int, NDArray[np.int64]]
    """Of each layout, the slot of each of its cells; the last is one too many and of cells that are left out."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of all divisions, one division after the other; sums of each division take one place more."""

    blocks: Sequence[_Block]
    """Of each division."""
    begins: Sequence[int]
    """Where the sums of each begin."""
    first_rows: Sequence[int]
    """Of each division; one more for the end."""
    clusters: FieldValues | None
    """The field that clusters are values of."""
    has_values: bool
    """Whether there is a field that macro means are over."""

    @property
    def places(self) -> int:
        """Places for sums."""
        return self.begins[-1] + len(self.blocks[-1].row) + 1 if self.blocks else 0

    @property
    def row(self) -> NDArray[np.int64]:
        """Of each slot."""
        return _joined([block.row + first for block, first in zip(self.blocks, self.first_rows, strict=False)])

    @property
    def value(self) -> NDArray[np.int64]:
        """Of each slot, the code of its value; -1 of those without."""
        return _joined([block.value for block in self.blocks])

    @property
    def cluster(self) -> NDArray[np.int64]:
        """Of each slot, the code of its cluster; -1 of those without."""
        return _joined([block.cluster for block in self.blocks])

    @property
    def have_clusters(self) -> bool:
        """Whether all of them have one."""
        return all((block.cluster >= 0).all() for block in self.blocks)

    def first(self, division: int) -> int:
        """The number of a division's first slot."""
        return self.begins[division] - division

    def places_of(self, division: int, layout: int) -> NDArray[np.int64]:
        """Where the sums of each cell of a run go."""
        return self.blocks[division].slot[layout] + self.begins[division]

    def sums(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of columns × places, columns × slots."""
        taken = [
            np.arange(begin, begin + len(block.row)) for begin, block in zip(self.begins, self.blocks, strict=True)
        ]
        return places[:, _joined(taken)]


def lay_slots(
    divisions: Sequence[tuple[int, ...]],
    cells: Cells,
    groups: Groups,
    rows: Rows,
    combinations: Combinations | None,
    *,
    macro_over: str | None,
    cluster_by: str | None,
) -> Slots:
    """The slots of `rows`, whose divisions have these layouts. TooManyGroups if they are more than `SLOTS_MAX`."""
    values, clusters = (
        None if name is None or combinations is None else combinations.fields[name] for name in (macro_over, cluster_by)
    )
    known: dict[tuple[int, ...], _Block] = {}
    blocks: list[_Block] = []
    begins: list[int] = []
    first_rows = [0]
    for layouts, its_rows in zip(divisions, rows.blocks, strict=True):
        block = known.get(layouts)
        if block is None:
            block = known[layouts] = _lay_block(cells, groups, its_rows.row, values, clusters)
        begins.append(begins[-1] + len(blocks[-1].row) + 1 if blocks else 0)
        blocks.append(block)
        first_rows.append(first_rows[-1] + len(its_rows.groups))
        if begins[-1] + len(block.row) > SLOTS_MAX:
            names = " and ".join(name for name in (macro_over, cluster_by) if name is not None)
            raise TooManyGroups(
                f"the rows have more than {SLOTS_MAX:,} values of {names} together, which their statistics are over; "
                "ask for fewer levels, runs or models, or for a macro_over with fewer values"
            )
    return Slots(blocks, begins, first_rows, clusters, has_values=values is not None)


def _lay_block(
    cells: Cells,
    groups: Groups,
    row_of: Mapping[int, NDArray[np.int64]],
    values: FieldValues | None,
    clusters: FieldValues | None,
) -> _Block:
    keys = {}
    n_values, n_clusters = (1 if field is None else len(field.values) for field in (values, clusters))
    for layout, row in row_of.items():
        place = cells.place[layout]
        combination = cells.combination[place]
        key = row
        for field in (values, clusters):
            if field is not None:
                key = key * len(field.values) + field.codes[combination]
        keys[layout] = np.where(groups.of_cell[place] == LEFT_OUT, -1, key)
    found = np.unique(_joined(list(keys.values())))
    found = found[found >= 0]
    value, cluster = found // n_clusters % n_values, found % n_clusters
    return _Block(
        row=found // (n_values * n_clusters),
        value=_without_null(value, values),
        cluster=_without_null(cluster, clusters),
        slot={layout: np.where(key < 0, len(found), np.searchsorted(found, key)) for layout, key in keys.items()},
    )


def _without_null(codes: NDArray[np.int64], field: FieldValues | None) -> NDArray[np.int64]:
    return codes if field is None else np.where(codes == field.null, -1, codes)


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)

"""Layouts by number, kept in memory, and several of them as one list of cells."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.contents import Contents
from analysis_service.packed_sums import Layout, unpack_layout
from analysis_service.queries.sums import layouts_query

KEPT_BYTES = 32 * 1024 * 1024
_OVERHEAD_BYTES = 400


class Layouts(Contents[Layout]):
    """What the cells of each layout are about."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        super().__init__("layouts", layouts_query, unpack_layout, _size, max_bytes)


def _size(layout: Layout) -> int:
    return _OVERHEAD_BYTES + layout.combination.nbytes + layout.set_no.nbytes


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of some layouts, one layout after the other."""

    place: Mapping[int, slice]
    """Where the cells of each layout are, by its number."""
    combination: NDArray[np.int64]
    set_no: NDArray[np.int64]
    """Of each cell, the number of its question set."""


def join_layouts(layouts: Mapping[int, Layout]) -> Cells:
    """All cells of `layouts`, which are in the order of their numbers then."""
    place: dict[int, slice] = {}
    end = 0
    for number in sorted(layouts):
        begin, end = end, end + len(layouts[number].combination)
        place[number] = slice(begin, end)
    if not place:
        empty = np.zeros(0, dtype=np.int64)
        return Cells(place, empty, empty)
    return Cells(
        place,
        np.concatenate([layouts[number].combination for number in place]),
        np.concatenate([layouts[number].set_no for number in place]),
    )

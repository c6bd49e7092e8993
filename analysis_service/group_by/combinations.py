"""The combinations of metadata values that occur in a benchmark, kept in memory as a column a field."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from analysis_service.database import Row
from analysis_service.database.dialect import Dialect
from analysis_service.group_by.contents import Reads
from analysis_service.queries.sums import combinations_query
from shared.problems import StoreUnavailable
from shared.registry.specs import BenchmarkSpec, FieldSpec, FieldType

KEPT_BYTES = 64 * 1024 * 1024
_OFF_LOOP_ROWS = 2_000
"""From this many on, adding them takes so long that other requests would notice."""
_VALUE_BYTES = 120
"""About what a value takes with its place in a list."""


@dataclass(frozen=True, slots=True)
class FieldValues:
    """A field's values over all combinations."""

    codes: NDArray[np.int32]
    """By the combination's number: where its value is in `values`; -1 of numbers that are not there."""
    values: Sequence[Any]
    """Each once, in the order of answers; the last is None, whether it occurs or not."""

    @property
    def null(self) -> int:
        """The code of None."""
        return len(self.values) - 1


@dataclass(frozen=True, slots=True)
class Combinations:
    """Every combination of a benchmark up to one, by number."""

    epoch: int
    """Of the store's history, as the catalog counts it: in another one the numbers mean something else."""
    newest: Row
    """The last row that was read; () before the first."""
    fields: Mapping[str, FieldValues]

    @property
    def last(self) -> int:
        """The greatest number; 0 before the first."""
        return int(self.newest[0]) if self.newest else 0

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        columns = self.fields.values()
        return sum(column.codes.nbytes + _VALUE_BYTES * len(column.values) for column in columns)


class CombinationMemory:
    """The combinations of benchmarks; rows are only ever added, so only those not known yet are read."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._kept: LRUCache[str, Combinations] = LRUCache(max_bytes, getsizeof=lambda kept: kept.nbytes)

    async def fetch(
        self, reads: Reads, dialect: Dialect, spec: BenchmarkSpec, *, epoch: int, needed: int
    ) -> Combinations:
        """The combinations of `spec` up to at least the number `needed`; StoreUnavailable if the store lacks it."""
        known = self._kept.get(spec.name)
        if known is not None and (known.epoch != epoch or known.fields.keys() != spec.by_name.keys()):
            known = None
        if known is not None and needed <= known.last:
            return known
        known = known or Combinations(epoch, (), {field.name: _NOTHING for field in spec.fields})
        rows = await reads.fetch(combinations_query(dialect, spec.name, spec.by_name, known.last), "combinations")
        if known.newest and (not rows or rows[0] != known.newest):
            # The store lost what it had: it was restored or emptied.
            known = Combinations(epoch, (), {field.name: _NOTHING for field in spec.fields})
            rows = await reads.fetch(combinations_query(dialect, spec.name, spec.by_name, 0), "combinations again")
        new = rows[1:] if known.newest else rows
        if len(new) > _OFF_LOOP_ROWS:
            grown = await asyncio.to_thread(add_combinations, known, spec, new)
        else:
            grown = add_combinations(known, spec, new)
        if needed > grown.last:
            raise StoreUnavailable(
                f"The SQL store lacks combinations of metadata that runs of {spec.name} refer to; "
                "the command `scorehouse check` finds and mends it"
            )
        if grown.nbytes <= self._kept.maxsize:
            self._kept[spec.name] = grown
        return grown


_NOTHING = FieldValues(np.full(1, -1, dtype=np.int32), (None,))


def add_combinations(known: Combinations, spec: BenchmarkSpec, rows: Sequence[Row]) -> Combinations:
    """`known` and `rows`: a number beyond those known, ascending, then the values of the fields of `spec`."""
    if not rows:
        return known
    numbers = np.array([row[0] for row in rows], dtype=np.int64)
    fields = {
        field.name: _add_values(known.fields[field.name], field, numbers, [row[position] for row in rows])
        for position, field in enumerate(spec.fields, start=1)
    }
    return Combinations(known.epoch, rows[-1], fields)


def _add_values(known: FieldValues, field: FieldSpec, numbers: NDArray[np.int64], stored: Sequence[Any]) -> FieldValues:
    if field.type is FieldType.BOOLEAN:
        stored = [None if value is None else bool(value) for value in stored]
    values = sorted({*known.values, *stored, None}, key=value_sorter(field))
    code_of = {value: code for code, value in enumerate(values)}
    codes = np.full(int(numbers[-1]) + 1, -1, dtype=np.int32)
    # -1 stays -1: it takes the last, which is that.
    moved = np.array([*(code_of[value] for value in known.values), -1], dtype=np.int32)
    codes[: len(known.codes)] = moved[known.codes]
    codes[numbers] = [code_of[value] for value in stored]
    return FieldValues(codes, values)


def value_sorter(spec: FieldSpec) -> Callable[[Any], tuple[bool, int, Any]]:
    """A sort key for a field's values: the registry's order, then their own, null last."""
    order = {value: position for position, value in enumerate(spec.values)}
    empty: Any = "" if spec.type is FieldType.CATEGORY else 0

    def key(value: Any) -> tuple[bool, int, Any]:  # noqa: ANN401
        return (value is None, order.get(value, len(order)), empty if value is None else value)

    return key

"""What is stored under a number that is a digest of it, kept in memory: such a number always means the same."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from pypika.queries import QueryBuilder

from analysis_service.database import Row
from analysis_service.database.dialect import Dialect
from shared.problems import StoreUnavailable, TooManyGroups

READ_MAX = 400_000
"""Numbers that one statement asks for: with 20 bytes each it stays below what servers take at once."""

_OFF_LOOP_ROWS = 2_000
"""From this many on, unpacking takes so long that other requests would notice."""

T = TypeVar("T")


class Reads(Protocol):
    """Where reads go: a session, or what measures one."""

    async def fetch(self, query: QueryBuilder, name: str) -> list[Row]:
        """The rows of a SELECT, which is called `name`."""


class Contents(Generic[T]):
    """Such tables of all benchmarks; what was not used for longest goes when there are more than `max_bytes`.

    A dict of its own, because an answer may look up tens of thousands: cachetools takes ten times as long for each.
    """

    def __init__(
        self,
        name: str,
        query: Callable[[Dialect, str, Collection[int]], QueryBuilder],
        unpack: Callable[[bytes], T],
        size: Callable[[T], int],
        max_bytes: int,
    ) -> None:
        self._name = name
        self._query = query
        self._unpack = unpack
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[int, T] = OrderedDict()

    async def fetch(self, reads: Reads, dialect: Dialect, benchmark: str, numbers: Iterable[int]) -> Mapping[int, T]:
        """What these numbers mean; those not in memory are read in one statement.

        TooManyGroups if they are too many for one, StoreUnavailable if the store lacks one that its runs refer to.
        """
        found: dict[int, T] = {}
        missing = []
        kept = self._kept
        for number in set(numbers):
            content = kept.get(number)
            if content is None:
                missing.append(number)
            else:
                found[number] = content
                kept.move_to_end(number)
        if not missing:
            return found
        if len(missing) > READ_MAX:
            raise TooManyGroups(
                f"the answer needs {len(missing):,} {self._name} of {benchmark} and may read {READ_MAX:,}; "
                "ask for fewer runs or models"
            )
        rows = await reads.fetch(self._query(dialect, benchmark, missing), self._name)

        def unpack() -> dict[int, T]:
            return {number: self._unpack(packed) for number, packed in rows}

        new = await asyncio.to_thread(unpack) if len(rows) > _OFF_LOOP_ROWS else unpack()
        found |= new
        for number, content in new.items():
            self._keep(number, content)
        lacking = len(missing) - sum(number in found for number in missing)
        if lacking:
            raise StoreUnavailable(
                f"The SQL store lacks {lacking:,} {self._name} that runs of {benchmark} refer to; "
                "the command `scorehouse check` finds and mends it"
            )
        return found

    def _keep(self, number: int, content: T) -> None:
        if number in self._kept:  # another request has read it meanwhile
            return
        self._kept[number] = content
        self._bytes += self._size(content)
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= self._size(oldest)

"""The reads of one answer: each is noted for whoever asks how it was made, all together have a time limit."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from pypika.queries import QueryBuilder

from analysis_service.database import Row, SnapshotSession
from shared.problems import StoreUnavailable, TimeLimit


class MeasuredReads:
    """Reads in one snapshot."""

    def __init__(self, session: SnapshotSession, *, time_limit_s: float) -> None:
        self.statements: list[tuple[str, int, float]] = []
        """Name, rows and milliseconds of each, in order."""
        self._session = session
        self._time_limit_s = time_limit_s
        self._began = time.perf_counter()

    def rows_of(self, name: str) -> int:
        """The rows that reads of this name brought."""
        return sum(rows for own, rows, _ in self.statements if own == name)

    def check_time(self) -> None:
        """TimeLimit if all of this takes longer than it may: each read has a limit of its own, computing has none."""
        if time.perf_counter() - self._began > self._time_limit_s:
            raise TimeLimit(
                f"The answer takes longer than {self._time_limit_s:g} s (QUERY_TIMEOUT_S); "
                "ask for less: fewer runs, models or benchmarks, or fewer levels, lines or draws."
            )

    async def fetch(self, query: QueryBuilder, name: str) -> list[Row]:
        """The rows of a SELECT."""
        began = time.perf_counter()
        rows = await self._session.fetch(query, name)
        self._note(name, len(rows), began)
        return rows

    async def in_stretches(
        self, query: QueryBuilder, name: str, sizes: Mapping[int, int], *, at_once: int
    ) -> AsyncGenerator[list[Row], None]:
        """The rows of a SELECT (number, blob) in order, as many at a time as have a size of `at_once` together.

        `sizes` has each number's; StoreUnavailable if one does not come. It is one statement all the same, whose rows
        are waited for one by one where they are too many for memory. TimeLimit is raised between stretches.
        """
        if sum(sizes.values()) <= at_once:
            rows = await self.fetch(query, name)
            count = len(rows)
            yield rows
        else:
            count = 0
            began = time.perf_counter()
            some: list[Row] = []
            size = 0
            async with aclosing(self._session.stream(query, name)) as stream:
                async for row in stream:
                    if some and size + sizes[row[0]] > at_once:
                        yield some
                        self.check_time()
                        some, size = [], 0
                    some.append(row)
                    size += sizes[row[0]]
                    count += 1
            self._note(name, count, began)
            yield some
        if count < len(sizes):
            raise StoreUnavailable(
                f"The SQL store lacks the {name} of {len(sizes) - count:,} runs; "
                "the command `scorehouse check` finds and mends them"
            )
        self.check_time()

    def _note(self, name: str, rows: int, began: float) -> None:
        self.statements.append((name, rows, round((time.perf_counter() - began) * 1000, 3)))

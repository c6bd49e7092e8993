"""Changes the tables of runs as the projection does, for tests that need to say what is in them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import randbits
from typing import Any

from analysis_service.database import Database
from analysis_service.queries.tables import BENCHMARK_VERSIONS, FEED_STATE, RUN_VERSIONS, RUNS

COUNTED, UNCOUNTED = "math500", "aime"
"""A benchmark whose number of questions is registered, and one whose is not."""


@dataclass
class Writer:
    """Changes the tables as the projection does."""

    database: Database
    version: int = 0

    @asynccontextmanager
    async def change(self, *benchmarks: str) -> AsyncIterator[Any]:
        query = self.database.dialect.query
        async with self.database.transaction() as session:
            self.version += 1
            for benchmark in benchmarks:
                await session.execute(
                    query.from_(BENCHMARK_VERSIONS).delete().where(BENCHMARK_VERSIONS.benchmark == benchmark)
                )
            rows = [(benchmark, self.version) for benchmark in benchmarks]
            await session.insert(BENCHMARK_VERSIONS, ["benchmark", "version"], rows)
            yield session
            state = query.update(FEED_STATE).set(FEED_STATE.version, self.version)
            await session.execute(state.set(FEED_STATE.token, randbits(62)))

    async def put(self, run_no: int, benchmark: str = COUNTED, **values: Any) -> None:
        async with self.change(benchmark) as session:
            await self._clear(session, run_no)
            await self._insert(session, run_no, benchmark, values)

    async def put_many(self, numbers: range, benchmark: str = COUNTED) -> None:
        async with self.change(benchmark) as session:
            for run_no in numbers:
                await self._insert(session, run_no, benchmark, {})

    async def remove(self, run_no: int, benchmark: str = COUNTED) -> None:
        async with self.change(benchmark) as session:
            await self._clear(session, run_no)
            await session.insert(RUN_VERSIONS, ["run_no", "version"], [(run_no, self.version)])

    async def _clear(self, session: Any, run_no: int) -> None:
        for table in (RUNS, RUN_VERSIONS):
            await session.execute(self.database.dialect.query.from_(table).delete().where(table.run_no == run_no))

    async def _insert(self, session: Any, run_no: int, benchmark: str, values: dict[str, Any]) -> None:
        row = {
            "run_no": run_no,
            "result_name": f"result {run_no}",
            "benchmark": benchmark,
            "run_id": "run",
            "model_id": "gpt-4",
            "source": "tests",
            "timestamp": "2024-01-01T00:00:00Z",
            "time_key": "2024-01-01T00:00:00",
            "seq": run_no,
            "set_no": 7,
            "layout_no": 8,
            "n_cells": 3,
            "n_questions": 500,
            "n_answers": 500,
            "n_scored": 499,
            "score_sum": 250.5,
            "stated_score": None,
            "live": 0,
        } | values
        await session.insert(RUNS, list(row), [tuple(row.values())])
        await session.insert(RUN_VERSIONS, ["run_no", "version"], [(run_no, self.version)])

    async def set_state(self, **values: int) -> None:
        async with self.database.transaction() as session:
            query = self.database.dialect.query.update(FEED_STATE)
            for name, value in values.items():
                query = query.set(FEED_STATE.field(name), value)
            await session.execute(query)


def reads(database: Database, name: str) -> int:
    """How often something was read."""
    counts = database.reads.by_name.get(name)
    return counts.durations.count if counts else 0

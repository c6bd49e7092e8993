"""Applies one result: an idempotent replace by its name, in one transaction with the feed position.

Invalidation, restoration, a registry change and a rebuild are this same operation.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pypika import Order, Table
from pypika import functions as fn

from analysis_service.database import Database, Row, Session, in_batches
from analysis_service.database.dialect import Dialect
from analysis_service.projection.answers import answer_columns, pack
from analysis_service.projection.prepare import AppliedState, PreparedRun
from analysis_service.projection.question_keys import hash_in
from analysis_service.projection.sums import CombinationSums, set_members, set_number, sum_by_combination
from analysis_service.queries.tables import (
    ANSWERS,
    APPLIED,
    FEED_STATE,
    RUNS,
    SUM_COLUMNS,
    BenchmarkTables,
    field_column,
)
from shared.registry.specs import BenchmarkSpec
from shared.results import FeedEntry, LiveRunState


@dataclass(frozen=True, slots=True)
class AppliedResult:
    """A result as the projection has it."""

    result_name: str
    seq: int
    """Of the last entry about it."""
    href: str


@dataclass(frozen=True, slots=True)
class _Summed:
    """What a run's answers come to."""

    packed: bytes
    cells: Sequence[CombinationSums]
    asked: NDArray[np.int32]
    """Distinct question numbers of the whole run, ascending."""
    set_no: int
    """The number of that set."""
    n_scored: int
    score_sum: float


class Superseded(Exception):
    """Another instance, with another registry, was started later; results are for it to apply."""


class FeedGap(Exception):
    """The position moved since the entry was read: another instance applied it, or more."""


@dataclass(slots=True)
class Numbering:
    """The numbers of a table's rows by their keys. Rows are only ever added, so it is refreshed from its end."""

    table: Table
    number: str
    keys: tuple[str, ...]
    known: dict[Row, int] = field(default_factory=dict)
    newest: Row = (0,)
    """The last row that was read; without keys before the first."""

    @property
    def last(self) -> int:
        """The greatest number that is known to be taken."""
        return int(self.newest[0])

    async def refresh(self, session: Session, dialect: Dialect) -> None:
        """Learn the rows that were committed since."""
        rows = await self._read(session, dialect)
        if self.last and (not rows or rows[0] != self.newest):
            # The store lost what it had committed: it was restored or emptied, or fell back to a replica behind it.
            self.known.clear()
            self.newest = (0,)
            rows = await self._read(session, dialect)
        for row in rows:
            self.known[row[1:]] = row[0]
            self.newest = row

    async def _read(self, session: Session, dialect: Dialect) -> list[Row]:
        number = self.table.field(self.number)
        query = dialect.query.from_(self.table).select(number, *(self.table.field(key) for key in self.keys))
        return await session.fetch(query.where(number >= self.last).orderby(number, order=Order.asc))

    def number_all(self, keys: Iterable[Row]) -> tuple[list[int], dict[Row, int]]:
        """A number for each key, and the new ones among them, which count once they are committed and refreshed."""
        new: dict[Row, int] = {}
        numbers = []
        for key in keys:
            number = self.known.get(key) or new.get(key)
            if number is None:
                number = new[key] = self.last + len(new) + 1
            numbers.append(number)
        return numbers, new


class Projection:
    """The writing side of the SQL store. One at a time over all instances: each transaction begins with a row lock."""

    def __init__(self, database: Database, registry_hash: str) -> None:
        self._database = database
        self._registry_hash = registry_hash
        self._numberings: dict[tuple[str, str], Numbering] = {}

    async def take_over(self) -> None:
        """Make this instance's registry the one that results are decided by: the last started has the newest.

        Two registries would otherwise take turns, and what the older one decides last would stay.
        """
        async with self._database.transaction() as session:
            query = self._database.dialect.query.update(FEED_STATE)
            await session.execute(query.set(FEED_STATE.registry_hash, self._registry_hash))

    async def position(self) -> int:
        """The seq of the last entry applied; 0 before the first."""
        async with self._database.snapshot() as session:
            query = self._database.dialect.query.from_(FEED_STATE).select(FEED_STATE.position)
            return int((await session.fetch(query))[0][0])

    async def apply(self, entry: FeedEntry, run: PreparedRun, *, after: int | None = None) -> None:
        """Apply the next entry of the feed, or the next that matters `after` a position.

        FeedGap if the position is another by now. Of a live run that was finished since, nothing is changed: the entry
        that says so is still to come.
        """
        async with self.locked(expected=entry.seq - 1 if after is None else after) as session:
            if run.live is not LiveRunState.FINISHED:
                await self._replace(session, run, seq=entry.seq, href=entry.href)
            await self.advance(session, position=entry.seq)

    async def reapply(self, result: AppliedResult, run: PreparedRun) -> None:
        """Apply a result anew under a changed registry, without moving the position.

        Nothing happens if an entry about it was applied since it was looked at: that was newer.
        """
        await self.mend(result, run, found=result.seq)

    async def mend(self, result: AppliedResult, run: PreparedRun, *, found: int | None) -> bool:
        """Apply a result anew as of the entry `result.seq`, without moving the position.

        False, and nothing happens, unless it is still applied as of the entry `found`, or with None not at all.
        """
        async with self.locked() as session:
            if await self.applied_seq(session, run.result_name) != found:
                return False
            if run.spec is not None:  # else it has no tables
                await self._clear_next_number(session, run.benchmark)
            await self._replace(session, run, seq=result.seq, href=result.href)
            await self.advance(session, position=None)
            return True

    def forget_numbers(self) -> None:
        """Read all numbers anew when they are needed: rows of those that are known may have been lost."""
        self._numberings.clear()

    async def outdated(self, fingerprints: dict[str, str], limit: int) -> list[AppliedResult]:
        """Results that were decided under another definition of their benchmark."""
        query = self._database.dialect.query
        found: list[AppliedResult] = []
        async with self._database.snapshot() as session:
            for benchmark, fingerprint in fingerprints.items():
                rows = await session.fetch(
                    query.from_(APPLIED)
                    .select(APPLIED.result_name, APPLIED.seq, APPLIED.href)
                    .where((APPLIED.benchmark == benchmark) & (APPLIED.registry_hash != fingerprint))
                    .orderby(APPLIED.seq)
                    .limit(limit)
                )
                found += [AppliedResult(*row) for row in rows]
        return found

    @asynccontextmanager
    async def locked(self, *, expected: int | None = None) -> AsyncIterator[Session]:
        """A transaction under the lock. FeedGap if the position is not the `expected` one, if there is one."""
        async with self._database.transaction() as session:
            await self._lock(session, expected=expected)
            yield session

    async def _lock(self, session: Session, *, expected: int | None) -> None:
        dialect = self._database.dialect
        query = dialect.query.from_(FEED_STATE).select(FEED_STATE.position, FEED_STATE.registry_hash)
        [(position, registry_hash)] = await session.fetch(query.for_update() if dialect.locks_rows else query)
        if registry_hash != self._registry_hash:
            raise Superseded("an instance with another registry was started later; restart this one to take over")
        if expected is not None and position != expected:
            raise FeedGap(f"position is {position}, not {expected}")

    async def advance(self, session: Session, *, position: int | None) -> None:
        """Make a new version of the data of what was written under the lock; with a position, move to it."""
        query = self._database.dialect.query.update(FEED_STATE).set(FEED_STATE.version, FEED_STATE.version + 1)
        await session.execute(query if position is None else query.set(FEED_STATE.position, position))

    async def _replace(self, session: Session, run: PreparedRun, *, seq: int, href: str) -> None:
        query = self._database.dialect.query
        if run.live is not None and await self._has_result(session, run, href):
            return
        run_no = await self._remove(session, run)
        await session.execute(query.from_(APPLIED).delete().where(APPLIED.result_name == run.result_name))
        if run.live in (LiveRunState.FINISHED, LiveRunState.DISCARDED):
            return
        if run.state is AppliedState.APPLIED and run.spec is not None:
            await self._insert_run(session, run, run.spec, seq=seq, run_no=run_no)
        await session.insert(
            APPLIED,
            ["result_name", "seq", "benchmark", "sha256", "href", "state", "reason", "registry_hash"],
            [(run.result_name, seq, run.benchmark, run.sha256, href, run.state.value, run.reason, run.registry_hash)],
        )

    async def _has_result(self, session: Session, run: PreparedRun, href: str) -> bool:
        """Whether a whole result has taken the place of a live run; the parts never take it back."""
        query = self._database.dialect.query.from_(APPLIED).select(APPLIED.href)
        return any(
            applied != href for (applied,) in await session.fetch(query.where(APPLIED.result_name == run.result_name))
        )

    async def _remove(self, session: Session, run: PreparedRun) -> int:
        """Take out what the result has put in, and return the number to put it back under."""
        query = self._database.dialect.query
        found = await session.fetch(query.from_(RUNS).select(RUNS.run_no).where(RUNS.result_name == run.result_name))
        if not found:
            [(greatest,)] = await session.fetch(query.from_(RUNS).select(fn.Max(RUNS.run_no)))
            return int(greatest or 0) + 1
        run_no = int(found[0][0])
        await self.delete_run(session, run_no, run.benchmark)
        return run_no

    async def delete_run(self, session: Session, run_no: int, benchmark: str) -> None:
        """Delete a run with its answers and sums."""
        for table in (RUNS, ANSWERS, BenchmarkTables(benchmark).sums):
            query = self._database.dialect.query.from_(table).delete()
            await session.execute(query.where(table.run_no == run_no))

    async def _clear_next_number(self, session: Session, benchmark: str) -> None:
        """Where the row of the newest run was lost, its answers and sums still have the number that comes next."""
        query = self._database.dialect.query
        [(greatest,)] = await session.fetch(query.from_(RUNS).select(fn.Max(RUNS.run_no)))
        await self.delete_run(session, int(greatest or 0) + 1, benchmark)

    async def applied_seq(self, session: Session, result_name: str) -> int | None:
        """The seq of the entry as of which a result is applied; None if it is not."""
        query = self._database.dialect.query.from_(APPLIED).select(APPLIED.seq)
        rows = await session.fetch(query.where(APPLIED.result_name == result_name))
        return int(rows[0][0]) if rows else None

    async def _insert_run(
        self, session: Session, run: PreparedRun, spec: BenchmarkSpec, *, seq: int, run_no: int
    ) -> None:
        set_no, n_scored, score_sum = None, 0, 0.0
        if run.questions:
            question_no = await self._number_questions(session, run)
            name_no = await self._number_names(session, run, question_no)
            combination = await self._number_combinations(session, run, spec)
            summed = await asyncio.to_thread(_sum_up, run, question_no, name_no, combination)
            await session.insert(ANSWERS, ["run_no", "packed"], [(run_no, summed.packed)])
            await self._insert_sums(session, run, run_no, summed)
            set_no, n_scored, score_sum = summed.set_no, summed.n_scored, summed.score_sum
        await session.insert(
            RUNS,
            [
                *("run_no", "result_name", "benchmark", "run_id", "model_id", "source", "timestamp", "time_key", "seq"),
                *("set_no", "n_questions", "n_answers", "n_scored", "score_sum", "stated_score", "live"),
            ],
            [
                (
                    *(run_no, run.result_name, run.benchmark, run.run_id, run.model_id, run.source),
                    *(run.timestamp, run.time_key, seq, set_no, len(set(run.keys))),
                    *(len(run.questions), n_scored, score_sum, run.stated_score, int(run.live is not None)),
                )
            ],
        )

    async def _number_questions(self, session: Session, run: PreparedRun) -> NDArray[np.int32]:
        numbering = self._numbering(
            run.benchmark, BenchmarkTables(run.benchmark).questions, "question_no", "question_key"
        )
        await numbering.refresh(session, self._database.dialect)
        numbers, new = numbering.number_all((key,) for key in run.keys)
        if new:
            ids = {
                key: question.question_id
                for key, question in zip(reversed(run.keys), reversed(run.questions), strict=True)
            }
            rows = [(number, key, ids[key], hash_in(key)) for (key,), number in new.items()]
            await session.insert(numbering.table, ["question_no", "question_key", "question_id", "content_hash"], rows)
        return np.array(numbers, dtype=np.int32)

    async def _number_names(
        self, session: Session, run: PreparedRun, question_no: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        numbering = self._numbering(
            run.benchmark, BenchmarkTables(run.benchmark).question_names, "name_no", "question_no", "question_id"
        )
        await numbering.refresh(session, self._database.dialect)
        ids = (question.question_id for question in run.questions)
        numbers, new = numbering.number_all(zip(question_no.tolist(), ids, strict=True))
        rows = [(number, *name) for name, number in new.items()]
        await session.insert(numbering.table, ["name_no", "question_no", "question_id"], rows)
        return np.array(numbers, dtype=np.int32)

    async def _number_combinations(self, session: Session, run: PreparedRun, spec: BenchmarkSpec) -> NDArray[np.int32]:
        columns = [field_column(field.name) for field in spec.fields]
        numbering = self._numbering(run.benchmark, BenchmarkTables(run.benchmark).combinations, "combination", *columns)
        await numbering.refresh(session, self._database.dialect)
        numbers, new = numbering.number_all(run.combinations)
        rows = [(number, *values) for values, number in new.items()]
        await session.insert(numbering.table, ["combination", *columns], rows)
        return np.array(numbers, dtype=np.int32)

    async def _insert_sums(self, session: Session, run: PreparedRun, run_no: int, summed: _Summed) -> None:
        """Insert the sums, and those of their question sets that are not there yet."""
        tables = BenchmarkTables(run.benchmark)
        sets = {summed.set_no: summed.asked} | {cell.set_no: cell.questions for cell in summed.cells}
        table = tables.question_sets
        query = self._database.dialect.query.from_(table).select(table.set_no)
        known: set[int] = set()
        for some in in_batches(sets):
            known |= {number for (number,) in await session.fetch(query.where(table.set_no.isin(some)))}
        rows = [(number, set_members(questions)) for number, questions in sets.items() if number not in known]
        await session.insert(table, ["set_no", "members"], rows)
        await session.insert(
            tables.sums,
            ["run_no", "combination", "set_no", *SUM_COLUMNS],
            [(run_no, cell.combination, cell.set_no, *cell.values) for cell in summed.cells],
        )

    def _numbering(self, benchmark: str, table: Table, number: str, *keys: str) -> Numbering:
        return self._numberings.setdefault((benchmark, number), Numbering(table, number, keys))


def _sum_up(
    run: PreparedRun, question_no: NDArray[np.int32], name_no: NDArray[np.int32], combination: NDArray[np.int32]
) -> _Summed:
    """All the computing for one run, in one go, off the event loop."""
    columns = answer_columns(run.questions, question_no, name_no, combination)
    cells = sum_by_combination(columns)
    asked = np.unique(question_no)
    n_scored, score_sum = SUM_COLUMNS.index("n_scored"), SUM_COLUMNS.index("score_sum")
    return _Summed(
        packed=pack(columns),
        cells=cells,
        asked=asked,
        set_no=set_number(asked),
        n_scored=int(sum(cell.values[n_scored] for cell in cells)),
        score_sum=sum(cell.values[score_sum] for cell in cells),
    )

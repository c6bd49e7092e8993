"""Applies results: an idempotent replace by name, in one transaction with the feed position.

Invalidation, restoration, a registry change and a rebuild are this same operation.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import randbits

from pypika import functions as fn
from pypika.terms import Criterion, Term

from analysis_service.database import Database, Session
from analysis_service.projection.numbers import KnownNumbers
from analysis_service.projection.prepare import AppliedState, PreparedRun
from analysis_service.projection.run_rows import insert_runs
from analysis_service.projection.writing import Writing
from analysis_service.queries.tables import ANSWERS, APPLIED, FEED_STATE, RUNS, SUMS
from shared.problems import StoreUnavailable
from shared.results import FeedEntry, LiveRunState


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """A result as of an entry of the feed about it."""

    result_name: str
    seq: int
    href: str


@dataclass(frozen=True, slots=True)
class Application:
    """A result to be put in, as of an entry of the feed."""

    run: PreparedRun
    seq: int
    href: str

    @property
    def is_void(self) -> bool:
        """Whether it changes nothing: of a live run that was finished since, the entry that says so is to come."""
        return self.run.live is LiveRunState.FINISHED


class Superseded(StoreUnavailable):
    """Another instance, with another registry, was started later; results are for it to apply."""


class FeedGap(Exception):
    """The position moved since the entry was read: another instance applied it, or more."""


class Projection:
    """The writing side of the SQL store. One at a time over all instances: each transaction begins with a row lock."""

    def __init__(self, database: Database, registry_hash: str) -> None:
        self._database = database
        self._registry_hash = registry_hash
        self._alone = asyncio.Lock()
        self._numbers = KnownNumbers()
        self._left: int | None = None
        """The token that the last transaction from here left, if it is known to be committed."""

    def knows(self, digest: bytes) -> bool:
        """Whether questions with this digest were applied from here a short while ago. From any thread."""
        return digest in self._numbers.sheets

    async def take_over(self) -> None:
        """Make this instance's registry the one that results are decided by: the last started has the newest.

        Two registries would otherwise take turns, and what the older one decides last would stay.
        """
        async with self._database.transaction() as session:
            query = self._database.dialect.query.update(FEED_STATE)
            await session.execute(query.set(FEED_STATE.registry_hash, self._registry_hash))

    async def position(self) -> int:
        """The seq of the last entry applied; 0 before the first."""
        return (await self._database.fetch_version()).position

    async def apply(self, entry: FeedEntry, run: PreparedRun) -> None:
        """Apply the next entry of the feed."""
        await self.apply_all([Application(run, entry.seq, entry.href)], after=entry.seq - 1)

    async def apply_all(self, applications: Sequence[Application], *, after: int) -> None:
        """Apply the next entries that matter `after` a position, of which no two are about one result.

        FeedGap if the position is another by now.
        """
        async with self.locked(expected=after) as writing:
            await self._replace(writing, [application for application in applications if not application.is_void])
            writing.position = applications[-1].seq

    async def reapply(self, results: Sequence[ResultEntry], runs: Sequence[PreparedRun]) -> None:
        """Apply results anew, each its run, without moving the position.

        Nothing happens to one about which an entry was applied since it was looked at: that was newer.
        """
        if not results:
            return
        async with self.locked() as writing:
            seqs = await self.applied_seqs(writing.session, [result.result_name for result in results])
            unchanged = [
                Application(run, result.seq, result.href)
                for result, run in zip(results, runs, strict=True)
                if seqs.get(result.result_name) == result.seq
            ]
            await self._replace(writing, [application for application in unchanged if not application.is_void])
            # What has come of these runs stays until their results take its place; it is not looked at again.
            for void in (application.run for application in unchanged if application.is_void):
                query = self._database.dialect.query.update(APPLIED).set(APPLIED.registry_hash, void.registry_hash)
                await writing.session.execute(query.where(APPLIED.result_name == void.result_name))

    async def mend(self, result: ResultEntry, run: PreparedRun, *, found: int | None) -> bool:
        """Apply a result anew as of the entry `result.seq`, without moving the position.

        False, and nothing happens, unless it is still applied as of the entry `found`, or with None not at all.
        """
        async with self.locked() as writing:
            seqs = await self.applied_seqs(writing.session, [run.result_name])
            if seqs.get(run.result_name) != found:
                return False
            await self._replace(writing, [Application(run, result.seq, result.href)])
            return True

    def forget_numbers(self) -> None:
        """Read all numbers anew when they are needed: rows of those that are known may have been lost."""
        self._numbers = KnownNumbers()

    async def outdated(self, fingerprints: Mapping[str, str], *, after: int, limit: int) -> list[ResultEntry]:
        """Results beyond the entry `after` that were decided under another definition of their benchmark, in order."""
        query = self._database.dialect.query.from_(APPLIED).select(APPLIED.result_name, APPLIED.seq, APPLIED.href)
        is_outdated = self._outdated(fingerprints)
        async with self._database.snapshot() as session:
            rows = await session.fetch(
                query.where((APPLIED.seq > after) & is_outdated).orderby(APPLIED.seq).limit(limit),
                "results to re-apply",
            )
        return [ResultEntry(*row) for row in rows]

    async def count_outdated(self, fingerprints: Mapping[str, str]) -> int:
        """How many there are."""
        query = self._database.dialect.query.from_(APPLIED).select(fn.Count("*"))
        async with self._database.snapshot() as session:
            rows = await session.fetch(query.where(self._outdated(fingerprints)), "number of results to re-apply")
        return int(rows[0][0])

    def _outdated(self, fingerprints: Mapping[str, str]) -> Term:
        return Criterion.any(
            (APPLIED.benchmark == benchmark) & (APPLIED.registry_hash != fingerprint)
            for benchmark, fingerprint in fingerprints.items()
        )

    async def mark_outdated(self, benchmark: str | None) -> None:
        """Have all results applied anew, or one benchmark's, as if another registry had decided about them.

        What is remembered of the tables is forgotten, here and by other instances: who asks for it may have lost rows.
        """
        query = self._database.dialect.query.update(APPLIED).set(APPLIED.registry_hash, "")
        async with self.locked() as writing:
            await writing.session.execute(query if benchmark is None else query.where(APPLIED.benchmark == benchmark))
            await writing.finish(randbits(63))
        self.forget_numbers()

    @asynccontextmanager
    async def locked(self, *, expected: int | None = None) -> AsyncIterator[Writing]:
        """A transaction under the lock. FeedGap if the position is not the `expected` one, if there is one."""
        async with self._alone:
            left, self._left = self._left, None
            token = randbits(63)
            async with self._database.transaction() as session:
                version, found = await self._lock(session, expected=expected)
                if found != left:
                    self._numbers.doubt()
                writing = Writing(session, self._database.dialect, version + 1)
                yield writing
                if writing.is_changed:
                    await writing.finish(token)
            self._numbers.settle()
            self._left = token if writing.is_changed else found

    async def _lock(self, session: Session, *, expected: int | None) -> tuple[int, int]:
        """Take the lock, and return version and token."""
        dialect, state = self._database.dialect, FEED_STATE
        query = dialect.query.from_(state).select(state.position, state.version, state.token, state.registry_hash)
        query = query.for_update() if dialect.locks_rows else query
        [(position, version, token, registry_hash)] = await session.fetch(query, "feed state to lock")
        if registry_hash != self._registry_hash:
            raise Superseded("an instance with another registry was started later; restart this one to take over")
        if expected is not None and position != expected:
            raise FeedGap(f"position is {position}, not {expected}")
        return version, token

    async def applied_seqs(self, session: Session, names: Sequence[str]) -> Mapping[str, int]:
        """Result → the seq of the entry as of which it is applied; those that are not are left out."""
        query = self._database.dialect.query.from_(APPLIED).select(APPLIED.result_name, APPLIED.seq)
        return dict(await session.fetch(query.where(APPLIED.result_name.isin(list(names))), "entries of results"))

    async def _replace(self, writing: Writing, applications: Sequence[Application]) -> None:
        """Take out what these results have put in, and put in what they are now."""
        query, session = self._database.dialect.query, writing.session
        applications = await self._without_outrun(session, applications)
        if not applications:
            return
        names = [application.run.result_name for application in applications]
        found = await session.fetch(
            query.from_(RUNS).select(RUNS.result_name, RUNS.run_no, RUNS.benchmark).where(RUNS.result_name.isin(names)),
            "runs of results",
        )
        numbers = {name: run_no for name, run_no, _ in found}
        over = (LiveRunState.FINISHED, LiveRunState.DISCARDED)
        kept = [application for application in applications if application.run.live not in over]
        if gone := [application.run.result_name for application in applications if application.run.live in over]:
            await session.execute(query.from_(APPLIED).delete().where(APPLIED.result_name.isin(gone)))
        shown = [application for application in kept if application.run.state is AppliedState.APPLIED]
        if any(application.run.result_name not in numbers for application in shown):
            if self._numbers.greatest_run is None:
                self._numbers.greatest_run = await self._greatest_run(session)
            for application in shown:
                if application.run.result_name not in numbers:
                    self._numbers.greatest_run += 1
                    numbers[application.run.result_name] = self._numbers.greatest_run
        # Only now: their numbers are kept, and no other run may get one of them.
        await writing.delete_runs({run_no: benchmark for _, run_no, benchmark in found})
        await insert_runs(
            writing,
            self._numbers,
            [(application.run, application.seq, numbers[application.run.result_name]) for application in shown],
        )
        await session.insert(
            APPLIED,
            ["result_name", "seq", "benchmark", "sha256", "href", "state", "reason", "registry_hash"],
            [
                (
                    *(run.result_name, application.seq, run.benchmark, run.sha256, application.href),
                    *(run.state.value, run.reason, run.registry_hash),
                )
                for application in kept
                for run in [application.run]
            ],
            replace=True,
        )
        writing.changed((), [application.run.benchmark for application in applications])

    async def _without_outrun(self, session: Session, applications: Sequence[Application]) -> Sequence[Application]:
        """`applications` without live runs whose place a whole result has taken; parts never take it back."""
        live = {application.run.result_name: application.href for application in applications if application.run.live}
        if not live:
            return applications
        query = self._database.dialect.query.from_(APPLIED).select(APPLIED.result_name, APPLIED.href)
        rows = await session.fetch(query.where(APPLIED.result_name.isin(list(live))), "places of live runs")
        outrun = {name for name, href in rows if href != live[name]}
        return [application for application in applications if application.run.result_name not in outrun]

    async def _greatest_run(self, session: Session) -> int:
        # Answers and sums of a run whose own row was lost still have its number.
        found = 0
        for table in (RUNS, ANSWERS, SUMS):
            query = self._database.dialect.query.from_(table).select(fn.Max(table.run_no))
            [(greatest,)] = await session.fetch(query, "greatest run number")
            found = max(found, int(greatest or 0))
        return found

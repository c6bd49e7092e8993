"""Compares the projection with the feed, and mends it.

What is applied must be what the feed says: for each result that an entry up to the position is about, the row that the
last of these entries made, with its run, answers and sums. The feed is read from the position backwards, a page at a
time beside the rows with the same seqs, so the first entry met about a result is the last one. Beside a consumer that
goes on this stays right: a row's seq only grows, and what has grown past the position was applied just now.

Mending is the ordinary application under the ordinary lock, if the row is still as it was found. Two instances may
mend at once. Where there is nothing to mend, nothing is written.
"""

import asyncio
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

import structlog

from analysis_service.database import Database, Session
from analysis_service.projection.apply import Projection, ResultEntry
from analysis_service.projection.consumer import Progress
from analysis_service.projection.feed_client import FeedClient, FeedUnavailable, ResultAbsent
from analysis_service.projection.prepare import AppliedState, PreparedRun, prepare_run
from analysis_service.projection.removal import go_back, remove_result, remove_stray
from analysis_service.queries.tables import APPLIED, FEED_STATE, RUNS
from analysis_service.run_parts import fetch_damage, fetch_wrong_sums
from shared.problems import Problem, StoreUnavailable
from shared.reconciliation import Reason, Reconciliation, ReconciliationLine, Tally
from shared.registry.specs import Registry
from shared.results import LIVE_KINDS, FeedEntry, FeedKind

log = structlog.get_logger(__name__)

FEED_PAGE = 500
"""Of the feed read at once; more would hold up what both services do besides."""
RUNS_PAGE = 10_000
RUNS_AT_ONCE = 100
"""Runs whose packed answers are read at once."""
MISPLACED_MAX = 100_000
START_PAUSE_S = 5.0
PATIENCE_S = 2.0
"""How long it is waited for corrections that are on their way."""
_PAUSE_S = 0.05
_NAMES_AT_ONCE = 500
"""Names in one statement: they are rendered on the event loop, which others need too."""


class Mending(Enum):
    """How far a comparison may go."""

    NONE = "none"
    REAPPLY = "reapply"
    """Put in anew what the results service has, and take out rows of no result. No result is lost by it, so a start
    does it unasked."""
    ALL = "all"
    """Also take out results that the feed does not know. Asked of a wrong RESULTS_URL, this would be every one."""


_REPAIR = "run `scorehouse check --repair`: it applies the result anew"
_REMOVE = "run `scorehouse check --repair`: it removes them"
REASONS = {
    "not-applied": Reason("the feed names a result that is not applied", _REPAIR),
    "outdated": Reason("an earlier entry about a result is applied, the last one is not", _REPAIR),
    "misplaced": Reason("a result is applied as of an entry that is about another", _REPAIR),
    "other-sha256": Reason(
        "the SHA-256 of what is applied is not the feed's",
        f"{_REPAIR}; if it stays, the results service has other content than its feed, and its own line says so",
    ),
    "other-state": Reason("a result is applied as valid and is invalidated, or the reverse", _REPAIR),
    "run-damaged": Reason("a result's run, answers or sums are not all there", _REPAIR),
    "other-sums": Reason("a result's sums are not what its packed answers come to", _REPAIR),
    "stray-rows": Reason("runs, answers or sums belong to no applied result", _REMOVE),
    "not-in-feed": Reason("a result is applied that the feed does not know", _REMOVE),
    "beyond-the-feed": Reason(
        "more entries are applied than the feed has: MongoDB went back to an earlier state, or RESULTS_URL is another "
        "service. The analysis does not follow",
        "make sure of RESULTS_URL, then run `scorehouse check --repair`: it removes what was lost and follows again",
    ),
    "other-history": Reason(
        f"over {MISPLACED_MAX:,} results are applied as of entries that are about others: another feed's projection",
        "make sure of RESULTS_URL; then stop the analysis service, empty its SQL store and start it: it is built again",
    ),
}


@dataclass(frozen=True, slots=True)
class Reconciler:
    """All that a comparison needs."""

    database: Database
    projection: Projection
    feed: FeedClient
    registry: Registry

    async def compare(self, mending: Mending, *, sums: bool = True) -> AsyncGenerator[ReconciliationLine, None]:
        """Compare, and mend as far as allowed; lines of progress, then the report. StoreUnavailable ends it.

        With `sums` every run's sums are made again from its answers, which takes a second a million of them.
        """
        comparison = _Comparison(self.database, self.projection, self.feed, self.registry, mending, sums)
        with _as_problems():
            async for line in comparison.run():
                yield line

    async def compare_at_start(self, progress: Progress) -> None:
        """Once the consumer has begun: compare, mend what loses nothing, say in the log what came of it."""
        await progress.started.wait()
        while True:
            try:
                async for line in self.compare(Mending.REAPPLY, sums=False):
                    if line.report is not None:
                        _tell(line.report)
            except Problem as problem:
                log.warning("stores not compared", reason=problem.detail, retry_in_s=START_PAUSE_S)
                await sleep(START_PAUSE_S)
            except Exception:  # nothing waits for it, so nobody else would tell
                log.exception("stores not compared")
                return
            else:
                return


def _tell(report: Reconciliation) -> None:
    write = log.warning if report.differences else log.info
    write(
        "stores compared",
        results=report.results,
        entries=report.entries,
        differences=report.differences,
        repaired=report.repaired,
        found={finding.reason: finding.found for finding in report.findings},
    )


@contextmanager
def _as_problems() -> Iterator[None]:
    try:
        yield
    except FeedUnavailable as error:
        raise StoreUnavailable(f"the feed cannot be compared: {error}") from error


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of `applied`."""

    result_name: str
    seq: int
    sha256: str
    state: str
    run_no: int | None


@dataclass(slots=True)
class _Comparison:
    """One comparison. What it remembers of the pages so far are differences alone."""

    database: Database
    projection: Projection
    feed: FeedClient
    registry: Registry
    mending: Mending
    sums: bool
    tally: Tally = field(default_factory=lambda: Tally(REASONS))
    misplaced: dict[str, int] = field(default_factory=dict)
    """Result → the seq of its row, where that is another's; its own entry may still be met."""
    doubtful: list[tuple[FeedEntry, _Row]] = field(default_factory=list)
    """Rows in another state than their entries tell."""
    told: set[str] = field(default_factory=set)
    """Results whose earlier entries, or rows, have nothing more to say."""

    async def run(self) -> AsyncIterator[ReconciliationLine]:
        """Lines of progress, then the report."""
        head = (await self.feed.read(after=0, wait_s=0, limit=1)).head
        async with self.database.snapshot() as session:
            query = self.database.dialect.query.from_(FEED_STATE).select(FEED_STATE.position)
            [(position,)] = await session.fetch(query, "compared position")
            top = min(position, head)
            self.misplaced = {row.result_name: row.seq for row in await self._rows(session, after=top, up_to=None)}
        yield self.tally.progress("feed", 0, top)
        upper = top
        while upper > 0:
            lower = max(0, upper - FEED_PAGE)
            await self._compare_page(lower, upper)
            if len(self.misplaced) + len(self.told) > MISPLACED_MAX:
                detail = "from here on, hardly anything fits"
                self.tally.add("other-history", f"entry {lower + 1}", detail, repaired=False)
                yield self.tally.report()
                return
            upper = lower
            yield self.tally.progress("feed", top - upper, top)
        await self._compare_states()
        await self._remove_unknown()
        if position > head:
            mended = self.mending is Mending.ALL and await go_back(self.projection, position, to=head)
            detail = f"{position} entries are applied, the feed ends at {head}"
            self.tally.add("beyond-the-feed", f"entry {position}", detail, repaired=mended)
        async for line in self._compare_runs():
            yield line
        yield self.tally.report()

    async def _rows(self, session: Session, *, after: int | None, up_to: int | None) -> list[_Row]:
        """The rows of entries in a range, which is open where an end is None; more than anyone goes on with."""
        query = self.database.dialect.query.from_(APPLIED).left_join(RUNS).on(RUNS.result_name == APPLIED.result_name)
        query = query.select(APPLIED.result_name, APPLIED.seq, APPLIED.sha256, APPLIED.state, RUNS.run_no)
        if after is not None:
            query = query.where(APPLIED.seq > after)
        if up_to is not None:
            query = query.where(APPLIED.seq <= up_to)
        rows = await session.fetch(query.orderby(APPLIED.seq).limit(FEED_PAGE + MISPLACED_MAX + 1), "rows of entries")
        return [_Row(*row) for row in rows]

    async def _compare_page(self, lower: int, upper: int) -> None:
        """Compare the entries of (lower, upper] with the rows of the same seqs."""
        entries = (await self.feed.read(after=lower, wait_s=0, limit=upper - lower)).entries
        by_seq = {entry.seq: entry for entry in entries}
        # What came of a part depends on when it was looked at: a later entry may have been heeded already.
        unmet = {entry.result_name: entry for entry in entries if entry.kind not in LIVE_KINDS}
        fitting: list[tuple[FeedEntry, _Row]] = []
        async with self.database.snapshot() as session:
            rows = await self._rows(session, after=lower or None, up_to=upper)
            for row in rows:
                entry = by_seq.get(row.seq)
                if entry is not None and entry.result_name == row.result_name:
                    fitting.append((entry, row))
                    if unmet.get(row.result_name) is entry:
                        del unmet[row.result_name]
                elif row.result_name not in self.told:
                    self.misplaced[row.result_name] = row.seq
            found = await self._seqs(session, list(unmet))
        self.tally.entries += len(entries)
        self.tally.results += len(rows)
        for name, entry in unmet.items():
            if name not in self.told:
                await self._compare_entry(entry, found.get(name))
        for entry, row in fitting:
            if row.result_name not in self.told:
                await self._compare_row(entry, row)

    async def _seqs(self, session: Session, names: list[str]) -> Mapping[str, int]:
        """Result → the seq of its row, of those that have one."""
        query = self.database.dialect.query.from_(APPLIED).select(APPLIED.result_name, APPLIED.seq)
        found: dict[str, int] = {}
        for start in range(0, len(names), _NAMES_AT_ONCE):
            some = names[start : start + _NAMES_AT_ONCE]
            found |= dict(await session.fetch(query.where(APPLIED.result_name.isin(some)), "seqs of results"))
        return found

    async def _compare_entry(self, entry: FeedEntry, found: int | None) -> None:
        """What the last entry about a result has come to, where its row has another seq or there is none."""
        name = entry.result_name
        if found is None:
            reason, detail = "not-applied", f"entry {entry.seq} is not applied"
        elif found < entry.seq:
            reason, detail = "outdated", f"entry {found} is applied, {entry.seq} is not"
        elif name in self.misplaced:
            del self.misplaced[name]
            reason, detail = "misplaced", f"it is applied as of entry {found}, which is not about it; {entry.seq} is"
        else:
            return  # a later entry is applied
        if found is not None or entry.kind != FeedKind.RESULT:
            self.told.add(name)  # earlier entries about it, or its row, are still to come
        mended = await self._mend(ResultEntry(name, entry.seq, entry.href), found=found)
        self.tally.add(reason, name, detail, repaired=mended)

    async def _compare_row(self, entry: FeedEntry, row: _Row) -> None:
        """Compare a row with the entry that it was made from."""
        live = entry.kind in LIVE_KINDS
        if row.state == AppliedState.APPLIED and row.run_no is None:
            reason, detail = "run-damaged", "it has no run"
        elif live:
            return
        elif entry.sha256 != row.sha256:
            reason, detail = "other-sha256", f"{row.sha256[:12]}… is applied, {entry.sha256[:12]}… is in the feed"
        elif (entry.kind == FeedKind.INVALIDATED) != (row.state == AppliedState.INVALIDATED):
            self.doubtful.append((entry, row))
            return
        else:
            return
        result = ResultEntry(row.result_name, row.seq, entry.href)
        mended = await self._mend(result, found=row.seq, sha256=None if live else entry.sha256)
        self.tally.add(reason, row.result_name, detail, repaired=mended)

    async def _compare_states(self) -> None:
        """Look again at rows that are in another state than their entries tell.

        A result is as it is when it is fetched, which may be what a later entry tells; that one may be on its way.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        for entry, row in self.doubtful:
            state = await self._other_state(entry, row)
            while state and loop.time() < deadline:
                await sleep(_PAUSE_S)
                state = await self._other_state(entry, row)
            if state:
                mended = await self._mend(ResultEntry(row.result_name, row.seq, entry.href), found=row.seq)
                detail = f"it is applied as {row.state}, and is {state}"
                self.tally.add("other-state", row.result_name, detail, repaired=mended)

    async def _other_state(self, entry: FeedEntry, row: _Row) -> str | None:
        """The state that the row should have; None if it has that, or was replaced since."""
        run = await self._fetch(entry.href)
        async with self.database.snapshot() as session:
            seqs = await self._seqs(session, [row.result_name])
        return None if run is None or run.state == row.state or seqs.get(row.result_name) != row.seq else run.state

    async def _remove_unknown(self) -> None:
        """Rows whose results no entry up to the position is about."""
        for name, seq in self.misplaced.items():
            removed = self.mending is Mending.ALL and await remove_result(
                self.projection, self.database.dialect, name, found=seq
            )
            self.tally.add("not-in-feed", name, f"it is applied as of entry {seq}", repaired=removed)

    async def _compare_runs(self) -> AsyncIterator[ReconciliationLine]:
        """Compare runs with their answers and sums. After the entries, so that what they lacked is there."""
        if self.mending is not Mending.NONE:
            self.projection.forget_numbers()
        after: int | None = 0
        while after is not None:
            async with self.database.snapshot() as session:
                page = await fetch_damage(session, self.database.dialect, after=after, limit=RUNS_PAGE)
            for result, damage in page.damaged:
                mended = await self._mend(result, found=result.seq)
                self.tally.add("run-damaged", result.result_name, damage, repaired=mended)
            for stray in page.stray:
                removed = self.mending is not Mending.NONE and await remove_stray(
                    self.projection, self.database.dialect, stray
                )
                self.tally.add("stray-rows", stray.place, stray.detail, repaired=removed)
            after = page.next_after
            yield self.tally.progress("runs", page.greatest if after is None else after, page.greatest)
        if self.sums:
            async for checked, wrong in fetch_wrong_sums(self.database, after=0, limit=RUNS_AT_ONCE):
                for result, detail in wrong:
                    mended = await self._mend(result, found=result.seq)
                    self.tally.add("other-sums", result.result_name, detail, repaired=mended)
                yield self.tally.progress("sums", checked, page.greatest)

    async def _mend(self, result: ResultEntry, *, found: int | None, sha256: str | None = None) -> bool:
        """Apply a result anew; False if that is not wanted, it is not stored with `sha256`, or its row has changed."""
        if self.mending is Mending.NONE:
            return False
        run = await self._fetch(result.href)
        if run is None or sha256 not in (None, run.sha256):
            return False
        return await self.projection.mend(result, run, found=found)

    async def _fetch(self, href: str) -> PreparedRun | None:
        """The result at `href`; None if the results service does not have it."""
        try:
            body = await self.feed.fetch(href)
        except ResultAbsent:
            return None
        return await asyncio.to_thread(prepare_run, body, self.registry)

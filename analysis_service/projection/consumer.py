"""Follows the feed: fetches what entries name and applies them in order, for ever.

Either side may be away; the consumer waits and goes on. What it does not understand it does not skip: it stops there,
says so in the log and on /health, and tries again, so that an upgrade mends it.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import structlog

from analysis_service.projection.apply import Application, FeedGap, Projection, ResultEntry, Superseded
from analysis_service.projection.feed_client import FeedClient, FeedPage, FeedUnavailable, ResultAbsent
from analysis_service.projection.fetching import Fetching, ResultUnreadable
from analysis_service.projection.prepare import PreparedRun
from shared.problems import Problem
from shared.registry.specs import Registry
from shared.results import FeedEntry, FeedKind

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
REAPPLY_PAGE = 500
TURN_S = 0.5
"""For how long results are applied anew before new ones have their turn, and the reverse."""

_UNDERSTOOD = frozenset(FeedKind)


class UnknownKind(Exception):
    """An entry of a kind that this version does not know."""


@dataclass(slots=True)
class Progress:
    """What the consumer is doing, for /health and for who watches a rebuild."""

    position: int | None = None
    head: int | None = None
    """Greatest seq of the feed at the last look; None while the results service is away."""
    applying: str | None = None
    stopped: str | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once this instance's registry counts and what was decided by another is applied anew."""
    is_outdated: bool = True
    """Whether there may be results to apply anew: what another registry decided, and all in a rebuild."""
    results_applied: int = 0
    """Since the start."""
    answers_applied: int = 0
    """Since the start."""
    rebuilds: int = 0
    """How often one was begun."""
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where the consumer is wanted for a rebuild, and need not wait for the feed."""

    @property
    def lag(self) -> int | None:
        """Entries not yet applied."""
        return None if self.position is None or self.head is None else max(0, self.head - self.position)

    def begin_rebuild(self) -> None:
        """Have the consumer look for results to apply anew; from the beginning, if it is at it."""
        self.is_outdated = True
        self.rebuilds += 1
        self.wanted.set()

    def count(self, runs: Sequence[PreparedRun]) -> None:
        """Count what was applied."""
        self.results_applied += len(runs)
        self.answers_applied += sum(len(run.questions) for run in runs)


async def follow_feed(
    feed: FeedClient, projection: Projection, registry: Registry, progress: Progress, *, wait_s: float
) -> None:
    """Bring results up to date with the registry, then apply the feed as it comes. Returns only by cancellation."""
    pause_s = FIRST_PAUSE_S
    started = False
    outdated = _Outdated(feed, projection, registry, progress)
    while True:
        try:
            if not started:
                await projection.take_over()
                started = True  # once: to take over again would be to take turns with whoever started later
            await _take_turns(outdated, wait_s=wait_s)
            pause_s, progress.stopped = FIRST_PAUSE_S, None
        except FeedGap:
            continue  # another instance was faster
        except ResultAbsent as error:
            progress.stopped = str(error)
            log.warning("a result that the feed names is not there", applying=progress.applying, reason=str(error))
        except ResultUnreadable as error:
            progress.stopped = str(error)
            log.exception("a result cannot be read", reason=str(error), retry_in_s=pause_s)
        except FeedUnavailable as error:
            progress.head = None
            log.warning("feed unavailable", reason=str(error), retry_in_s=pause_s)
        except Superseded as error:
            progress.stopped = str(error)
            log.warning("not applying", reason=str(error))
            pause_s = LONGEST_PAUSE_S
        except Problem as problem:
            log.warning("store unavailable while applying", reason=problem.detail, retry_in_s=pause_s)
        except Exception as error:  # the consumer must outlive what nobody foresaw
            progress.stopped = f"{progress.applying or 'feed'}: {error or type(error).__name__}"
            log.exception("feed consumer stopped at an entry", applying=progress.applying, retry_in_s=pause_s)
        progress.applying = None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def _take_turns(outdated: "_Outdated", *, wait_s: float) -> None:
    """Apply some results anew, and what comes next: new results wait neither for a rebuild nor for its faults."""
    progress, fault, at = outdated.progress, None, None
    if progress.is_outdated:
        [fault] = await asyncio.gather(outdated.reapply_some(), return_exceptions=True)
        at = progress.applying
    if not progress.is_outdated:
        progress.started.set()
    wait_s = 0 if progress.is_outdated else wait_s
    await _apply_next(outdated.feed, outdated.projection, outdated.registry, progress, wait_s=wait_s)
    if fault is not None:
        progress.applying = at
        raise fault


async def _apply_next(
    feed: FeedClient, projection: Projection, registry: Registry, progress: Progress, *, wait_s: float
) -> None:
    progress.position = await projection.position()
    # The first look does not wait, so that /health knows the lag from the start.
    reading = feed.read(after=progress.position, wait_s=0 if progress.head is None else wait_s)
    page = await _unless_wanted(reading, progress)
    if page is None:
        return
    progress.head = max(page.head, progress.position)
    entries = _without_outdated_parts(page.entries)
    understood = list(takewhile(lambda entry: entry.kind in _UNDERSTOOD, entries))
    deadline = time.monotonic() + TURN_S
    wanted = [ResultEntry(entry.result_name, entry.seq, entry.href) for entry in understood]
    async with Fetching(wanted, feed, registry, projection) as fetching:
        async for batch in fetching.batches():
            progress.applying = batch[0][0].result_name
            await _apply(projection, [Application(run, entry.seq, entry.href) for entry, run in batch], progress)
            if progress.is_outdated and time.monotonic() > deadline:
                fetching.leave_rest()
    progress.applying = None
    if len(understood) < len(entries) and (not wanted or progress.position == wanted[-1].seq):
        strange = entries[len(understood)]
        progress.applying = strange.result_name
        raise UnknownKind(
            f"entry {strange.seq} is of kind {strange.kind!r}, which this version does not know; upgrade it"
        )


async def _unless_wanted(reading: Coroutine[object, object, FeedPage], progress: Progress) -> FeedPage | None:
    """What is read; None if the consumer is wanted for something else meanwhile."""
    progress.wanted.clear()
    if progress.is_outdated:
        return await reading
    read, wanted = asyncio.ensure_future(reading), asyncio.ensure_future(progress.wanted.wait())
    try:
        await asyncio.wait({read, wanted}, return_when=asyncio.FIRST_COMPLETED)
        return read.result() if read.done() else None
    finally:
        for task in (read, wanted):
            task.cancel()
        await asyncio.gather(read, wanted, return_exceptions=True)


async def _apply(projection: Projection, applications: Sequence[Application], progress: Progress) -> None:
    """Apply a batch; where it cannot be, one after the other, so that no more than the one at fault is held up."""
    try:
        await projection.apply_all(applications, after=progress.position or 0)
    except (Problem, FeedGap):
        raise
    except Exception:
        if len(applications) == 1:
            raise
        for application in applications:
            progress.applying = application.run.result_name
            await _apply(projection, [application], progress)
        return
    progress.position = applications[-1].seq
    progress.count([application.run for application in applications])
    for application in applications:
        _log_applied("applied", application.run, seq=application.seq)


def _log_applied(event: str, run: PreparedRun, *, seq: int) -> None:
    log.info(
        event,
        seq=seq,
        result_name=run.result_name,
        state=run.state.value,
        reason=run.reason,
        questions=len(run.questions),
    )


def _without_outdated_parts(entries: Sequence[FeedEntry]) -> list[FeedEntry]:
    """`entries` without the parts of live runs that a later entry is about, too.

    Applying a part takes all questions so far; to do so for each would cost the square of their number.
    """
    kept: list[FeedEntry] = []
    later: set[str] = set()
    for entry in reversed(entries):
        if entry.kind != FeedKind.PART or entry.result_name not in later:
            kept.append(entry)
        later.add(entry.result_name)
    return kept[::-1]


@dataclass(slots=True)
class _Outdated:
    """Applies anew, a page at a time, what was decided under another definition of its benchmark, or is to be rebuilt.

    It goes through the results in the order of their entries, once; what is begun in the middle begins anew.
    """

    feed: FeedClient
    projection: Projection
    registry: Registry
    progress: Progress
    after: int = 0
    rebuild: int = -1

    async def reapply_some(self) -> None:
        """Apply the next page anew; at the end of the results, say that none is outdated."""
        progress = self.progress
        fingerprints = {name: spec.fingerprint for name, spec in self.registry.benchmarks.items()}
        rebuild = progress.rebuilds
        if self.rebuild != rebuild:
            self.rebuild, self.after = rebuild, 0
        results = await self.projection.outdated(fingerprints, after=self.after, limit=REAPPLY_PAGE)
        if not results and progress.rebuilds == rebuild:
            progress.is_outdated = False
        deadline = time.monotonic() + TURN_S
        async with Fetching(results, self.feed, self.registry, self.projection) as fetching:
            async for batch in fetching.batches():
                progress.applying = batch[0][0].result_name
                await self.projection.reapply([result for result, _ in batch], [run for _, run in batch])
                progress.count([run for _, run in batch])
                for result, run in batch:
                    _log_applied("re-applied", run, seq=result.seq)
                self.after = batch[-1][0].seq
                if time.monotonic() > deadline:
                    fetching.leave_rest()
        progress.applying = None

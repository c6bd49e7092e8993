"""Follows the feed: fetches what entries name and applies them in order, for ever.

Either side may be away; the consumer waits and goes on. What it does not understand it does not skip: it stops there,
says so in the log and on /health, and tries again, so that an upgrade mends it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from analysis_service.projection.apply import FeedGap, Projection, Superseded
from analysis_service.projection.feed_client import FeedClient, FeedUnavailable
from analysis_service.projection.prepare import PreparedRun, prepare_run
from shared.problems import Problem
from shared.registry.specs import Registry
from shared.results import FeedEntry, FeedKind

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
PREFETCH = 4
"""Results fetched and decoded ahead of the one being applied."""
REAPPLY_BATCH = 100

_UNDERSTOOD = frozenset(FeedKind)


class UnknownKind(Exception):
    """An entry of a kind that this version does not know."""


@dataclass(slots=True)
class Progress:
    """What the consumer is doing, for /health."""

    position: int | None = None
    head: int | None = None
    """Greatest seq of the feed at the last look; None while the results service is away."""
    applying: str | None = None
    stopped: str | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once this instance's registry counts and what was decided by another is applied anew."""

    @property
    def lag(self) -> int | None:
        """Entries not yet applied."""
        return None if self.position is None or self.head is None else max(0, self.head - self.position)


async def follow_feed(
    feed: FeedClient, projection: Projection, registry: Registry, progress: Progress, *, wait_s: float
) -> None:
    """Bring results up to date with the registry, then apply the feed as it comes. Returns only by cancellation."""
    pause_s = FIRST_PAUSE_S
    started = reapplied = False
    while True:
        try:
            if not started:
                await projection.take_over()
                started = True  # once: to take over again would be to take turns with whoever started later
            if not reapplied:
                await _reapply_outdated(feed, projection, registry, progress)
                reapplied = True
                progress.started.set()
            await _apply_next(feed, projection, registry, progress, wait_s=wait_s)
            pause_s, progress.stopped = FIRST_PAUSE_S, None
        except FeedGap:
            continue  # another instance was faster
        except FeedUnavailable as error:
            progress.head = None
            log.warning("feed unavailable", reason=str(error), retry_in_s=pause_s)
        except Problem as problem:
            log.warning("store unavailable while applying", reason=problem.detail, retry_in_s=pause_s)
        except Superseded as error:
            progress.stopped = str(error)
            log.warning("not applying", reason=str(error))
            pause_s = LONGEST_PAUSE_S
        except Exception as error:  # the consumer must outlive what nobody foresaw
            progress.stopped = f"{progress.applying or 'feed'}: {error or type(error).__name__}"
            log.exception("feed consumer stopped at an entry", applying=progress.applying, retry_in_s=pause_s)
        progress.applying = None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def _apply_next(
    feed: FeedClient, projection: Projection, registry: Registry, progress: Progress, *, wait_s: float
) -> None:
    progress.position = await projection.position()
    # The first look does not wait, so that /health knows the lag from the start.
    page = await feed.read(after=progress.position, wait_s=0 if progress.head is None else wait_s)
    progress.head = max(page.head, progress.position)
    fetching: list[asyncio.Task[PreparedRun]] = []
    try:
        entries = _without_outdated_parts(page.entries)
        for index, entry in enumerate(entries):
            ahead = entries[index + len(fetching) : index + PREFETCH]
            fetching += [asyncio.create_task(_prepare(feed, registry, coming)) for coming in ahead]
            progress.applying = entry.result_name
            run = await fetching.pop(0)
            await projection.apply(entry, run, after=progress.position)
            progress.position = entry.seq
            log.info(
                "applied",
                seq=entry.seq,
                kind=entry.kind,
                result_name=run.result_name,
                state=run.state.value,
                reason=run.reason,
                questions=len(run.questions),
            )
    finally:
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
    progress.applying = None


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


async def _prepare(feed: FeedClient, registry: Registry, entry: FeedEntry) -> PreparedRun:
    if entry.kind not in _UNDERSTOOD:
        raise UnknownKind(f"entry {entry.seq} is of kind {entry.kind!r}, which this version does not know; upgrade it")
    return await asyncio.to_thread(prepare_run, await feed.fetch(entry.href), registry)


async def _reapply_outdated(feed: FeedClient, projection: Projection, registry: Registry, progress: Progress) -> None:
    """Apply anew what was decided under another definition of its benchmark: parked results, changed fields."""
    fingerprints = {name: spec.fingerprint for name, spec in registry.benchmarks.items()}
    while outdated := await projection.outdated(fingerprints, REAPPLY_BATCH):
        for result in outdated:
            progress.applying = result.result_name
            run = await asyncio.to_thread(prepare_run, await feed.fetch(result.href), registry)
            await projection.reapply(result, run)
            log.info("re-applied", result_name=result.result_name, state=run.state.value, reason=run.reason)
    progress.applying = None

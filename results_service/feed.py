"""The feed: what happened to results, in one order without gaps, for those who keep a projection of them.

An entry's `_id` is its seq, taken as the greatest so far plus one. Two writers who take the same seq collide on `_id`
and the later one tries the next. The unique `event` keeps anything from being entered twice, however often it is
repaired. Every entry follows its predecessor in the oplog, and readers see what a majority has, so whoever sees n sees
all below n.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from results_service.documents import result_name_of
from results_service.mongo import Document, Mongo, collisions
from shared.problems import StoreUnavailable
from shared.results import LIVE_KINDS, FeedEntry, FeedKind, ResultKind

HEAD_TRUSTED_S = 1.0
"""How long the next seq follows from what was written last, without a look. Not for ever: the store may be put back to
an earlier state while the service runs, and a feed that went on from what is gone would have a gap."""
POLL_S = 0.15
"""How late a long poll may hear of what another instance of this service entered."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a result. `key` is the same whenever it is told."""

    key: str
    kind: FeedKind
    result_name: str
    sha256: str

    @classmethod
    def of_result(cls, result_name: str, sha256: str, *, finished: bool = False) -> "Event":
        """A standardized result was stored, pushed whole or `finished` by its live run: once, one or the other."""
        kind = FeedKind.FINISHED if finished else FeedKind.RESULT
        return cls(f"result:{result_name}", kind, result_name, sha256)


def events_of(envelope: Document) -> list[Event]:
    """Everything that happened to a stored result, in order."""
    name, sha256 = result_name_of(envelope["_id"]), envelope["sha256"]
    stored = Event.of_result(name, sha256, finished="live_run" in envelope)
    corrections = (FeedKind(correction["action"]) for correction in envelope.get("history", ()))
    return [stored, *(Event(f"{kind}:{name}:{n}", kind, name, sha256) for n, kind in enumerate(corrections, start=1))]


@dataclass(slots=True)
class _Batch:
    """Events that came while another write was under way, to be written as one."""

    events: list[Event] = field(default_factory=list)
    written: bool = False
    failure: StoreUnavailable | None = None


class Feed:
    """The feed of one database; any number of instances may append to it."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._entries = mongo.collection("feed")
        self._newest_entries = mongo.newest("feed")
        self._turn = asyncio.Lock()
        self._open = _Batch()
        self._grown = asyncio.Condition()
        self._seen_head = 0
        self._written_head: tuple[int, float] | None = None
        """The greatest seq that this instance wrote, and when by the event loop's clock."""
        self._closed = False

    async def prepare(self) -> None:
        """Make the index that keeps events single."""
        async with self._mongo.answering():
            await self._entries.create_index("event", unique=True)

    async def append(self, events: Sequence[Event]) -> None:
        """Enter `events`, those that are in the feed already excepted. A majority has all of them on return.

        Whoever comes while a write is under way shares the next one: first in turn writes for the whole batch.
        """
        if not events:
            return
        batch = self._open
        batch.events += events
        async with self._turn:
            if batch.failure is not None:
                raise StoreUnavailable(batch.failure.detail) from batch.failure
            if batch.written:
                return
            self._open = _Batch()
            try:
                head = await self._write(batch.events)
            except StoreUnavailable as failure:
                batch.failure = failure
                raise
            batch.written = True
        async with self._grown:
            self._seen_head = max(self._seen_head, head)
            self._grown.notify_all()

    async def _write(self, events: Sequence[Event]) -> int:
        """Write in order, from the next free seq on, until all are in; return a seq that was reached."""
        loop = asyncio.get_running_loop()
        trusted, self._written_head = self._written_head, None
        # A majority had it then, so it is still taken; if another instance has gone on since, we collide.
        head = trusted[0] if trusted and loop.time() - trusted[1] < HEAD_TRUSTED_S else await self._newest_head()
        while events:
            documents = [_document(head + step, event) for step, event in enumerate(events, start=1)]
            async with self._mongo.answering():
                try:
                    await self._entries.insert_many(documents, ordered=True)
                except BulkWriteError as error:
                    # Written up to the first that collides, on its seq or because the event is in the feed already.
                    first = collisions(error)[0]
                    events = events[first.index + ("event" in first.keys) :]
                else:
                    head += len(events)
                    self._written_head = (head, loop.time())
                    return head
            head = await self._newest_head()
        return head

    async def _newest_head(self) -> int:
        # Not with majority concern: an entry of another instance that is on its way to the majority takes its seq too.
        async with self._mongo.answering():
            last = await self._newest_entries.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)])
        return 0 if last is None else int(last["_id"])

    async def head(self, timeout_s: float | None = None) -> int:
        """The greatest seq that a majority has; 0 of an empty feed."""
        async with self._mongo.answering(timeout_s):
            last = await self._entries.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)])
        return 0 if last is None else int(last["_id"])

    async def read(
        self, after: int, limit: int, *, wait_s: float = 0, is_gone: Callable[[], Awaitable[bool]] | None = None
    ) -> list[FeedEntry]:
        """At most `limit` entries with a seq above `after`, in order.

        Where there is none, waits up to `wait_s` for one, less if the feed is closed or `is_gone()` says that nobody
        waits for the answer any more.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            async with self._mongo.answering():
                cursor = self._entries.find({"_id": {"$gt": after}}, sort=[("_id", ASCENDING)], limit=limit)
                documents = await cursor.to_list(limit)
            left = deadline - loop.time()
            if documents or left <= 0 or self._closed or (is_gone is not None and await is_gone()):
                return [_entry(document) for document in documents]
            await self._wait_for_growth(after, min(left, POLL_S))

    async def _wait_for_growth(self, after: int, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(lambda: self._seen_head > after)

    def close(self) -> None:
        """Let every long poll answer within `POLL_S`, with what there is."""
        self._closed = True


def _document(seq: int, event: Event) -> Document:
    return {
        "_id": seq,
        "event": event.key,
        "kind": event.kind.value,
        "result_name": event.result_name,
        "sha256": event.sha256,
    }


def _entry(document: Document) -> FeedEntry:
    name, kind = document["result_name"], document["kind"]
    segment = quote(name, safe="")
    href = f"/live_runs/{segment}/questions" if kind in LIVE_KINDS else f"/{ResultKind.STANDARDIZED}/{segment}"
    return FeedEntry(seq=document["_id"], kind=kind, result_name=name, sha256=document["sha256"], href=href)

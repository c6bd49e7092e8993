"""Results in MongoDB: an envelope document each, its data inside or in a blob, and its entry in the feed.

A write has these steps, each with a majority and its journals before the next, so a crash can fall between any two:

1. the data, where it is too large to ride in the envelope. A crash after it leaves chunks that nothing names.
2. the envelope, with `settled: false`. A crash after it leaves a result that is listed but not in the feed, and whose
   sender was told nothing. Repair enters it, and so does sending it again.
3. the feed entry, then the acknowledgement. A crash after it leaves an unsettled envelope; repair finds the event in
   the feed already.
4. `settled: true`, in nobody's way: it only keeps repair from looking again.

Many results take these steps together (`GroupCommit`). A repair may meet a write that another instance is in the
middle of. Both then enter the same event and its unique key lets one of them. Raw inputs are not in the feed, so they
are settled from the start. Without transactions all of this holds on a standalone server too.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog
from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError

from results_service.abandoned_uploads import AbandonedUploads
from results_service.blobs import IS_UPLOAD, Chunk, Upload, chunk_of, read_whole, unpacked, write_chunks
from results_service.documents import (
    data_fault,
    envelope_document,
    envelope_faults,
    identity_faults,
    with_history_of,
)
from results_service.feed import Feed, events_of
from results_service.group_commit import GroupCommit
from results_service.intake import WHOLE_BYTES, NewResult
from results_service.mongo import Document, Mongo, collisions
from shared.problems import Fault, ResultConflict, ResultNameTaken, StoreUnavailable
from shared.results import ResultKind, StoredAnswer, StoreStatus
from shared.strict_json import same_content

log = structlog.get_logger(__name__)

SETTLE_AFTER_S = 0.1
"""How long envelopes wait to be marked as settled, many at a time."""
_SETTLED_MOST = 5000
_REPAIR_BATCH = 500
_GROUP_MOST = 500
_GROUP_BYTES = 24 * 1024 * 1024
"""Below the 48 MB that MongoDB takes in one message."""


class Arrivals:
    """Times of arrival in microseconds since 1970, no two the same in a process."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Now, or just after the last one where the clock has not moved on or was set back."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of a result in a group."""

    envelope: Document
    """As it is stored."""
    created: bool
    """False where the name was taken: the envelope is the one that has it."""


class ResultStore:
    """Stores results, and mends what crashes left."""

    def __init__(self, mongo: Mongo, feed: Feed) -> None:
        self._mongo = mongo
        self._feed = feed
        self._arrivals = Arrivals()
        self._to_settle: list[str] = []
        self._settling: asyncio.Task[None] | None = None
        self._commits = {
            kind: GroupCommit(partial(self._write, kind), weight=_packed_bytes, heaviest=_GROUP_BYTES, most=_GROUP_MOST)
            for kind in ResultKind
        }

    async def put(self, result: NewResult) -> StoreStatus:
        """Store a result, or find it stored with the same content. ResultNameTaken or ResultConflict otherwise.

        On return a majority has the result and its feed entry, also of one that was there before. After a failure it
        may be stored; sending it again tells.
        """
        written = await self._commits[result.kind].submit(result)
        if written.created:
            return StoreStatus.CREATED
        if isinstance(result.content, Upload) and result.content.blob != written.envelope.get("blob"):
            await result.content.discard()
        await self._refuse_other(written.envelope, result)
        return StoreStatus.UNCHANGED

    async def _write(self, kind: ResultKind, results: Sequence[NewResult]) -> list[_Written]:
        envelopes = [envelope_document(result, arrival=self._arrivals.next()) for result in results]
        # Only the first of a name may be stored, so the data of no other is written either.
        new: dict[str, tuple[NewResult, Document]] = {}
        for result, envelope in zip(results, envelopes, strict=True):
            new.setdefault(envelope["_id"], (result, envelope))
        ids = list(new)
        for id_ in await self._find_stored(kind, [id_ for id_, pair in new.items() if _chunk(*pair)]):
            del new[id_]
        # By their digests, for two results may have the same data.
        chunks = {chunk.id: chunk for pair in new.values() if (chunk := _chunk(*pair))}
        await write_chunks(self._mongo, chunks.values())
        created = await self._insert(kind, [envelope for _, envelope in new.values()])
        others = await self._fetch_newest(kind, [id_ for id_ in ids if id_ not in created])
        stored = created | others
        await self._feed.append(
            [event for envelope in stored.values() if not envelope["settled"] for event in events_of(envelope)]
        )
        if others:
            await self._settle_before_answer(kind, others)
        if kind is ResultKind.STANDARDIZED and created:
            self._settle_later(list(created))
        return [_Written(now := stored[envelope["_id"]], created=now is envelope) for envelope in envelopes]

    async def _find_stored(self, kind: ResultKind, ids: list[str]) -> list[str]:
        """Those of `ids` that are taken already: their data need not be written to find that out."""
        if not ids:
            return []
        async with self._mongo.answering():
            found = self._mongo.newest(kind).find({"_id": {"$in": ids}}, {"_id": 1})
            return [document["_id"] for document in await found.to_list(None)]

    async def _insert(self, kind: ResultKind, envelopes: list[Document]) -> dict[str, Document]:
        """Insert those whose names are free; which these are, by `_id`."""
        taken: set[int] = set()
        if envelopes:
            async with self._mongo.answering():
                try:
                    await self._mongo.collection(kind).insert_many(envelopes, ordered=False)
                except BulkWriteError as error:
                    taken = {collision.index for collision in collisions(error)}
        return {envelope["_id"]: envelope for index, envelope in enumerate(envelopes) if index not in taken}

    async def _fetch_newest(self, kind: ResultKind, ids: list[str]) -> dict[str, Document]:
        if not ids:
            return {}
        async with self._mongo.answering():
            documents = await self._mongo.newest(kind).find({"_id": {"$in": ids}}).to_list(None)
        stored = {document["_id"]: document for document in documents}
        if len(stored) < len(ids):
            raise StoreUnavailable("MongoDB took back what another writer had stored; send the request again")
        return stored

    async def _settle_before_answer(self, kind: ResultKind, envelopes: Mapping[str, Document]) -> None:
        """Setting `settled` where it is set changes nothing, and yet waits for a majority of all that came before: that
        makes an `unchanged` as good as the acknowledgement that another instance has perhaps not given yet.
        """
        async with self._mongo.answering():
            as_read = [with_history_of(envelope) for envelope in envelopes.values()]
            await self._mongo.collection(kind).update_many({"$or": as_read}, _SETTLED)

    def _settle_later(self, ids: list[str]) -> None:
        self._to_settle += ids
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle_waiting())

    async def _settle_waiting(self) -> None:
        while self._to_settle:
            await asyncio.sleep(SETTLE_AFTER_S)
            ids, self._to_settle = self._to_settle[:_SETTLED_MOST], self._to_settle[_SETTLED_MOST:]
            await self._settle(ids)

    async def _settle(self, ids: list[str]) -> None:
        with suppress(StoreUnavailable):  # repair will do it
            async with self._mongo.answering():
                # A correction that came in between has its own entry to make first.
                uncorrected = {"_id": {"$in": ids}, "history": {"$exists": False}}
                await self._mongo.hasty(ResultKind.STANDARDIZED).update_many(uncorrected, _SETTLED)

    async def _refuse_other(self, stored: Document, result: NewResult) -> None:
        name = result.result_name
        if faults := identity_faults(stored, result.envelope):
            raise ResultNameTaken(
                f"{name} is the name of another result: {_line(faults)}. Push yours under another run_id.",
                faults=faults,
                result_name=name,
            )
        faults = envelope_faults(stored, result.envelope)
        if not await self._same_data(stored, result):
            faults.append(data_fault(stored, result))
        if faults:
            raise ResultConflict(
                f"{name} is stored with other content: {_line(faults)}. Stored results are never overwritten. If yours "
                f"is right, push it under another run_id and invalidate the stored one: POST /{result.kind}/{name}"
                "/invalidation with author and reason.",
                faults=faults,
                result_name=name,
            )

    async def _same_data(self, stored: Document, result: NewResult) -> bool:
        if stored["sha256"] == result.sha256:
            return True
        if isinstance(result.content, Upload) or stored["bytes"] > WHOLE_BYTES:
            return False  # to compare what they mean would take both in memory, parsed
        now = await unpacked(result.content, result.size)
        before = await read_whole(self._mongo, stored)
        return await asyncio.to_thread(same_content, before, now)

    async def prepare(self) -> None:
        """Make the indexes that writing needs; those that are there stay."""
        unsettled = IndexModel([("settled", ASCENDING)], partialFilterExpression={"settled": False})
        uploads = IndexModel([("blob", ASCENDING)], partialFilterExpression=IS_UPLOAD)
        for kind in ResultKind:
            async with self._mongo.answering():
                await self._mongo.collection(kind).create_indexes([unsettled, uploads])

    async def repair(self) -> None:
        """Enter into the feed what a crash kept from it."""
        # What was unsettled when this began, and no more: beside a busy instance there is always something.
        ids = await self._fetch_unsettled_ids()
        for start in range(0, len(ids), _REPAIR_BATCH):
            await self._enter(ids[start : start + _REPAIR_BATCH])

    async def keep_repaired(self, every_s: float) -> None:
        """The same now and then, for ever, for what another instance left when it was killed.

        What was unsettled at the look before, too, is nobody's work in progress: no clock is needed to tell.
        """
        before: set[str] = set()
        abandoned = AbandonedUploads(self._mongo)
        while True:
            try:
                ids = await self._fetch_unsettled_ids()
                await self._enter([id_ for id_ in ids if id_ in before][:_REPAIR_BATCH])
                before = set(ids)
                await abandoned.remove()
            except StoreUnavailable as problem:
                log.warning("not repaired, will try again", reason=problem.detail)
            except Exception:  # or one fault that nobody foresaw would end the repairs for good
                log.exception("not repaired, will try again")
            await asyncio.sleep(every_s)

    async def finish(self) -> None:
        """Return when nothing is being written any more, so that a start has nothing to repair; soon in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._mongo.timeout_s):
                for commit in self._commits.values():
                    await commit.finish()
                if self._settling is not None:
                    await asyncio.wait([self._settling])

    async def _fetch_unsettled_ids(self) -> list[str]:
        async with self._mongo.answering():
            found = self._mongo.newest(ResultKind.STANDARDIZED).find({"settled": False}, {"_id": 1})
            return [document["_id"] for document in await found.to_list(None)]

    async def _enter(self, ids: list[str]) -> None:
        """Enter those of `ids` that are unsettled still."""
        if not ids:
            return
        async with self._mongo.answering():
            wanted = {"_id": {"$in": ids}, "settled": False}
            envelopes = await self._mongo.newest(ResultKind.STANDARDIZED).find(wanted, {"data": 0}).to_list(None)
        if envelopes:
            log.warning("entering into the feed what a crash kept from it", results=len(envelopes))
            await self._feed.append([event for envelope in envelopes for event in events_of(envelope)])
            await self._settle_before_answer(ResultKind.STANDARDIZED, {found["_id"]: found for found in envelopes})


def stored_answer(result: NewResult, status: StoreStatus) -> StoredAnswer:
    """What its sender is told of a stored result."""
    return StoredAnswer(
        result_name=result.result_name,
        status=status,
        unchanged=status is StoreStatus.UNCHANGED,
        sha256=result.sha256,
        questions=result.questions,
        warnings=list(result.warnings),
    )


_SETTLED = {"$set": {"settled": True}}


def _chunk(result: NewResult, envelope: Document) -> Chunk | None:
    """The data, where it came whole and does not ride in the envelope."""
    if "data" in envelope or isinstance(result.content, Upload):
        return None
    return chunk_of(result.sha256, result.content)


def _packed_bytes(result: NewResult) -> int:
    return len(result.content) if isinstance(result.content, bytes) else 0


def _line(faults: list[Fault]) -> str:
    return "; ".join(f"{fault.place} {fault.detail}" for fault in faults)

"""Results in MongoDB: an envelope document each, its data in blobs, and an entry in the feed.

A write has these steps, each with a majority before the next, so a crash can fall between any two:

1. the blobs. A crash after them leaves chunks that nothing names; the same data sent again uses them.
2. the envelope, with `settled: false`. A crash after it leaves a result that is listed but not in the feed, and whose
   sender was told nothing. The next start of any instance enters it, and so does sending it again.
3. the feed entry. A crash after it leaves an unsettled envelope; repair finds the event in the feed already.
4. `settled: true`, then the acknowledgement.

A repair may meet a write that another instance is in the middle of. Both then enter the same event and its unique
index lets one of them. Raw inputs are not in the feed, so they are settled from the start. Without transactions all
of this holds on a standalone server too.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import structlog
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from results_service.blobs import CHUNK_BYTES, Blobs
from results_service.documents import (
    Position,
    data_fault,
    envelope_document,
    envelope_faults,
    identity_faults,
    result_summary,
)
from results_service.feed import Event, Feed
from results_service.intake import NewResult
from results_service.mongo import Document, Mongo
from shared.problems import Fault, NotFound, ResultConflict, ResultNameTaken, StoreUnavailable
from shared.results import ResultKind, ResultPage, ResultSummary, StoreStatus
from shared.strict_json import same_content
from shared.timestamps import canonical_result_name, now

log = structlog.get_logger(__name__)

FILTERS = ("benchmark_name", "model_id", "source", "run_id")
"""Fields that a list may be narrowed by; each has its index."""
_REPAIR_BATCH = 500


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A stored envelope, and its data as a stream of the bytes received."""

    summary: ResultSummary
    data: AsyncIterator[bytes]

    @property
    def in_one_piece(self) -> bool:
        """Whether the stream is a single chunk."""
        return self.summary.bytes <= CHUNK_BYTES


class ResultStore:
    """Everything that is stored of results."""

    def __init__(self, mongo: Mongo, feed: Feed) -> None:
        self._mongo = mongo
        self._feed = feed
        self._blobs = Blobs(mongo)

    async def prepare(self) -> None:
        """Make the indexes; those that are there stay."""
        order = [("time_key", DESCENDING), ("_id", ASCENDING)]
        models = [IndexModel(order), *(IndexModel([(name, ASCENDING), *order]) for name in FILTERS)]
        models.append(IndexModel([("settled", ASCENDING)], partialFilterExpression={"settled": False}))
        for kind in ResultKind:
            async with self._mongo.answering():
                await self._mongo.collection(kind).create_indexes(models)

    async def repair(self) -> None:
        """Enter into the feed what a crash kept from it."""
        envelopes = self._mongo.newest(ResultKind.STANDARDIZED)
        while True:
            async with self._mongo.answering():
                found = await envelopes.find({"settled": False}, {"sha256": 1}).to_list(_REPAIR_BATCH)
            if not found:
                return
            log.warning(
                "entering results into the feed that were stored without an acknowledgement", results=len(found)
            )
            await self._feed.append([Event.of_result(document["_id"], document["sha256"]) for document in found])
            async with self._mongo.answering():
                names = [document["_id"] for document in found]
                await envelopes.update_many({"_id": {"$in": names}}, {"$set": {"settled": True}})

    async def put(self, result: NewResult) -> StoreStatus:
        """Store a result, or find it stored with the same content. ResultNameTaken or ResultConflict otherwise.

        On return a majority has the result and its feed entry, also of one that was there before.
        """
        kind, name = result.kind, result.result_name
        stored = await self._newest_envelope(kind, name)
        if stored is None:
            await self._blobs.write(result.sha256, result.data)
            created = await self._insert(result)
            if created is not None:
                if not created["settled"]:
                    await self._settle(kind, created)
                return StoreStatus.CREATED
            stored = await self._newest_envelope(kind, name)
            if stored is None:
                raise StoreUnavailable("MongoDB took back what another writer had stored; send the request again")
        await self._refuse_other(stored, result)
        await self._settle(kind, stored)
        return StoreStatus.UNCHANGED

    async def _newest_envelope(self, kind: ResultKind, name: str) -> Document | None:
        async with self._mongo.answering():
            document: Document | None = await self._mongo.newest(kind).find_one({"_id": name})
        return document

    async def _insert(self, result: NewResult) -> Document | None:
        """The envelope as it was stored; None if its name, free a moment ago, has been taken."""
        settled = result.kind is ResultKind.RAW
        document = envelope_document(result, received_at=now(), settled=settled)
        async with self._mongo.answering():
            try:
                await self._mongo.collection(result.kind).insert_one(document)
            except DuplicateKeyError:
                return None
        return document

    async def _settle(self, kind: ResultKind, envelope: Document) -> None:
        """Do what is left to do for a stored envelope.

        Setting `settled` where it is set changes nothing, and yet waits for a majority of all that came before: that
        makes an `unchanged` as good as the acknowledgement that another instance has perhaps not given yet.
        """
        if not envelope["settled"]:
            await self._feed.append([Event.of_result(envelope["_id"], envelope["sha256"])])
        async with self._mongo.answering():
            await self._mongo.collection(kind).update_one({"_id": envelope["_id"]}, {"$set": {"settled": True}})

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
                f"{name} is stored with other content: {_line(faults)}. Stored results are never overwritten; if yours "
                "is right, push it under another run_id.",
                faults=faults,
                result_name=name,
            )

    async def _same_data(self, stored: Document, result: NewResult) -> bool:
        if stored["sha256"] == result.sha256:
            return True
        data = await self._blobs.read_whole(stored["sha256"], stored["bytes"])
        return await asyncio.to_thread(same_content, data, result.data)

    async def get(self, kind: ResultKind, name: str) -> StoredResult:
        """The result of this name, its time in any spelling; NotFound if there is none."""
        name = canonical_result_name(name)
        async with self._mongo.answering():
            document = await self._mongo.collection(kind).find_one({"_id": name})
        if document is None:
            raise NotFound(f"no {kind} is called {name!r}; {await self._hint(kind, name)}")
        return StoredResult(result_summary(document), self._blobs.read(document["sha256"], document["bytes"]))

    async def _hint(self, kind: ResultKind, name: str) -> str:
        for other in ResultKind:
            async with self._mongo.answering():
                found = other is not kind and await self._mongo.collection(other).find_one({"_id": name}, {"_id": 1})
            if found:
                return f"there is one under /{other}"
        return f"GET /{kind} lists those that are stored"

    async def page(self, kind: ResultKind, filters: Mapping[str, str], limit: int, cursor: str | None) -> ResultPage:
        """At most `limit` envelopes, newest first, from `cursor` on. Keys of `filters` are among FILTERS."""
        query: Document = dict(filters)
        if cursor is not None:
            query |= Position.from_cursor(cursor).beyond()
        order = [("time_key", DESCENDING), ("_id", ASCENDING)]
        async with self._mongo.answering():
            documents = await self._mongo.collection(kind).find(query, sort=order, limit=limit + 1).to_list(limit + 1)
        more = len(documents) > limit
        return ResultPage(
            items=[result_summary(document) for document in documents[:limit]],
            next_cursor=Position.of(documents[limit - 1]).cursor if more else None,
        )


def _line(faults: list[Fault]) -> str:
    return "; ".join(f"{fault.place} {fault.detail}" for fault in faults)

"""Live runs and their parts in MongoDB: read, settled, and put together to the data of a result."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from pymongo import ASCENDING, IndexModel

from results_service.blobs import unpacked
from results_service.documents import result_name_of, stored_id
from results_service.feed import Feed
from results_service.live_run_documents import UNENTERED, events_of_live_run, stored_parts
from results_service.mongo import Collection, Document, Mongo
from results_service.parts import EMPTY_DATA, StoredPart, in_pages
from shared.problems import NotFound, StoreUnavailable
from shared.results import LiveRunState
from shared.timestamps import canonical_result_name

OPEN = (LiveRunState.LIVE, LiveRunState.FINISHING)
"""States in which the parts are all there is of the run."""
_SETTLED_BY_ENTRIES = (LiveRunState.LIVE, LiveRunState.DISCARDED)
"""States in which nothing is left to do once the feed has what happened."""
_HEAD, _TAIL = EMPTY_DATA[:-2], EMPTY_DATA[-2:]


class PartsGone(StoreUnavailable):
    """A part's document is not there: the live run was finished since it was read."""


class LiveRecords:
    """The live runs of one database."""

    def __init__(self, mongo: Mongo, feed: Feed) -> None:
        self.mongo = mongo
        self.runs = mongo.collection("live_runs")
        self.parts = mongo.collection("live_parts")
        self._newest_runs = mongo.newest("live_runs")
        self._feed = feed

    async def prepare(self) -> None:
        """Make the indexes; those that are there stay."""
        unsettled = IndexModel([("settled", ASCENDING)], partialFilterExpression={"settled": False})
        by_state = IndexModel([("state", ASCENDING), ("_id", ASCENDING)])
        async with self.mongo.answering():
            await self.runs.create_indexes([unsettled, by_state])

    async def settle(self, id_: str) -> None:
        """Enter into the feed what is not there yet; a majority has all that was read on return.

        `settled` is set only if nothing came in between, which has its own entry to make first.
        """
        async with self.mongo.answering():
            document = await self._newest_runs.find_one({"_id": id_}, UNENTERED)
        if document is None:
            raise StoreUnavailable("MongoDB took back what it had stored; send the request again")
        events = list(events_of_live_run(document))
        if events:
            await self._feed.append(events)
        if document["state"] not in _SETTLED_BY_ENTRIES:
            await self.confirm(id_)
            return
        entered = document["part_count"]
        changes = {"entered": {"$max": ["$entered", entered]}, "settled": {"$eq": ["$part_count", entered]}}
        async with self.mongo.answering():
            await self.runs.update_one({"_id": id_, "state": document["state"], "settled": False}, [{"$set": changes}])

    async def confirm(self, id_: str) -> None:
        """Return when a majority has what was read of a live run: a write that changes nothing waits for that too."""
        async with self.mongo.answering():
            await self.runs.update_one({"_id": id_}, {"$max": {"part_count": 0}})

    async def fetch(self, name: str) -> Document:
        """The live run of this name as a majority has it; NotFound if there is none."""
        return await self._fetch(self.runs, name, None)

    async def fetch_newest(self, name: str, projection: Document | None = None) -> Document:
        """The same as the primary has it, to be changed."""
        return await self._fetch(self._newest_runs, name, projection)

    async def _fetch(self, runs: Collection, name: str, projection: Document | None) -> Document:
        name = canonical_result_name(name)
        async with self.mongo.answering():
            document: Document | None = await runs.find_one({"_id": stored_id(name)}, projection)
        if document is None:
            raise NotFound(f"no live run is called {name!r}; GET /live_runs lists those that there are")
        return document

    async def data(self, document: Document) -> AsyncIterator[bytes]:
        """The data that the live run would be finished with now: the parts by number, joined by commas."""
        parts = sorted(stored_parts(document), key=lambda part: part.number)
        before = _HEAD
        async for _, text in self.texts(parts, document["_id"]):
            yield before + text
            before = b","
        yield _TAIL if parts else _HEAD + _TAIL

    async def texts(self, parts: Sequence[StoredPart], id_: str) -> AsyncIterator[tuple[StoredPart, bytes]]:
        """The questions of these parts, in this order; several are read at once while they are small."""
        for some in in_pages(parts):
            ids = [f"{id_}/{part.id}" for part in some]
            async with self.mongo.answering():
                found = await self.parts.find({"_id": {"$in": ids}}).to_list(None)
            packed = {document["_id"]: bytes(document["zstd"]) for document in found}
            for part, key in zip(some, ids, strict=True):
                if key not in packed:
                    raise PartsGone(f"part {part.number} of {result_name_of(id_)} is not there any more; ask again")
                yield part, await unpacked(packed[key], part.size)

    async def fetch_unsettled(self) -> list[Document]:
        """State and head of the live runs with something left to do."""
        async with self.mongo.answering():
            return await self._newest_runs.find({"settled": False}, {"state": 1, "head": 1}).to_list(None)


def utc_now() -> datetime:
    """The time to be stored, to the millisecond, which is as exact as MongoDB keeps it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)

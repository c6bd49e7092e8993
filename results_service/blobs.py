"""The data of results: compressed, in chunks well below MongoDB's 16 MB a document.

Chunks are documents `<blob>/<n>`. Data that came whole is named by its SHA-256: whatever a crash left of it is used
when it comes again. Data that was stored while it arrived has no digest yet, so its blob is an upload of its own, which
is removed again if it turns out to be no result, or not a new one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from bson import Binary
from pymongo import ASCENDING
from pymongo.errors import BulkWriteError

from results_service.mongo import Document, Mongo, collisions
from shared.compression import compress, decompress
from shared.problems import Problem, StoreUnavailable

CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of data in a chunk before compression; the last of a blob is shorter."""
OFF_LOOP_BYTES = 64 * 1024
"""More than this is compressed and decompressed on a thread, for others would notice."""
_UPLOAD = "u-"
_IDS_MOST = 5000
IS_UPLOAD: Document = {"blob": {"$gte": _UPLOAD}}
"""The MongoDB filter of envelopes whose data is an upload; digests are hexadecimal, so they sort before."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk, ready to be written."""

    id: str
    packed: bytes

    @property
    def document(self) -> Document:
        """As MongoDB holds it."""
        return {"_id": self.id, "zstd": Binary(self.packed)}


def chunk_of(sha256: str, packed: bytes) -> Chunk:
    """The only chunk of data that came whole."""
    return Chunk(f"{sha256}/0", packed)


@dataclass(slots=True)
class Upload:
    """Data that is stored while it arrives."""

    blob: str
    _mongo: Mongo
    _held: bytearray = field(default_factory=bytearray)
    _chunks: int = 0

    async def write(self, data: bytes) -> None:
        """Take the next bytes; a full chunk is written before this returns."""
        self._held += data
        while len(self._held) >= CHUNK_BYTES:
            await self._write_chunk(bytes(memoryview(self._held)[:CHUNK_BYTES]))
            del self._held[:CHUNK_BYTES]

    async def finish(self) -> None:
        """Write what is left. Returns when a majority has every chunk."""
        if self._held:
            await self._write_chunk(bytes(self._held))
            self._held.clear()
        # An upload of more than a day may have been swept: nothing may refer to it then.
        async with self._mongo.answering():
            there = await self._mongo.collection("blobs").count_documents(_of_blob(self.blob))
        if there != self._chunks:
            raise StoreUnavailable("the data was removed while it was being received; send the request again")

    async def discard(self) -> None:
        """Remove what was written. What a failure leaves here, the sweep of uploads removes."""
        self._held.clear()
        with suppress(StoreUnavailable):  # whoever discards has something better to tell
            await delete_upload(self._mongo, self.blob)

    async def _write_chunk(self, data: bytes) -> None:
        chunk = Chunk(f"{self.blob}/{self._chunks}", await asyncio.to_thread(compress, data))
        await write_chunks(self._mongo, [chunk])
        self._chunks += 1


def new_upload(mongo: Mongo) -> Upload:
    """An upload with a name of its own, which says when it began."""
    return Upload(f"{_UPLOAD}{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex}", mongo)


async def write_chunks(mongo: Mongo, chunks: Iterable[Chunk]) -> None:
    """Write `chunks`; those that are there already stay. A majority has all of them on return."""
    documents = [chunk.document for chunk in chunks]
    if not documents:
        return
    async with mongo.answering():
        try:
            await mongo.collection("blobs").insert_many(documents, ordered=False)
        except BulkWriteError as error:
            # Whatever is written after this, with majority concern, waits for a majority of the present chunk too.
            collisions(error)


async def read_packed(mongo: Mongo, blob: str, size: int, first: int = 0) -> AsyncIterator[bytes]:
    """The chunks of `size` bytes of data from chunk `first` on, compressed as they are stored; one is read ahead."""
    chunks = -(-size // CHUNK_BYTES)
    coming = asyncio.ensure_future(_read_chunk(mongo, blob, first)) if first < chunks else None
    try:
        for number in range(first, chunks):
            assert coming is not None  # noqa: S101 - there is one for each number
            packed = await coming
            coming = asyncio.ensure_future(_read_chunk(mongo, blob, number + 1)) if number + 1 < chunks else None
            yield packed
    finally:
        if coming is not None:
            coming.cancel()


async def read_data(mongo: Mongo, blob: str, size: int, first: int = 0) -> AsyncIterator[bytes]:
    """The same, decompressed."""
    async for packed in read_packed(mongo, blob, size, first):
        yield await unpacked(packed, min(size, CHUNK_BYTES))


async def read_whole(mongo: Mongo, envelope: Document) -> bytes:
    """The data of a stored result, in one piece."""
    if "data" in envelope:
        return await unpacked(envelope["data"], envelope["bytes"])
    return b"".join([data async for data in read_data(mongo, envelope["blob"], envelope["bytes"])])


async def unpacked(packed: bytes, max_bytes: int = CHUNK_BYTES) -> bytes:
    """What a chunk holds."""
    if max_bytes > OFF_LOOP_BYTES:
        return await asyncio.to_thread(decompress, packed, max_bytes)
    return decompress(packed, max_bytes)


async def _read_chunk(mongo: Mongo, blob: str, number: int) -> bytes:
    async with mongo.answering():
        chunk = await mongo.collection("blobs").find_one({"_id": f"{blob}/{number}"})
    if chunk is None:
        raise Problem(f"the stored data {blob} lacks its chunk {number}")
    return bytes(chunk["zstd"])


async def delete_upload(mongo: Mongo, blob: str) -> None:
    """Remove the chunks of an upload. Never of data named by its digest: other results may share that."""
    assert blob.startswith(_UPLOAD), blob  # noqa: S101 - a digest here would lose somebody's data
    async with mongo.answering():
        await mongo.collection("blobs").delete_many(_of_blob(blob))


async def uploads_begun(mongo: Mongo, after: str, before: datetime) -> list[str]:
    """The next uploads by name, some thousand at most: beyond `after` ("" for the first), begun earlier than `before`.

    Of an upload that was removed only in part it may be any chunk that is left.
    """
    ids = {"_id": {"$gte": f"{after}0" if after else _UPLOAD, "$lt": f"{_UPLOAD}{before:%Y%m%dT%H%M%S}"}}
    async with mongo.answering():
        found = mongo.collection("blobs").find(ids, {"_id": 1}, sort=[("_id", ASCENDING)], limit=_IDS_MOST)
        return list(dict.fromkeys(document["_id"].partition("/")[0] for document in await found.to_list(None)))


def _of_blob(blob: str) -> Document:
    return {"_id": {"$gte": f"{blob}/", "$lt": f"{blob}0"}}  # '0' follows '/'

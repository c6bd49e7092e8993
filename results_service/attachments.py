"""Files kept as they are with a raw input: zips, logs, Parquet.

Their bytes are chunks named by the file's SHA-256, as `results_service.blobs` has them, so the same file is stored once
however often it is attached. What a crash leaves before a file is attached is used when the file comes again.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import chain, islice
from pathlib import Path

from bson import Int64
from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError

from results_service.blobs import CHUNK_BYTES, Chunk, read_data, write_chunks
from results_service.documents import result_name_of
from results_service.mongo import Document, Mongo, collisions
from shared.attachments import media_type_of
from shared.compression import compress
from shared.problems import SHOWN_MAX, NotFound, Problem, ResultConflict, StoreUnavailable

COLLECTION = "attachments"
_IDS_MOST = 1000
"""Chunks that are looked for in one question."""
_INSERTED_MOST = 1000


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A file of a raw input."""

    path: str
    """Where it lay, with `/` between folders; unique among the raw input's files."""
    sha256: str
    bytes: int

    @property
    def media_type(self) -> str:
        """By the end of its name."""
        return media_type_of(self.path)

    @property
    def chunks(self) -> int:
        """How many its bytes are stored in; 0 for an empty file."""
        return -(-self.bytes // CHUNK_BYTES)

    @property
    def chunk_ids(self) -> Iterable[str]:
        """Their names."""
        return (f"{self.sha256}/{number}" for number in range(self.chunks))

    @classmethod
    def of(cls, document: Document) -> "AttachedFile":
        """The file of a document in the store."""
        return cls(document["path"], document["sha256"], int(document["bytes"]))


class Attachments:
    """The files of all raw inputs in one database."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def prepare(self) -> None:
        """Make the index that files are found by; if it is there, it stays."""
        by_path = IndexModel([("raw", ASCENDING), ("path", ASCENDING)], unique=True)
        async with self._mongo.answering():
            await self._mongo.collection(COLLECTION).create_indexes([by_path])

    async def store_files(self, files: Sequence[tuple[Path, AttachedFile]]) -> None:
        """Store the bytes of files, so that they can be attached; what is stored already is not written again.

        A majority has all of them on return. Memory: two chunks. OSError if a file cannot be read; Problem, and
        nothing of it is written, if its bytes are others than its digest and size say.
        """
        missing = await missing_chunks(self._mongo, [file for _, file in files])
        for location, file in files:
            numbers = [number for number, id_ in enumerate(file.chunk_ids) if id_ in missing]
            if numbers:
                await self._write_missing(location, file, numbers)

    async def _write_missing(self, location: Path, file: AttachedFile, numbers: Sequence[int]) -> None:
        # Before anything is written: a chunk under the digest of another file would be that file's for ever.
        if await asyncio.to_thread(_digest, location) != (file.sha256, file.bytes):
            raise Problem(f"the file {location.name} was changed while it was being stored")
        coming = asyncio.ensure_future(asyncio.to_thread(_read_chunk, location, file.sha256, numbers[0]))
        try:
            for following in [*numbers[1:], None]:
                chunk = await coming
                if following is not None:
                    coming = asyncio.ensure_future(asyncio.to_thread(_read_chunk, location, file.sha256, following))
                await write_chunks(self._mongo, [chunk])
        finally:
            coming.cancel()

    async def attach(self, raw_stored_id: str, files: Sequence[AttachedFile]) -> None:
        """Make `files`, which are stored, those of a raw input; a majority has that on return. Repeating it is safe.

        ResultConflict, and nothing is changed, if others are attached to it already.
        """
        documents = [
            {
                "_id": f"{raw_stored_id}/{number}",
                "raw": raw_stored_id,
                "path": file.path,
                "sha256": file.sha256,
                "bytes": Int64(file.bytes),
            }
            for number, file in enumerate(sorted(files, key=lambda file: file.path))
        ]
        if not documents:
            return
        # The first stands for all: whoever writes it decides which files these are, also if a crash ends it there.
        first, *others = documents
        first["all"] = sha256(repr([(file["path"], file["sha256"]) for file in documents]).encode()).hexdigest()
        were_there = await self._insert([first])
        if were_there:
            await self._check_is_same(first)
        for start in range(0, len(others), _INSERTED_MOST):
            were_there |= await self._insert(others[start : start + _INSERTED_MOST])
        if were_there:
            async with self._mongo.answering():
                # It changes nothing, and yet waits for a majority of what another instance is perhaps writing now.
                of_raw = {"raw": raw_stored_id}
                await self._mongo.collection(COLLECTION).update_many(of_raw, {"$set": of_raw})

    async def _insert(self, documents: Sequence[Document]) -> bool:
        """Insert those that are not there; whether some were."""
        async with self._mongo.answering():
            try:
                await self._mongo.collection(COLLECTION).insert_many(documents, ordered=False)
            except BulkWriteError as error:
                return bool(collisions(error))
        return False

    async def _check_is_same(self, first: Document) -> None:
        async with self._mongo.answering():
            stored = await self._mongo.newest(COLLECTION).find_one({"_id": first["_id"]}, {"all": 1})
        if stored is None:
            raise StoreUnavailable("MongoDB took back what another writer had stored; send the request again")
        if stored["all"] != first["all"]:
            name = result_name_of(first["raw"])
            raise ResultConflict(
                f"{name} is stored with other files. Stored files are never replaced: push yours under another run_id.",
                result_name=name,
            )

    async def find(self, raw_stored_id: str, path: str) -> AttachedFile:
        """The file of a raw input that lay at `path`; NotFound if it has none there."""
        async with self._mongo.answering():
            document = await self._mongo.collection(COLLECTION).find_one({"raw": raw_stored_id, "path": path})
        if document is None:
            name = result_name_of(raw_stored_id)
            shown = path if len(path) <= SHOWN_MAX else f"{path[:SHOWN_MAX]}…"
            raise NotFound(f"{name} has no file {shown!r}; GET /raw_input/{name}/files lists those that it has")
        return AttachedFile.of(document)

    def contents(self, file: AttachedFile, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` up to `stop`, 4 MiB at a time at most, one such piece being read ahead."""
        return read_span(self._mongo, file, start, file.bytes if stop is None else stop)

    async def list(self, raw_stored_id: str) -> Sequence[AttachedFile]:
        """The files of a raw input, by their paths; none if it has none or is none."""
        async with self._mongo.answering():
            found = self._mongo.collection(COLLECTION).find({"raw": raw_stored_id}, sort=[("path", ASCENDING)])
            return [AttachedFile.of(document) for document in await found.to_list(None)]


async def read_span(mongo: Mongo, file: AttachedFile, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes of a file from `start` up to `stop`, in the pieces that they are stored in."""
    first = start // CHUNK_BYTES
    position = first * CHUNK_BYTES
    end_of_chunk = -(-stop // CHUNK_BYTES) * CHUNK_BYTES
    async for data in read_data(mongo, file.sha256, min(file.bytes, end_of_chunk), first):
        yield data[max(start - position, 0) : stop - position]
        position += len(data)


async def missing_chunks(mongo: Mongo, files: Iterable[AttachedFile]) -> set[str]:
    """The names of those chunks of `files` that a majority does not have."""
    missing: set[str] = set()
    wanted = chain.from_iterable(file.chunk_ids for file in files)
    while ids := list(islice(wanted, _IDS_MOST)):
        async with mongo.answering():
            found = await mongo.collection("blobs").find({"_id": {"$in": ids}}, {"_id": 1}).to_list(None)
        missing |= set(ids) - {document["_id"] for document in found}
    return missing


def _digest(location: Path) -> tuple[str, int]:
    with location.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest(), stream.tell()


def _read_chunk(location: Path, sha256: str, number: int) -> Chunk:
    with location.open("rb") as stream:
        stream.seek(number * CHUNK_BYTES)
        return Chunk(f"{sha256}/{number}", compress(stream.read(CHUNK_BYTES)))

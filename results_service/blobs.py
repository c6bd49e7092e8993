"""The data of results: bytes under their SHA-256, compressed, in chunks well below MongoDB's 16 MB a document."""

import asyncio
from collections.abc import AsyncIterator, Callable

import zstandard
from bson import Binary
from pymongo.errors import DuplicateKeyError

from results_service.mongo import Mongo
from shared.problems import Problem

CHUNK_BYTES = 8 * 1024 * 1024
"""Bytes of data in a chunk before compression. Chunks written with another size would not fit beside these: a new
size needs a new form of chunk id."""
_OFF_LOOP_BYTES = 64 * 1024


class Blobs:
    """Content-addressed chunks `<sha256>/<n>`. Each is compressed by itself, so whatever a crash left is used again
    whichever version of the compressor wrote it."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._chunks = mongo.collection("blobs")

    async def write(self, sha256: str, data: bytes) -> None:
        """Store `data`. What is there already stays; a majority has it all when this returns."""
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            packed = await _apart(_compress, data[start : start + CHUNK_BYTES])
            async with self._mongo.answering():
                try:
                    await self._chunks.insert_one({"_id": f"{sha256}/{number}", "zstd": Binary(packed)})
                except DuplicateKeyError:
                    continue  # whatever is written after this waits for a majority of this chunk too

    async def read(self, sha256: str, size: int) -> AsyncIterator[bytes]:
        """The `size` bytes of data with this SHA-256, chunk by chunk."""
        number = 0
        while size > 0:
            async with self._mongo.answering():
                chunk = await self._chunks.find_one({"_id": f"{sha256}/{number}"})
            if chunk is None:
                raise Problem(f"the stored data {sha256} lacks its chunk {number}")
            data = await _apart(_decompress, chunk["zstd"])
            yield data
            size -= len(data)
            number += 1

    async def read_whole(self, sha256: str, size: int) -> bytes:
        """The same in one piece."""
        return b"".join([chunk async for chunk in self.read(sha256, size)])


def _compress(data: bytes) -> bytes:
    return zstandard.compress(data, level=3)


def _decompress(packed: bytes) -> bytes:
    return zstandard.decompress(packed, max_output_size=CHUNK_BYTES)


async def _apart(work: Callable[[bytes], bytes], data: bytes) -> bytes:
    """Do it on a thread where it takes long enough for others to notice."""
    return await asyncio.to_thread(work, data) if len(data) > _OFF_LOOP_BYTES else work(data)

"""Reads results: lists, and single ones with their data. Each question to MongoDB has a time limit there."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pymongo

from results_service.blobs import CHUNK_BYTES, read_packed, unpacked
from results_service.documents import stored_id, wire_fields
from results_service.listing import (
    COUNTED,
    PERIOD_KEYS,
    PERIODS_MERGED,
    Keys,
    Lead,
    ListQuery,
    Position,
    leads,
    list_indexes,
    page_query,
    period_filter,
    total_filter,
)
from results_service.mongo import Document, Mongo
from results_service.read_time import ReadLimits, ReadTime
from results_service.zstd_frames import splice
from shared.problems import SHOWN_MAX, NotFound
from shared.results import ResultKind, ResultState
from shared.timestamps import canonical_result_name

_INDEXING_S = 3600.0
"""A new index over millions of results takes minutes, and begins again if it is given up."""
_REMEMBERED_S = 60.0
_REMEMBERED_MOST = 1000
_TAIL = b"}"
_WITHOUT_DATA = {"data": 0}
_FOR_LISTS = {"data": 0, "history": 0}


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A stored result as it is sent: `head`, the bytes of its data, a closing brace."""

    head: bytes
    """Everything that is told of it, up to the value of `data`; the same as long as nothing about it changes."""
    data_bytes: int
    blob: str | None
    """Where the data is, if it is not `packed`."""
    packed: bytes | None
    """The data, compressed, where it rides in the envelope and was asked for."""

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return len(self.head) + self.data_bytes + len(_TAIL)

    @property
    def in_one_piece(self) -> bool:
        """Whether the whole is held in memory at once."""
        return self.data_bytes <= CHUNK_BYTES


class ResultReader:
    """Answers what is asked about stored results."""

    def __init__(self, mongo: Mongo, limits: ReadLimits) -> None:
        self._mongo = mongo
        self._limits = limits
        self._counts: dict[tuple[ResultKind, str, int], tuple[int, float]] = {}

    async def prepare(self) -> None:
        """Make the indexes that lists and pickers are answered from; those that are there stay."""
        with pymongo.timeout(0):
            for kind in ResultKind:
                async with self._mongo.answering(_INDEXING_S):
                    await self._mongo.collection(kind).create_indexes(list_indexes())

    async def page(self, kind: ResultKind, query: ListQuery) -> bytes:
        """A ResultPage as JSON. InvalidRequest for a limit or cursor that is not this list's, TimeLimit."""
        self._limits.check_page(query.limit)
        after = Position.from_cursor(kind, query)
        hint = "narrow the list, by a time range for example, or leave out total if it was asked for"
        reading = ReadTime(self._mongo, self._limits.timeout_s, hint)
        async with reading.limited():
            total = self._total(kind, query, reading) if query.total else _nothing()
            counts, periods, results = await asyncio.gather(
                self._counted(kind, leads(query), reading),
                self._periods(kind, period_filter(query), reading),
                total,
            )
            asked = page_query(query, counts, periods, after)
            documents = await (
                self._mongo.collection(kind)
                .find(
                    asked.filter,
                    _FOR_LISTS,
                    sort=asked.sort,
                    hint=asked.hint,
                    limit=query.limit + 1,
                    batch_size=query.limit + 1,
                    max_time_ms=reading.left_ms(),
                )
                .to_list(None)
            )
        found = documents[: query.limit]
        more = len(documents) > query.limit
        page = {
            "items": [wire_fields(document) for document in found],
            "next_cursor": Position.of(found[-1], query).cursor(kind, query) if more else None,
            "total": results,
        }
        return msgspec.json.encode(page)

    async def _total(self, kind: ResultKind, query: ListQuery, reading: ReadTime) -> int:
        wanted = total_filter(query)
        if query.state is not ResultState.VALID:
            return await self._count(kind, wanted, reading)
        # No index holds the valid ones, which are nearly all, so the others are counted instead.
        del wanted["state"]
        invalidated = wanted | {"state": ResultState.INVALIDATED.value}
        every, without = await asyncio.gather(
            self._count(kind, wanted, reading), self._count(kind, invalidated, reading)
        )
        return every - without

    async def _counted(self, kind: ResultKind, counted: list[Lead], reading: ReadTime) -> list[tuple[Lead, int]]:
        counts: list[int] = []
        for most in COUNTED if counted else ():
            counts = await asyncio.gather(*(self._count_lead(kind, lead, most, reading) for lead in counted))
            if min(counts) < most:
                break
        return list(zip(counted, counts, strict=True))

    async def _count_lead(self, kind: ResultKind, lead: Lead, most: int, reading: ReadTime) -> int:
        """How many there are, `most` at most, or were a moment ago: nothing but the rank matters."""
        known = (kind, repr(lead.filter), most)
        count, until = self._counts.get(known, (0, 0.0))
        if until < time.monotonic():
            count = await self._count(kind, lead.filter, reading, hint=lead.hint, limit=most)
            if len(self._counts) >= _REMEMBERED_MOST:
                self._counts.clear()
            self._counts[known] = (count, time.monotonic() + _REMEMBERED_S)
        return count

    async def _periods(self, kind: ResultKind, wanted: Document | None, reading: ReadTime) -> list[str]:
        if wanted is None:
            return []
        stages: list[Document] = [{"$match": wanted}, {"$group": {"_id": "$period"}}, {"$limit": PERIODS_MERGED + 1}]
        found = self._mongo.collection(kind).aggregate(stages, hint=dict(PERIOD_KEYS), maxTimeMS=reading.left_ms())
        return [document["_id"] for document in await found.to_list(None)]

    async def _count(
        self, kind: ResultKind, wanted: Document, reading: ReadTime, hint: Keys | str | None = None, limit: int = 0
    ) -> int:
        if not wanted:
            hint = "_id_"  # without it all documents would be read, not their names alone
        options: Document = {"maxTimeMS": reading.left_ms()}
        options |= {"hint": hint} if hint else {}
        options |= {"limit": limit} if limit else {}
        return await self._mongo.collection(kind).count_documents(wanted, **options)

    async def result(self, kind: ResultKind, name: str, *, with_data: bool) -> StoredResult:
        """The result of this name, its time in any spelling; NotFound if there is none.

        `with_data` reads data that rides in the envelope too, so that `body` or `frames` can be called.
        """
        name = canonical_result_name(name)
        reading = ReadTime(self._mongo, self._limits.timeout_s, "ask again in a moment")
        document = await self._fetch(kind, name, None if with_data else _WITHOUT_DATA, reading)
        if document is None:
            shown = name if len(name) <= SHOWN_MAX else f"{name[:SHOWN_MAX]}…"
            raise NotFound(f"no {kind} is called {shown!r}; {await self._hint(kind, name, reading)}")
        told = msgspec.json.encode(wire_fields(document) | {"history": document.get("history", [])})
        packed = document.get("data")
        return StoredResult(
            head=told.removesuffix(b"}") + b',"data":',
            data_bytes=document["bytes"],
            blob=document.get("blob"),
            packed=None if packed is None else bytes(packed),
        )

    async def _fetch(
        self, kind: ResultKind, name: str, projection: Document | None, reading: ReadTime
    ) -> Document | None:
        async with reading.limited():
            document: Document | None = await self._mongo.collection(kind).find_one(
                {"_id": stored_id(name)}, projection, max_time_ms=reading.left_ms()
            )
        return document

    async def _hint(self, kind: ResultKind, name: str, reading: ReadTime) -> str:
        for other in ResultKind:
            if other is not kind and await self._fetch(other, name, {"_id": 1}, reading):
                return f"there is one under /{other}"
        return f"GET /{kind} lists those that are stored"

    async def body(self, result: StoredResult) -> AsyncIterator[bytes]:
        """The whole of a result, in one piece unless it is large."""
        head = result.head
        size = min(result.data_bytes, CHUNK_BYTES)
        async for packed in self._packed(result):
            data = await unpacked(packed, size)
            if result.in_one_piece:
                yield b"".join((head, data, _TAIL))
                return
            yield head + data if head else data
            head = b""
        yield _TAIL

    async def frames(self, result: StoredResult) -> AsyncIterator[bytes]:
        """The same as zstd: the stored bytes themselves, with head and tail beside them.

        No piece but the last ends where a frame does; `results_service.zstd_frames` says why.
        """
        left = result.data_bytes
        prefix, held = result.head, b""
        async for packed in self._packed(result):
            left -= CHUNK_BYTES
            suffix = _TAIL if left <= 0 else b""
            frame = held + (splice(prefix, packed, suffix) if prefix or suffix else packed)
            if left <= 0:
                yield frame
                return
            yield frame[:-1]
            prefix, held = b"", frame[-1:]

    async def _packed(self, result: StoredResult) -> AsyncIterator[bytes]:
        if result.packed is not None:
            yield result.packed
        elif result.blob is not None:
            async for packed in read_packed(self._mongo, result.blob, result.data_bytes):
                yield packed


async def _nothing() -> None:
    return None

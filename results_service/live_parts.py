"""Takes the parts of live runs; `results_service.live_runs` argues the order of its steps."""

import asyncio
from dataclasses import dataclass, field
from uuid import uuid4

from bson import Binary
from cachetools import LRUCache
from pymongo import ReturnDocument

from results_service.blobs import OFF_LOOP_BYTES
from results_service.documents import result_name_of, stored_id
from results_service.intake import READERS
from results_service.live_records import OPEN, LiveRecords, PartsGone, utc_now
from results_service.live_run_documents import WITHOUT_PARTS, check_owner, closed, part_document, stored_parts
from results_service.mongo import Document
from results_service.parts import (
    MAX_ATTEMPTS,
    MAX_PARTS,
    Part,
    PartsKnown,
    StoredPart,
    attempts_in,
    read_part,
)
from shared.compression import compress
from shared.keys import Key
from shared.problems import Fault, PartConflict, TooLarge
from shared.registry.specs import Registry
from shared.results import LiveRunState, PartAnswer, StoreStatus
from shared.strict_json import same_content
from shared.timestamps import canonical_result_name

PACKED_MAX = 15 * 1024 * 1024
"""Bytes of a part after compression; it is one document, and MongoDB's are at most 16 MB."""


@dataclass(slots=True)
class _Known:
    """A live run as this instance knows it; another one may know better, which `head` tells."""

    document: Document
    parts: PartsKnown = field(default_factory=PartsKnown)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Parts that come at once take turns, for only one of them would find `head` as it was."""

    @property
    def id(self) -> str:
        """Of the live run's document."""
        return str(self.document["_id"])


def _weight(known: _Known) -> int:
    return 1 + len(known.parts.attempts)


class LiveParts:
    """Takes parts; any number of instances may take those of the same live run."""

    def __init__(self, records: LiveRecords, registry: Registry, *, max_bytes: int) -> None:
        self._records = records
        self._registry = registry
        self._max_bytes = max_bytes
        self._known: LRUCache[str, _Known] = LRUCache(2 * MAX_ATTEMPTS, getsizeof=_weight)

    async def add(self, name: str, number: int, body: bytes, key: Key | None) -> PartAnswer:
        """Take a part, or find the same one there. PartConflict or LiveRunClosed otherwise.

        On return a majority has the part and its feed entry, also of one that was there before.
        """
        known = await self._fetch_known(name)
        check_owner(known.document, key)
        benchmark = known.document["benchmark_name"]
        if len(body) > OFF_LOOP_BYTES:
            loop = asyncio.get_running_loop()
            part = await loop.run_in_executor(READERS, read_part, body, benchmark, self._registry)
        else:
            part = read_part(body, benchmark, self._registry)
        created = await self._register(known, number, part)
        self._known[known.id] = known  # weighed anew
        await self._records.settle(known.id)
        return PartAnswer(
            result_name=result_name_of(known.id),
            part=number,
            status=StoreStatus.CREATED if created else StoreStatus.UNCHANGED,
            unchanged=not created,
            sha256=part.digest.hex(),
            questions=len(part.attempts),
            warnings=list(part.warnings),
        )

    async def _fetch_known(self, name: str) -> _Known:
        id_ = stored_id(canonical_result_name(name))
        known = self._known.get(id_)
        if known is None:
            known = _Known(await self._records.fetch_newest(name, WITHOUT_PARTS))
            known.document["head"] = None  # its parts are to be learned
            known = self._known.setdefault(id_, known)
        return known

    async def _register(self, known: _Known, number: int, part: Part) -> bool:
        """Register a part that fits what is there; False if the same part is there already.

        What was written for a part that then lost its place stays until the live run is finished.
        """
        written: StoredPart | None = None
        async with known.turn:
            while True:
                try:
                    await self._refresh(known)
                    if number in known.parts.parts:
                        await self._refuse_other_part(known, known.parts.parts[number], part)
                        return False
                except PartsGone:
                    document = await self._records.fetch_newest(result_name_of(known.id), WITHOUT_PARTS)
                    if document["state"] in OPEN:
                        raise
                    continue  # it was finished since it was read
                self._check_room(known, part)
                known.parts.check_attempts(part.attempts)
                if written is None:
                    written = await self._write_part(known.id, number, part)
                if await self._list_part(known, written, part):
                    return True

    async def _refresh(self, known: _Known) -> None:
        """Learn what other instances did."""
        name = result_name_of(known.id)
        document = await self._records.fetch_newest(name, WITHOUT_PARTS)
        if document["head"] == known.document["head"]:
            known.document = document
            return
        document = await self._records.fetch_newest(name)
        listed = stored_parts(document)
        last = next(reversed(known.parts.parts.values()), None)
        count = len(known.parts.parts)
        if last is not None and listed[count - 1 : count] != [last]:
            known.parts = PartsKnown()  # a primary fell, and what it had not told a majority is gone
            count = 0
        new = listed[count:]
        if document["state"] in OPEN:
            async for part, text in self._records.texts(new, known.id):
                known.parts.add(part, await asyncio.to_thread(attempts_in, text))
        else:
            for part in new:  # nothing is compared with them any more, and their texts may be gone
                known.parts.add(part, ())
        known.document = document

    async def _refuse_other_part(self, known: _Known, stored: StoredPart, part: Part) -> None:
        if stored.digest == part.digest:
            return
        if known.document["state"] != LiveRunState.FINISHED:
            async for _, text in self._records.texts([stored], known.id):
                if await asyncio.to_thread(same_content, b"[" + text + b"]", b"[" + part.text + b"]"):
                    return
        detail = (
            f"part {stored.number} is there with other questions, SHA-256 {stored.digest.hex()[:12]}…; "
            f"these have {part.digest.hex()[:12]}…. Parts are never overwritten: send yours under another number"
        )
        raise PartConflict(detail, faults=[Fault(place="part", detail=detail)], result_name=result_name_of(known.id))

    def _check_room(self, known: _Known, part: Part) -> None:
        document = known.document
        if document["state"] != LiveRunState.LIVE:
            raise closed(document)
        if document["part_count"] >= MAX_PARTS:
            raise TooLarge(f"a live run may have at most {MAX_PARTS:,} parts; finish it")
        if document["questions"] + len(part.attempts) > MAX_ATTEMPTS:
            raise TooLarge(f"a live run may have at most {MAX_ATTEMPTS:,} attempts at questions; finish it")
        if document["bytes"] + len(part.text) + 1 > self._max_bytes:
            raise TooLarge(f"a result may have at most {self._max_bytes:,} bytes (setting MAX_BODY_BYTES); finish it")

    async def _write_part(self, id_: str, number: int, part: Part) -> StoredPart:
        packed = (
            await asyncio.to_thread(compress, part.text) if len(part.text) > OFF_LOOP_BYTES else compress(part.text)
        )
        if len(packed) > PACKED_MAX:
            raise TooLarge(f"a part may have at most {PACKED_MAX:,} bytes after compression, this has {len(packed):,}")
        stored = StoredPart(number, uuid4().hex, part.digest, len(part.text))
        async with self._records.mongo.answering():
            await self._records.parts.insert_one({"_id": f"{id_}/{stored.id}", "zstd": Binary(packed)})
        return stored

    async def _list_part(self, known: _Known, stored: StoredPart, part: Part) -> bool:
        """Register a written part; False if the live run is not as it was known any more."""
        now = utc_now()
        as_known = {"_id": known.id, "state": LiveRunState.LIVE.value, "head": known.document["head"]}
        comma = 1 if known.parts.parts else 0
        changes = {
            "$set": {"head": stored.id, "active_at": now, "last_part_at": now, "settled": False},
            "$push": {"parts": part_document(stored)},
            "$inc": {"part_count": 1, "questions": len(part.attempts), "bytes": len(part.text) + comma},
        }
        async with self._records.mongo.answering():
            document = await self._records.runs.find_one_and_update(
                as_known, changes, projection=WITHOUT_PARTS, return_document=ReturnDocument.AFTER
            )
        if document is None:
            return False
        known.parts.add(stored, part.attempts)
        known.document = document
        return True

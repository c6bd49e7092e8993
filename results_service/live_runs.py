"""Live runs: results that come in parts while they are being measured, and are finished or discarded at the end.

A part has these steps, each with a majority before the next:

1. its questions, in a document of their own. A crash after it leaves what no live run lists.
2. its registration: one update of the live run's document, conditional on the run being live and on `head`, so that
   whoever registers has compared the part with every other one, and none comes after a finish.
3. its feed entry, then the acknowledgement. A crash before it leaves `settled: false`; repair enters it.

A finish has these:

1. state `finishing`, conditional on `head`: it takes no part more, and knows all that were acknowledged.
2. the result, by `ResultStore.put`, whose feed entry tells of it. The bytes depend on the parts alone, so whoever does
   this again, a repair or another instance, stores the same.
3. state `finished`; then the parts' documents are removed, for the result holds them byte for byte.

A whole result may be pushed under the name of a live run. To refuse it, every push would have to look for a live run
first; and a stored result is the truth, whichever way it came. The live run can then only be finished with the same
content, or discarded.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import structlog
from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError

from results_service.documents import result_name_of, stored_id
from results_service.feed import Feed
from results_service.live_finish import complete, finish
from results_service.live_parts import LiveParts
from results_service.live_records import OPEN, LiveRecords, PartsGone, utc_now
from results_service.live_run_documents import (
    WITHOUT_PARTS,
    check_owner,
    closed,
    cursor_after,
    list_filter,
    live_questions,
    live_run,
    live_run_detail,
    new_live_run,
    refuse_other_words,
)
from results_service.mongo import Document, Mongo
from results_service.store import ResultStore
from shared.keys import Key
from shared.problems import NotFound, Problem, ResultConflict, StoreUnavailable
from shared.registry.specs import Registry
from shared.results import (
    CorrectionRequest,
    LiveRun,
    LiveRunDetail,
    LiveRunPage,
    LiveRunState,
    OpenedLiveRun,
    ResultKind,
)
from shared.submission import Envelope

log = structlog.get_logger(__name__)


class LiveRuns:
    """The live runs of one database; any number of instances may work on the same one."""

    def __init__(
        self, mongo: Mongo, feed: Feed, store: ResultStore, registry: Registry, *, abandoned_s: float, max_bytes: int
    ) -> None:
        self._mongo = mongo
        self._store = store
        self._registry = registry
        self._abandoned_after = timedelta(seconds=abandoned_s)
        self._records = LiveRecords(mongo, feed)
        self.parts = LiveParts(self._records, registry, max_bytes=max_bytes)

    async def prepare(self) -> None:
        """Make the indexes; those that are there stay."""
        await self._records.prepare()

    async def open(self, envelope: Envelope, key: Key | None) -> OpenedLiveRun:
        """Open a live run, or find it open with the same words. ResultNameTaken, ResultConflict or LiveRunClosed."""
        name = envelope.result_name
        async with self._mongo.answering():
            results = self._mongo.newest(ResultKind.STANDARDIZED)
            stored = await results.find_one({"_id": stored_id(name)}, {"_id": 1})
        document = new_live_run(envelope, key.id if key else None, uuid4().hex, utc_now())
        created = stored is None
        if stored is None:
            async with self._mongo.answering():
                try:
                    await self._records.runs.insert_one(document)
                except DuplicateKeyError:
                    created = False
        if not created:
            document = await self._find_opened(envelope, key, is_stored=stored is not None)
            await self._records.confirm(document["_id"])
        registered = envelope.benchmark_name in self._registry.benchmarks
        unread = f"benchmark {envelope.benchmark_name!r} is not registered: analysed once a registry file describes it"
        return OpenedLiveRun(
            **live_run(document, self._abandoned_before()).model_dump(),
            unchanged=not created,
            warnings=[] if registered else [unread],
        )

    async def _find_opened(self, envelope: Envelope, key: Key | None, *, is_stored: bool) -> Document:
        """The live run that has this name, if whoever opened it may go on: also from where it was finished."""
        name = envelope.result_name
        try:
            document = await self._records.fetch_newest(name, WITHOUT_PARTS)
        except NotFound:
            document = {"state": None}
        if is_stored and document["state"] != LiveRunState.FINISHED:
            raise ResultConflict(
                f"{name} is stored as a result already; open the live run under another run_id", result_name=name
            )
        refuse_other_words(document, envelope)
        check_owner(document, key)
        if document["state"] == LiveRunState.DISCARDED:
            raise closed(document)
        return document

    async def finish(self, name: str, parts: int | None, key: Key | None) -> LiveRun:
        """Make the result of a live run of exactly `parts` parts, or of those that are there.

        LiveRunIncomplete or LiveRunClosed otherwise; ResultConflict if a whole result was pushed under its name. On
        return a majority has the result and its feed entry, also of one that was finished before.
        """
        finished = await finish(self._records, self._store, name, parts, key)
        return live_run(finished, self._abandoned_before())

    async def discard(self, name: str, request: CorrectionRequest, key: Key | None) -> LiveRun:
        """Close a live run without a result; its parts stay stored. LiveRunClosed if it is finished."""
        discarded = {
            "author": request.author,
            "reason": request.reason,
            "at": utc_now(),
            "key": key.id if key else None,
        }
        while True:
            document = await self._records.fetch_newest(name, WITHOUT_PARTS)
            check_owner(document, key)
            state = LiveRunState(document["state"])
            if state in (LiveRunState.FINISHING, LiveRunState.FINISHED):
                raise closed(document)
            if state is LiveRunState.DISCARDED:
                await self._records.settle(document["_id"])
                return live_run(document, self._abandoned_before())
            changes = {"state": LiveRunState.DISCARDED.value, "discarded": discarded, "settled": False}
            async with self._mongo.answering():
                await self._records.runs.update_one({"_id": document["_id"], "state": state.value}, {"$set": changes})

    async def page(
        self, state: LiveRunState | None, abandoned: bool | None, limit: int, cursor: str | None
    ) -> LiveRunPage:
        """At most `limit` live runs, newest timestamp first, from `cursor` on. InvalidRequest for another list's."""
        before = self._abandoned_before()
        query = list_filter(state, abandoned, cursor, before)
        async with self._mongo.answering():
            found = self._records.runs.find(query, WITHOUT_PARTS, sort=[("_id", DESCENDING)], limit=limit + 1)
            documents = await found.to_list(limit + 1)
        more = len(documents) > limit
        return LiveRunPage(
            items=[live_run(document, before) for document in documents[:limit]],
            next_cursor=cursor_after(documents[limit - 1], state, abandoned) if more else None,
        )

    async def get(self, name: str) -> LiveRunDetail:
        """The live run of this name, its time in any spelling; NotFound if there is none."""
        return live_run_detail(await self._records.fetch(name), self._abandoned_before())

    async def read_questions(self, name: str) -> AsyncIterator[bytes]:
        """A `LiveQuestions` as JSON, piece by piece; NotFound if there is no such live run."""
        while True:
            document = await self._records.fetch(name)
            data = self._records.data(document) if document["state"] in OPEN else _pieces(b"{}")
            try:
                first = await anext(data)
            except PartsGone:
                continue  # it was finished since it was read
            return _questions_json(document, first, data)

    async def repair(self) -> None:
        """Do what a crash kept from being done: entries into the feed, and results of runs that are being finished."""
        for document in await self._records.fetch_unsettled():
            await self._mend(document["_id"])

    async def keep_repaired(self, every_s: float) -> None:
        """The same now and then, for ever; what has not moved since the look before is nobody's work in progress."""
        before: set[tuple[str, str, str]] = set()
        while True:
            await asyncio.sleep(every_s)
            try:
                unsettled = {
                    (found["_id"], found["state"], found["head"]) for found in await self._records.fetch_unsettled()
                }
                for id_, _, _ in unsettled & before:
                    await self._mend(id_)
                before = unsettled
            except StoreUnavailable as problem:
                log.warning("live runs not repaired, will try again", reason=problem.detail)
            except Exception:  # or one fault that nobody foresaw would end the repairs for good
                log.exception("live runs not repaired, will try again")

    async def _mend(self, id_: str) -> None:
        name = result_name_of(id_)
        log.warning("completing what a crash left of a live run", result_name=name)
        document = await self._records.fetch_newest(name)
        try:
            if document["state"] == LiveRunState.FINISHING:
                await complete(self._records, self._store, document)
            else:
                await self._records.settle(id_)
        except StoreUnavailable:
            raise
        except Problem as problem:  # of this one; the others are to be mended all the same
            log.warning("a live run could not be completed", result_name=name, reason=problem.detail)

    def _abandoned_before(self) -> datetime:
        return utc_now() - self._abandoned_after


async def _questions_json(document: Document, first: bytes, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    fields = json.dumps(live_questions(document), ensure_ascii=False).encode()
    digest = sha256(first)
    yield fields.removesuffix(b"}") + b',"data":' + first
    async for piece in data:
        digest.update(piece)
        yield piece
    yield b',"sha256":"' + digest.hexdigest().encode() + b'"}'


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data

"""Compares the stored results with the feed, and mends the feed.

The feed promises: for each standardized result, and each correction of one, one event; seqs without gaps; no result
that is not there. Everything is read in pages, each statement under the time limit, beside whoever is writing: an
envelope is stored before its events, so each is looked for after the other was seen. Files that are kept with raw
inputs are in no feed; of those it is looked whether all chunks are there.

Nothing that a reader of the feed may have seen is ever changed. An event that is missing is appended, which is as good
as if it had happened now. Where a seq is missing, it is filled with the event of the next result in the feed told once
more: who has yet to pass it applies that result twice, and so once.
"""

import asyncio
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence

from pymongo import ASCENDING
from pymongo.errors import BulkWriteError

from results_service.attachments import COLLECTION as ATTACHMENTS
from results_service.attachments import AttachedFile, missing_chunks
from results_service.documents import result_name_of, stored_id
from results_service.feed import Event, Feed, events_of
from results_service.mongo import Document, Mongo, collisions
from shared.reconciliation import Reason, ReconciliationLine, Tally
from shared.results import LIVE_KINDS, FeedKind, ResultKind

RESULTS_PAGE = 500
FEED_PAGE = 1_000
PATIENCE_S = 2.0
"""How long it is waited at the end for writes that were under way; after that, a crash has left them."""
_PAUSE_S = 0.05
_UNDER_WAY_MAX = 10_000
"""Events of results that are not settled yet, at most: more than are ever being written at once."""

REASONS = {
    "event-missing": Reason(
        "a stored result, or a correction of one, is not in the feed: the analysis never hears of it",
        "run `scorehouse check --repair`: it appends the event",
    ),
    "other-sha256": Reason(
        "the feed tells another SHA-256 of a result than the stored one has",
        "run `scorehouse check --repair`: it appends an event with the stored one",
    ),
    "feed-gap": Reason(
        "the feed lacks a seq: the analysis stops before it",
        "run `scorehouse check --repair`: it fills the place with an event told once more",
    ),
    "file-damaged": Reason(
        "a file that is kept with a raw input lacks some of its bytes: it cannot be downloaded",
        "restore the collection `blobs` from a backup, or import the same file again: what it lacks is stored again",
    ),
    "result-absent": Reason(
        "the feed names a result that is not stored: the analysis keeps it, or waits for it",
        "restore it from a backup, or push it again: the results service has lost it",
    ),
}


async def reconcile(mongo: Mongo, feed: Feed, *, repair: bool) -> AsyncGenerator[ReconciliationLine, None]:
    """Compare, and with `repair` mend; lines of progress, then the report. StoreUnavailable ends it."""
    tally = Tally(REASONS)
    async with mongo.answering():
        total = await mongo.collection(ResultKind.STANDARDIZED).estimated_document_count()
    yield tally.progress("results", 0, total)
    under_way: dict[str, Event] = {}
    async for envelopes in _pages(mongo, ResultKind.STANDARDIZED, {"data": 0, "summary": 0}, RESULTS_PAGE):
        await _compare_envelopes(mongo, feed, envelopes, tally, under_way, repair=repair)
        tally.results += len(envelopes)
        yield tally.progress("results", tally.results, total)
    await _append(feed, await _wait_for(mongo, under_way), tally, repair=repair)
    head = await feed.head()
    last = 0
    async for entries in _pages(mongo, "feed", {"result_name": 1, "kind": 1, "sha256": 1}, FEED_PAGE):
        await _compare_entries(mongo, entries, last, tally, repair=repair)
        last = int(entries[-1]["_id"])
        tally.entries += len(entries)
        yield tally.progress("feed", last, head)
    async with mongo.answering():
        total = await mongo.collection(ATTACHMENTS).estimated_document_count()
    checked = 0
    async for attached in _pages(mongo, ATTACHMENTS, {"raw": 1, "path": 1, "sha256": 1, "bytes": 1}, RESULTS_PAGE):
        await _look_for_chunks(mongo, attached, tally)
        checked += len(attached)
        yield tally.progress("files", checked, total)
    yield tally.report()


async def _pages(mongo: Mongo, name: str, projection: Document, size: int) -> AsyncIterator[list[Document]]:
    """The documents of a collection by `_id`, a page at a time: a statement each, so that none lives long."""
    beyond: Document = {}
    while True:
        async with mongo.answering():
            cursor = mongo.collection(name).find(beyond, projection, sort=[("_id", ASCENDING)], limit=size)
            documents = await cursor.to_list(size)
        if not documents:
            return
        yield documents
        beyond = {"_id": {"$gt": documents[-1]["_id"]}}


async def _compare_envelopes(
    mongo: Mongo, feed: Feed, envelopes: Sequence[Document], tally: Tally, under_way: dict[str, Event], *, repair: bool
) -> None:
    """Look for the events of these results, and with `repair` append those that are missing.

    Of results that are not settled they may be coming just now, and are put into `under_way`.
    """
    expected = [event for envelope in envelopes for event in events_of(envelope)]
    known = await _entered(mongo, (event.key for event in expected))
    missing = {event.key: event for event in expected if event.key not in known}
    if len(under_way) < _UNDER_WAY_MAX:
        unsettled = (event.key for envelope in envelopes if not envelope["settled"] for event in events_of(envelope))
        under_way |= {key: missing.pop(key) for key in unsettled if key in missing}
    await _append(feed, missing.values(), tally, repair=repair)
    differing = [event for event in expected if event.key in known and known[event.key] != event.sha256]
    if differing:
        await _compare_sha256(mongo, feed, differing, known, tally, repair=repair)


async def _wait_for(mongo: Mongo, under_way: Mapping[str, Event]) -> list[Event]:
    """Those that do not come within `PATIENCE_S`; nearly all came while the other results were compared."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    missing = list(under_way.values())
    while True:
        known = await _entered(mongo, (event.key for event in missing))
        missing = [event for event in missing if event.key not in known]
        if not missing or loop.time() >= deadline:
            return missing
        await sleep(_PAUSE_S)


async def _append(feed: Feed, missing: Collection[Event], tally: Tally, *, repair: bool) -> None:
    if repair:
        await feed.append(list(missing))
    for event in missing:
        tally.add("event-missing", event.result_name, f"{event.key} is not in the feed", repaired=repair)


async def _compare_sha256(
    mongo: Mongo, feed: Feed, differing: Sequence[Event], known: dict[str, str], tally: Tally, *, repair: bool
) -> None:
    """Results that were lost and pushed again with other content: their first event stays, another one follows."""
    told_again = {
        f"result:{event.result_name}:{event.sha256}": (event, known[event.key]) for event in differing
    }  # one a result, however many corrections it has
    entered = await _entered(mongo, told_again)
    missing = {key: pair for key, pair in told_again.items() if key not in entered}
    if repair and missing:
        await feed.append(
            [Event(key, FeedKind.RESULT, event.result_name, event.sha256) for key, (event, _) in missing.items()]
        )
    for event, before in missing.values():
        detail = f"SHA-256 is {before[:12]}… in the feed, {event.sha256[:12]}… in the store"
        tally.add("other-sha256", event.result_name, detail, repaired=repair)


async def _entered(mongo: Mongo, keys: Iterable[str]) -> dict[str, str]:
    """Key → SHA-256 of those events that the feed has."""
    found: dict[str, str] = {}
    wanted = list(keys)
    for start in range(0, len(wanted), RESULTS_PAGE):
        some = wanted[start : start + RESULTS_PAGE]
        async with mongo.answering():
            cursor = mongo.collection("feed").find({"event": {"$in": some}}, {"event": 1, "sha256": 1})
            found |= {entry["event"]: entry["sha256"] for entry in await cursor.to_list(None)}
    return found


async def _compare_entries(mongo: Mongo, entries: Sequence[Document], last: int, tally: Tally, *, repair: bool) -> None:
    """Look for the results of these entries, and for seqs between `last` and the end that are missing."""
    names = {str(entry["result_name"]) for entry in entries if entry["kind"] not in LIVE_KINDS}
    ids = {stored_id(name): name for name in names}
    async with mongo.answering():
        cursor = mongo.collection(ResultKind.STANDARDIZED).find({"_id": {"$in": list(ids)}}, {"_id": 1})
        stored = {ids[document["_id"]] for document in await cursor.to_list(None)}
    for entry in entries:
        name = entry["result_name"]
        if entry["kind"] not in LIVE_KINDS and name not in stored:
            tally.add("result-absent", name, f"entry {entry['_id']} names it, but it is not stored", repaired=False)
    for index, entry in enumerate(entries):
        seq = int(entry["_id"])
        if seq != last + 1:
            teller = next((later for later in entries[index:] if _tells(later, stored)), None)
            filled = repair and teller is not None and await _fill(mongo, range(last + 1, seq), teller)
            place = f"entry {last + 1}" if seq == last + 2 else f"entries {last + 1} to {seq - 1}"
            tally.add("feed-gap", place, "is missing from the feed", repaired=filled, times=seq - last - 1)
        last = seq


def _tells(entry: Document, stored: Collection[str]) -> bool:
    """Whether an entry is about a result that is there; the digest of a live run's part is not that of its result."""
    return entry["kind"] not in LIVE_KINDS and entry["result_name"] in stored


async def _look_for_chunks(mongo: Mongo, attached: Sequence[Document], tally: Tally) -> None:
    """A file's chunks are stored before it is attached, so those of each that was seen are there."""
    files = [AttachedFile.of(document) for document in attached]
    missing = await missing_chunks(mongo, files)
    for document, file in zip(attached, files, strict=True) if missing else ():
        if lacking := len(missing.intersection(file.chunk_ids)):
            detail = f"{file.path} lacks {lacking:,} of its {file.chunks:,} chunks"
            tally.add("file-damaged", result_name_of(document["raw"]), detail, repaired=False)


async def _fill(mongo: Mongo, seqs: range, teller: Document) -> bool:
    """Tell the event of `teller` at each of these seqs again. Another instance may be doing the same."""
    for start in range(seqs.start, seqs.stop, FEED_PAGE):
        documents = [
            {
                "_id": seq,
                "event": f"gap:{seq}",
                "kind": FeedKind.RESULT.value,
                "result_name": teller["result_name"],
                "sha256": teller["sha256"],
            }
            for seq in range(start, min(start + FEED_PAGE, seqs.stop))
        ]
        async with mongo.answering():
            try:
                await mongo.collection("feed").insert_many(documents, ordered=False)
            except BulkWriteError as error:
                collisions(error)  # raises what is none
    return True

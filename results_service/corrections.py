"""Corrections: a stored result is invalidated or restored, and its history says by whom, when and why.

Nothing is overwritten or deleted. Each correction is one conditional update of the envelope, so that what two
instances do at once comes in one order: that of the history. Its event names its place in there. The steps are those of
a result (`results_service.store`): the envelope with `settled: false`, the feed entry, `settled: true`; repair mends
what a crash left in between. Whoever reads the feed takes the state as it is then, so that the last entry about a
result tells what holds.
"""

from collections.abc import Sequence

from pymongo import ReturnDocument

from results_service.documents import corrected_result, stored_id, with_history_of
from results_service.feed import Event, Feed, events_of
from results_service.mongo import Document, Mongo
from shared.keys import Key
from shared.problems import Fault, NotFound, invalid
from shared.results import (
    Correction,
    CorrectionAction,
    CorrectionAnswer,
    CorrectionRequest,
    ResultKind,
    ResultState,
)
from shared.timestamps import canonical_result_name, now

_BEFORE = {
    CorrectionAction.INVALIDATED: ResultState.VALID,
    CorrectionAction.RESTORED: ResultState.INVALIDATED,
}
_AFTER = {
    CorrectionAction.INVALIDATED: ResultState.INVALIDATED,
    CorrectionAction.RESTORED: ResultState.VALID,
}
MAX_CORRECTIONS = 100
"""Of one result: a history is read with every list that the result is in."""
_ENVELOPE = {"data": 0}
"""Small data rides in the envelope; a correction has no use for it."""


async def correct(
    mongo: Mongo,
    feed: Feed,
    kind: ResultKind,
    name: str,
    action: CorrectionAction,
    request: CorrectionRequest,
    key: Key | None,
) -> CorrectionAnswer:
    """Invalidate or restore a result, its time in any spelling; NotFound if there is none.

    A result that is in that state already stays as it is, `unchanged`. On return a majority has the correction and its
    feed entry, also one that was made before.
    """
    name = canonical_result_name(name)
    correction = Correction(
        action=action, author=request.author, reason=request.reason, at=now(), key=key.id if key else None
    )
    while True:
        envelope = await _record(mongo, kind, name, correction)
        if envelope is not None:
            events = events_of(envelope)[-1:] if envelope["settled"] else events_of(envelope)
            await _settle(mongo, feed, kind, envelope, events)
            return _answer(envelope, unchanged=False)
        envelope = await _fetch_newest(mongo, kind, name)
        if envelope["state"] == _AFTER[action]:
            await _settle(mongo, feed, kind, envelope, [] if envelope["settled"] else events_of(envelope))
            return _answer(envelope, unchanged=True)
        if len(envelope.get("history", ())) >= MAX_CORRECTIONS:
            detail = f"{name} was corrected {MAX_CORRECTIONS} times, which is as often as a result can be"
            raise invalid(Fault(place="history", detail=detail))
        # Otherwise it was in that state a moment ago and is not any more, or has only just been stored.


async def _record(mongo: Mongo, kind: ResultKind, name: str, correction: Correction) -> Document | None:
    """The envelope with the correction, `settled` as it was before; None if its state is not the one to correct."""
    corrected: Document = {
        "_id": stored_id(name),
        "state": _BEFORE[correction.action].value,
        f"history.{MAX_CORRECTIONS - 1}": {"$exists": False},
    }
    changes: Document = {"state": _AFTER[correction.action].value}
    if kind is ResultKind.STANDARDIZED:
        changes["settled"] = False
    entry = correction.model_dump(mode="json")
    async with mongo.answering():
        before: Document | None = await mongo.collection(kind).find_one_and_update(
            corrected,
            {"$set": changes, "$push": {"history": entry}},
            projection=_ENVELOPE,
            return_document=ReturnDocument.BEFORE,
        )
    if before is None:
        return None
    return before | {"state": changes["state"], "history": [*before.get("history", ()), entry]}


async def _fetch_newest(mongo: Mongo, kind: ResultKind, name: str) -> Document:
    async with mongo.answering():
        envelope: Document | None = await mongo.newest(kind).find_one({"_id": stored_id(name)}, _ENVELOPE)
    if envelope is None:
        raise NotFound(f"no {kind} is called {name!r}; GET /{kind} lists those that are stored")
    return envelope


async def _settle(mongo: Mongo, feed: Feed, kind: ResultKind, envelope: Document, events: Sequence[Event]) -> None:
    """Enter `events`, and have a majority of it all.

    `settled` is set only while the history is the one whose events were entered: a correction that came in between has
    its own to enter first. Where there is nothing to change, the update still waits for a majority of what was read.
    """
    if events and kind is ResultKind.STANDARDIZED:
        await feed.append(events)
    async with mongo.answering():
        await mongo.collection(kind).update_one(with_history_of(envelope), {"$set": {"settled": True}})


def _answer(envelope: Document, *, unchanged: bool) -> CorrectionAnswer:
    return CorrectionAnswer(**corrected_result(envelope).model_dump(), unchanged=unchanged)

"""Makes results of live runs; `results_service.live_runs` argues the order of its steps."""

import asyncio
from hashlib import sha256

from results_service.blobs import CHUNK_BYTES, new_upload
from results_service.documents import envelope_of
from results_service.intake import NewResult
from results_service.live_records import LiveRecords, PartsGone, utc_now
from results_service.live_run_documents import WITHOUT_PARTS, check_complete, check_owner, closed
from results_service.mongo import Document
from results_service.store import ResultStore
from shared.compression import compress
from shared.keys import Key
from shared.problems import ResultConflict, ResultNameTaken
from shared.results import LiveRunState, ResultKind


async def finish(records: LiveRecords, store: ResultStore, name: str, parts: int | None, key: Key | None) -> Document:
    """Make the result of a live run of exactly `parts` parts, or of those that are there.

    LiveRunIncomplete or LiveRunClosed otherwise; ResultConflict if a whole result was pushed under its name. On
    return a majority has the result and its feed entry, also of one that was finished before.
    """
    while True:
        document = await records.fetch_newest(name)
        check_owner(document, key)
        state = LiveRunState(document["state"])
        if state is LiveRunState.DISCARDED:
            raise closed(document)
        check_complete(document, parts)
        if state is LiveRunState.FINISHED:
            await records.confirm(document["_id"])
            return document
        if state is LiveRunState.LIVE:
            as_read = {"_id": document["_id"], "state": state.value, "head": document["head"]}
            finishing = {"$set": {"state": LiveRunState.FINISHING.value, "settled": False}}
            async with records.mongo.answering():
                changed = await records.runs.update_one(as_read, finishing)
            if not changed.matched_count:
                continue  # a part came in between, or another finish
        try:
            await complete(records, store, document)
        except PartsGone:
            if (await records.fetch_newest(name, WITHOUT_PARTS))["state"] != LiveRunState.FINISHED:
                raise


async def complete(records: LiveRecords, store: ResultStore, document: Document) -> None:
    """Store the result of a live run that takes no part more, and close it."""
    id_ = document["_id"]
    finishing = {"_id": id_, "state": LiveRunState.FINISHING.value}
    result = await _put_together(records, document)
    try:
        await store.put(result)
    except (ResultConflict, ResultNameTaken) as problem:
        async with records.mongo.answering():
            await records.runs.update_one(finishing, {"$set": {"state": LiveRunState.LIVE.value}})
        raise ResultConflict(
            f"{result.result_name} was pushed whole, with other content, while the live run was open. What is "
            "stored stays; discard the live run, and open another under another run_id if its parts are right.",
            faults=problem.faults,
            result_name=result.result_name,
        ) from problem
    async with records.mongo.answering():
        stored = await records.mongo.collection(ResultKind.STANDARDIZED).find_one({"_id": id_}, {"sha256": 1})
    finished = {
        "state": LiveRunState.FINISHED.value,
        "finished_at": utc_now(),
        "sha256": stored["sha256"] if stored else result.sha256,
        "settled": True,
    }
    async with records.mongo.answering():
        await records.runs.update_one(finishing, {"$set": finished})
        await records.parts.delete_many({"_id": {"$gte": f"{id_}/", "$lt": f"{id_}0"}})  # '0' follows '/'


async def _put_together(records: LiveRecords, document: Document) -> NewResult:
    upload = new_upload(records.mongo)
    small = document["bytes"] <= CHUNK_BYTES
    digest, size, held = sha256(), 0, bytearray()
    try:
        async for piece in records.data(document):
            digest.update(piece)
            size += len(piece)
            if small:
                held += piece
            else:
                await upload.write(piece)
        if not small:
            await upload.finish()
    except BaseException:
        await upload.discard()
        raise
    return NewResult(
        kind=ResultKind.STANDARDIZED,
        envelope=envelope_of(document),
        content=await asyncio.to_thread(compress, bytes(held)) if small else upload,
        size=size,
        sha256=digest.hexdigest(),
        questions=document["questions"],
        summary={},
        warnings=(),
        from_live_run=True,
    )

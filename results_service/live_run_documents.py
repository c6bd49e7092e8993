"""Live runs as MongoDB holds them: to a document, back from it, their events, and lists of them. Pure.

`parts` lists the registered parts in the order in which they came, `head` is the id of the last of them (of the
opening, before the first): a change that is conditional on `head` knows every part there is. `entered` of the parts are
in the feed, and `settled` says that nothing is left to do for the state that the document is in.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import TypeAdapter

from results_service.documents import (
    envelope_faults,
    envelope_fields,
    envelope_of,
    identity_faults,
    result_name_of,
)
from results_service.feed import Event
from results_service.mongo import Document
from results_service.parts import EMPTY_DATA, MAX_PARTS, StoredPart
from shared.cursors import seal, unseal
from shared.keys import Key, Scope
from shared.problems import (
    Fault,
    LiveRunClosed,
    LiveRunIncomplete,
    NotOwner,
    ResultConflict,
    ResultNameTaken,
)
from shared.results import (
    Discard,
    FeedKind,
    LiveQuestions,
    LiveRun,
    LiveRunDetail,
    LiveRunState,
    ResultKind,
    ResultState,
)
from shared.submission import Envelope
from shared.timestamps import canonical_timestamp

WITHOUT_PARTS: Document = {"parts": 0}
"""A projection, for the list may be long."""
UNENTERED: Document = {
    **dict.fromkeys(("state", "head", "part_count"), 1),
    "parts": {"$slice": ["$parts", "$entered", MAX_PARTS]},
}
"""A projection to what is left to be entered into the feed."""

_PLACE = TypeAdapter(tuple[str])


def new_live_run(envelope: Envelope, owner: str | None, head: str, at: datetime) -> Document:
    """The document of a live run that is opened now."""
    return {
        **envelope_fields(envelope),
        "state": LiveRunState.LIVE.value,
        "owner": owner,
        "opened_at": at,
        "last_part_at": None,
        "active_at": at,
        "head": head,
        "parts": [],
        "part_count": 0,
        "questions": 0,
        "bytes": len(EMPTY_DATA),
        "entered": 0,
        "settled": True,
    }


def part_document(part: StoredPart) -> Document:
    """A part as the live run lists it."""
    return {"n": part.number, "id": part.id, "sha256": part.digest, "bytes": part.size}


def stored_parts(document: Document) -> list[StoredPart]:
    """The parts that a live run lists, in the order in which they came."""
    return [StoredPart(part["n"], part["id"], bytes(part["sha256"]), part["bytes"]) for part in document["parts"]]


def events_of_live_run(document: Document) -> Iterable[Event]:
    """What happened to a live run, of the parts that were read: those parts, and its end if it was discarded.

    That it was finished is an event of its result.
    """
    name = result_name_of(document["_id"])
    for part in stored_parts(document) if document["state"] != LiveRunState.FINISHED else ():
        yield Event(f"part:{name}:{part.number}", FeedKind.PART, name, part.digest.hex())
    if document["state"] == LiveRunState.DISCARDED:
        yield Event(f"discarded:{name}", FeedKind.DISCARDED, name, "")


def live_run(document: Document, abandoned_before: datetime) -> LiveRun:
    """The wire form; a live one that was last active before that time is told to be abandoned."""
    return LiveRun.model_validate(_wire_fields(document, abandoned_before))


def live_run_detail(document: Document, abandoned_before: datetime) -> LiveRunDetail:
    """The same with the numbers of the parts."""
    numbers = sorted(part.number for part in stored_parts(document))
    return LiveRunDetail.model_validate(_wire_fields(document, abandoned_before) | {"part_numbers": numbers})


def _wire_fields(document: Document, abandoned_before: datetime) -> Document:
    live = document["state"] == LiveRunState.LIVE
    discarded = document.get("discarded")
    return {
        **envelope_of(document).model_dump(),
        "result_name": result_name_of(document["_id"]),
        "state": document["state"],
        "abandoned": live and document["active_at"] < abandoned_before,
        "owner": document["owner"],
        "opened_at": _told(document["opened_at"]),
        "last_part_at": _told(document["last_part_at"]),
        "parts": document["part_count"],
        "questions": document["questions"],
        "bytes": document["bytes"],
        "finished_at": _told(document.get("finished_at")),
        "sha256": document.get("sha256"),
        "discarded": discarded and Discard.model_validate(discarded | {"at": _told(discarded["at"])}),
    }


def _told(at: datetime | None) -> str | None:
    return None if at is None else canonical_timestamp(at.astimezone(UTC).isoformat())


def live_questions(document: Document) -> Document:
    """What `LiveQuestions` says of a live run before its data and their digest."""
    fields = envelope_of(document).model_dump(include=set(LiveQuestions.model_fields))
    state = {"state": ResultState.VALID.value, "live": document["state"]}
    return {"result_name": result_name_of(document["_id"]), **fields, **state}


def check_owner(document: Document, key: Key | None) -> None:
    """NotOwner unless the key may change the live run. Where keys are disabled, or were when it was opened, all may."""
    owner = document["owner"]
    if key is None or owner is None or key.id == owner or Scope.ADMIN in key.scopes:
        return
    name = result_name_of(document["_id"])
    raise NotOwner(
        f"{name} was opened with the API key {owner!r}, and this is {key.id!r}; use that one, or one with admin",
        result_name=name,
    )


def closed(document: Document) -> LiveRunClosed:
    name = result_name_of(document["_id"])
    words = {
        LiveRunState.FINISHING: "is being finished; it takes no more parts",
        LiveRunState.FINISHED: f"is finished: GET /{ResultKind.STANDARDIZED}/{name} has the result",
        LiveRunState.DISCARDED: "was discarded; open another under another run_id",
    }
    return LiveRunClosed(f"{name} {words[LiveRunState(document['state'])]}", result_name=name)


def refuse_other_words(stored: Document, envelope: Envelope) -> None:
    """ResultNameTaken or ResultConflict if a live run of the same name was opened with other words."""
    name = envelope.result_name
    if faults := identity_faults(stored, envelope):
        raise ResultNameTaken(
            f"{name} is the name of another live run: {_line(faults)}. Open yours under another run_id.",
            faults=faults,
            result_name=name,
        )
    if faults := envelope_faults(stored, envelope):
        raise ResultConflict(
            f"{name} was opened with other words: {_line(faults)}. Go on with it as it is, or open yours under another "
            "run_id.",
            faults=faults,
            result_name=name,
        )


def check_complete(document: Document, parts: int | None) -> None:
    """LiveRunIncomplete unless the live run has parts, and exactly 1…`parts` where that is given."""
    name = result_name_of(document["_id"])
    there = {part.number for part in stored_parts(document)}
    if not there:
        raise LiveRunIncomplete(f"{name} has no parts: send some, or discard it", result_name=name)
    if parts is None:
        return
    missing = [number for number in range(1, parts + 1) if number not in there]
    beyond = sorted(number for number in there if number > parts)
    said = [f"{_some(missing)} missing"] if missing else []
    said += [f"{_some(beyond)} beyond the {parts} that you name"] if beyond else []
    if said:
        raise LiveRunIncomplete(f"{name}: {'; '.join(said)}", result_name=name)


def _some(numbers: list[int], most: int = 20) -> str:
    more = len(numbers) - most
    listed = ", ".join(map(str, numbers[:most])) + (f" and {more} more" if more > 0 else "")
    return f"part {listed}" if len(numbers) == 1 else f"parts {listed}"


def list_filter(
    state: LiveRunState | None, abandoned: bool | None, cursor: str | None, abandoned_before: datetime
) -> Document:
    """The MongoDB filter of a page; InvalidRequest for a cursor that is not of this list."""
    clauses: list[Document] = []
    if state is not None:
        clauses.append({"state": state.value})
    if abandoned is True:
        clauses.append({"state": LiveRunState.LIVE.value, "active_at": {"$lt": abandoned_before}})
    if abandoned is False:
        not_live = {"state": {"$ne": LiveRunState.LIVE.value}}
        clauses.append({"$or": [not_live, {"active_at": {"$gte": abandoned_before}}]})
    if cursor is not None:
        clauses.append({"_id": {"$lt": unseal(cursor, _list_of(state, abandoned), _PLACE)[0]}})
    return {"$and": clauses} if clauses else {}


def cursor_after(document: Document, state: LiveRunState | None, abandoned: bool | None) -> str:
    """An opaque word for the place after a live run in the list of these filters."""
    return seal([document["_id"]], _list_of(state, abandoned))


def _list_of(state: LiveRunState | None, abandoned: bool | None) -> list[object]:
    return ["live_runs", state, abandoned]


def _line(faults: Sequence[Fault]) -> str:
    return "; ".join(f"{fault.place} {fault.detail}" for fault in faults)

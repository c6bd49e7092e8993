"""Envelopes as MongoDB holds them: to a document, back from it, and compared. Pure.

`_id` is the result's name without the `Z` of its time. Names then sort as time does, fractions included, since in bytes
'-' < '.' < '0': the index that every collection has anyway is the order of lists, and every other index ends with it.

`summary` and `provenance` are JSON text: BSON would refuse their large integers and odd keys.
"""

import json
import re

import msgspec
from bson import Binary, Int64

from results_service.blobs import Upload
from results_service.intake import NewResult
from results_service.mongo import Document
from shared.problems import Fault
from shared.results import CorrectedResult, ResultKind, ResultState, ResultSummary
from shared.strict_json import same_content
from shared.submission import Envelope, Provenance
from shared.timestamps import from_microseconds

_IDENTITY = ("model_id", "benchmark_name", "run_id")
"""What two results of one name may differ in: no timestamp, for names begin with it and it has no variable parts."""
_CONTENT = ("tokenizer_id", "source")


INLINE_BYTES = 4096
"""Data that is not larger, compressed, rides inside its envelope: one write less. Lists leave it out; it costs them
the reading of documents a few times as large, which is why this is small."""

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?", re.ASCII)


def stored_id(result_name: str) -> str:
    """The `_id` under which a result is stored. A name that does not begin with a canonical time is none; it stays."""
    time = _TIME.match(result_name)
    if time is None or result_name[time.end() : time.end() + 2] != "Z-":
        return f"!{result_name}"
    return result_name[: time.end()] + result_name[time.end() + 1 :]


def result_name_of(stored_id: str) -> str:
    """The name of the result that is stored under `stored_id`."""
    time = _TIME.match(stored_id)
    assert time is not None, stored_id  # noqa: S101 - only stored_id makes them
    return f"{stored_id[: time.end()]}Z{stored_id[time.end() :]}"


def period_of(moment: str) -> str:
    """The days that a time, or an id, begins with, but for the last digit: ten or so, fewer at the ends of a month."""
    return moment[: len("2024-01-1")]


def envelope_document(result: NewResult, *, arrival: int) -> Document:
    """The document of a new result that arrived at `arrival`, microseconds since 1970."""
    document: Document = {
        **envelope_fields(result.envelope),
        "arrival": Int64(arrival),
        "questions": result.questions,
        "summary": json.dumps(dict(result.summary), ensure_ascii=False) if result.summary else "{}",
        "bytes": result.size,
        "sha256": result.sha256,
        "state": ResultState.VALID.value,
        # Raw inputs are not in the feed, so there is nothing left to do for them.
        "settled": result.kind is ResultKind.RAW,
    }
    match result.content:
        case Upload(blob=blob):
            document["blob"] = blob
        case packed if len(packed) <= INLINE_BYTES:
            document["data"] = Binary(packed)
        case _:
            document["blob"] = result.sha256
    if result.standardization is not None:
        document["standardization"] = result.standardization.value
    if result.from_live_run:
        document["live_run"] = True
    return document


def envelope_fields(envelope: Envelope) -> Document:
    """What is stored of an envelope, `_id` included."""
    return {
        "_id": stored_id(envelope.result_name),
        "period": period_of(envelope.timestamp),
        "run_id": envelope.run_id,
        "benchmark_name": envelope.benchmark_name,
        "timestamp": envelope.timestamp,
        "model_id": envelope.model_id,
        "tokenizer_id": envelope.tokenizer_id,
        "source": envelope.source,
        "provenance": _provenance_text(envelope),
    }


def envelope_of(document: Document) -> Envelope:
    """The envelope that was stored."""
    provenance = document["provenance"]
    fields = {name: document[name] for name in Envelope.model_fields if name != "provenance"}
    return Envelope(**fields, provenance=None if provenance is None else Provenance.model_validate_json(provenance))


def _provenance_text(envelope: Envelope) -> str | None:
    return None if envelope.provenance is None else envelope.provenance.model_dump_json(exclude_none=True)


def wire_fields(document: Document) -> Document:
    """The fields of a ResultSummary, for `msgspec.json.encode`: what is JSON text in the store stays as it is."""
    provenance = document["provenance"]
    fields = {name: document.get(name) for name in ResultSummary.model_fields}
    return fields | {
        "result_name": result_name_of(document["_id"]),
        "received_at": from_microseconds(document["arrival"]),
        "summary": msgspec.Raw(document["summary"].encode()),
        "provenance": None if provenance is None else msgspec.Raw(provenance.encode()),
    }


def result_summary(document: Document) -> ResultSummary:
    """The wire form of a stored envelope."""
    return ResultSummary.model_validate_json(msgspec.json.encode(wire_fields(document)))


def corrected_result(document: Document) -> CorrectedResult:
    """The same with every correction of it."""
    summary = result_summary(document)
    return CorrectedResult.model_validate({**summary.model_dump(), "history": document.get("history", [])})


def with_history_of(envelope: Document) -> Document:
    """The MongoDB filter of an envelope as long as nothing was corrected since it was read."""
    history = envelope.get("history")
    return {"_id": envelope["_id"], "history": {"$size": len(history)} if history else {"$exists": False}}


def identity_faults(stored: Document, envelope: Envelope) -> list[Fault]:
    """Where a result of the same name is another run's, model's or benchmark's."""
    return [fault for name in _IDENTITY if (fault := _difference(name, stored[name], getattr(envelope, name)))]


def envelope_faults(stored: Document, envelope: Envelope) -> list[Fault]:
    """Where the same run was stored with other words about it."""
    faults = [fault for name in _CONTENT if (fault := _difference(name, stored[name], getattr(envelope, name)))]
    before, now = stored["provenance"], _provenance_text(envelope)
    if not same_content((before or "null").encode(), (now or "null").encode()):
        faults.append(Fault(place="provenance", detail=f"is {_short(now)} here, {_short(before)} in the stored result"))
    return faults


def data_fault(stored: Document, result: NewResult) -> Fault:
    """That the data is other data."""
    detail = (
        f"is {result.size:,} bytes with SHA-256 {result.sha256[:12]}… here, "
        f"{stored['bytes']:,} bytes with SHA-256 {stored['sha256'][:12]}… in the stored result"
    )
    return Fault(place="data", detail=detail)


def _difference(name: str, before: str | None, now: str | None) -> Fault | None:
    if before == now:
        return None
    return Fault(place=name, detail=f"is {_short(now)} here, {_short(before)} in the stored result")


def _short(text: str | None) -> str:
    if text is None:
        return "absent"
    return repr(text if len(text) <= 200 else text[:199] + "…")

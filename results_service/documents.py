"""Envelopes as MongoDB holds them: to a document, back from it, compared, and paged through. Pure.

`summary` and `provenance` are JSON text: BSON would refuse their large integers and odd keys.
"""

import base64
import json
from dataclasses import dataclass

from pydantic import TypeAdapter

from results_service.intake import NewResult
from results_service.mongo import Document
from shared.problems import Fault, invalid
from shared.results import ResultState, ResultSummary
from shared.strict_json import same_content
from shared.submission import Envelope
from shared.timestamps import sort_key

_IDENTITY = ("model_id", "benchmark_name", "run_id")
"""What two results of one name may differ in: no timestamp, for names begin with it and it has no variable parts."""
_CONTENT = ("tokenizer_id", "source")


def envelope_document(result: NewResult, *, received_at: str, settled: bool) -> Document:
    """The document of a new result; `settled` says that nothing more is to be written for it."""
    envelope = result.envelope
    return {
        "_id": result.result_name,
        "run_id": envelope.run_id,
        "benchmark_name": envelope.benchmark_name,
        "timestamp": envelope.timestamp,
        "time_key": sort_key(envelope.timestamp),
        "model_id": envelope.model_id,
        "tokenizer_id": envelope.tokenizer_id,
        "source": envelope.source,
        "provenance": _provenance_text(envelope),
        "received_at": received_at,
        "questions": result.questions,
        "summary": json.dumps(dict(result.summary), ensure_ascii=False),
        "bytes": len(result.data),
        "sha256": result.sha256,
        "state": ResultState.VALID.value,
        "settled": settled,
    }


def _provenance_text(envelope: Envelope) -> str | None:
    return None if envelope.provenance is None else envelope.provenance.model_dump_json(exclude_none=True)


def result_summary(document: Document) -> ResultSummary:
    """The wire form of a stored envelope."""
    fields = {name: document[name] for name in ResultSummary.model_fields if name in document}
    provenance = document["provenance"]
    return ResultSummary.model_validate(
        {
            **fields,
            "result_name": document["_id"],
            "summary": json.loads(document["summary"]),
            "provenance": None if provenance is None else json.loads(provenance),
        }
    )


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
        f"is {len(result.data):,} bytes with SHA-256 {result.sha256[:12]}… here, "
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


_TWO_WORDS = TypeAdapter(tuple[str, str])


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list that runs from the newest result to the oldest, names deciding between equal times."""

    time_key: str
    result_name: str

    @classmethod
    def of(cls, document: Document) -> "Position":
        """The place of this envelope."""
        return cls(document["time_key"], document["_id"])

    @classmethod
    def from_cursor(cls, cursor: str) -> "Position":
        """The place that an opaque `cursor` names; InvalidRequest if no list gave it."""
        try:
            return cls(*_TWO_WORDS.validate_json(base64.b64decode(cursor, altchars=b"-_", validate=True)))
        except ValueError:
            detail = "is not one that a list gave as next_cursor; leave it out to begin at the newest"
            raise invalid(Fault(place="query.cursor", detail=detail)) from None

    @property
    def cursor(self) -> str:
        """This place as an opaque word for URLs."""
        return base64.urlsafe_b64encode(json.dumps([self.time_key, self.result_name]).encode()).decode()

    def beyond(self) -> Document:
        """The MongoDB filter of everything after this place; its first clause lets an index find it."""
        return {
            "time_key": {"$lte": self.time_key},
            "$or": [{"time_key": {"$lt": self.time_key}}, {"_id": {"$gt": self.result_name}}],
        }

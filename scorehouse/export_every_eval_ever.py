"""Writes a result as Every Eval Ever 0.3.0: an aggregate file, and its rows where it has questions.

Both lie where that project's repository keeps them: `data/<benchmark>/<developer>/<model>/<uuid>.json`. Nothing in them
says when they were written, so the same result is the same files. `shared.formats.every_eval_ever_export` reads them.
"""

import codecs
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Any
from uuid import UUID

import msgspec

from scorehouse.result_download import FetchedResult
from shared.formats.every_eval_ever_export import DATA, ENVELOPE, QUESTIONS, SCHEMA_VERSION, write_row
from shared.formats.leftovers import read_members, split_questions, write_members, write_text
from shared.results import ResultSummary
from shared.submission import Envelope, stated_score

_BLOCK_BYTES = 1 << 20
_SEGMENT_MAX = 100
_PLACE_OF_DATA = "\u0001 data \u0001"
"""Stands in the aggregate for data that may be too large to be held; no control character can be in it otherwise."""


@dataclass(slots=True)
class _Scores:
    """Count, mean and spread of scores that come one by one (Welford's method)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = 0.0
    highest: float = 1.0

    def add(self, score: float) -> None:
        self.count += 1
        before = score - self.mean
        self.mean += before / self.count
        self.squares += before * (score - self.mean)
        self.lowest, self.highest = min(self.lowest, score), max(self.highest, score)

    @property
    def standard_error(self) -> float | None:
        """Sample standard deviation / √n; None for fewer than two."""
        return math.sqrt(self.squares / (self.count - 1) / self.count) if self.count > 1 else None


@dataclass(slots=True)
class _Written:
    """What was written of a result's rows."""

    rows: int = 0
    digest: str = ""
    scores: _Scores = field(default_factory=_Scores)


def aggregate_path(result: ResultSummary) -> PurePosixPath:
    """Where the aggregate file of a result lies."""
    developer, _, model = result.model_id.rpartition("/")
    digest = sha256(f"{result.result_name}\n{result.sha256}".encode()).digest()[:16]
    folders = map(path_segment, (result.benchmark_name, developer or "unknown", model))
    return PurePosixPath("data", *folders, f"{UUID(bytes=digest, version=4)}.json")


def path_segment(name: str) -> str:
    """A name as that of a folder, on whatever system."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", name)[:_SEGMENT_MAX].strip(".") or "_"


def write_every_eval_ever(result: FetchedResult, aggregate: IO[bytes], samples: Path) -> None:
    """Write the aggregate to a stream, and the rows to the file `samples`, where the result has questions."""
    envelope = result.envelope
    split = split_questions(result.data)
    details = {ENVELOPE: envelope.model_dump_json(exclude_none=True), DATA: _PLACE_OF_DATA}
    document = _aggregate(result.summary, envelope)
    if split is None:
        stated = stated_score(dict(result.summary.summary))
        data: memoryview | bytes = result.data
        scores = _Scores()
        if stated is not None:
            scores.add(stated)
    else:
        besides, questions = split
        written = _write_rows(result.summary, questions, samples)
        details[QUESTIONS] = str(written.rows)
        data, scores = write_members(besides), written.scores
        document["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": str(aggregate_path(result.summary))[: -len(".json")] + "_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": written.digest,
            "total_rows": written.rows,
        }
    document["source_metadata"]["additional_details"] = details
    if scores.count:
        document["evaluation_results"].append(_result(envelope, scores, is_stated=split is None))
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    before, _, after = text.partition(json.dumps(_PLACE_OF_DATA, ensure_ascii=False))
    aggregate.write(before.encode())
    aggregate.writelines(string_of(data))
    aggregate.write(after.encode() + b"\n")


def string_of(text: bytes | memoryview) -> Iterator[bytes]:
    """UTF-8 text as a JSON string, piece by piece."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    yield b'"'
    for start in range(0, len(text), _BLOCK_BYTES):
        piece = decode(bytes(text[start : start + _BLOCK_BYTES]))
        yield json.dumps(piece, ensure_ascii=False)[1:-1].encode()
    yield b'"'


def _write_rows(result: ResultSummary, questions: Sequence[msgspec.Raw], file: Path) -> _Written:
    written = _Written()
    digest = sha256()
    common = [
        b"%b:%b" % (write_text(key), write_text(value))
        for key, value in {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": _evaluation_id(result),
            "model_id": result.model_id,
            "evaluation_name": result.benchmark_name,
            "evaluation_result_id": result.benchmark_name,
        }.items()
    ]
    with file.open("wb") as stream:
        for question in questions:
            line = write_row(question, common) + b"\n"
            stream.write(line)
            digest.update(line)
            written.rows += 1
            members = read_members(question)
            if members.get("status", b'"scored"') == b'"scored"':
                written.scores.add(float(members["score"]))
    written.digest = digest.hexdigest()
    return written


def _evaluation_id(result: ResultSummary) -> str:
    """By the name of the result alone: never by a time of writing."""
    return f"scorehouse/{result.model_id.replace('/', '_')}/{result.result_name}"


def _aggregate(result: ResultSummary, envelope: Envelope) -> dict[str, Any]:
    told = envelope.provenance
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": _evaluation_id(result),
        "evaluation_timestamp": envelope.timestamp,
        "retrieved_timestamp": str(datetime.fromisoformat(result.received_at).timestamp()),
        "source_metadata": {
            "source_name": envelope.source,
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": (told and told.harness) or "unknown",
            "version": (told and told.harness_version) or "unknown",
        },
        "model_info": {
            "name": envelope.model_id,
            "id": envelope.model_id,
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown"},
        },
        "evaluation_results": [],
    }


def _result(envelope: Envelope, scores: _Scores, *, is_stated: bool) -> dict[str, Any]:
    """The one result: the mean over the scored attempts, or what the run states of itself."""
    details: dict[str, Any] = {"score": scores.mean}
    if not is_stated:
        details["uncertainty"] = {"num_samples": scores.count}
        if scores.standard_error is not None:
            details["uncertainty"]["standard_error"] = {"value": scores.standard_error, "method": "analytic"}
    grader = envelope.provenance.grader if envelope.provenance else None
    return {
        "evaluation_result_id": envelope.benchmark_name,
        "evaluation_name": envelope.benchmark_name,
        "evaluation_timestamp": envelope.timestamp,
        "source_data": {"dataset_name": envelope.benchmark_name, "source_type": "other"},
        "metric_config": {
            "evaluation_description": "stated by the run" if is_stated else "mean over the scored attempts",
            "metric_id": grader or "score",
            "metric_name": grader or "score",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": scores.lowest,
            "max_score": scores.highest,
        },
        "score_details": details,
    }

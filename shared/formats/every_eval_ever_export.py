"""What Scorehouse writes as Every Eval Ever 0.3.0, and reads again as the very result that it was.

What the schemas have a place for stands there. The rest is in the `additional_details` of the source and in the
`metadata` of the rows, under keys that begin with `scorehouse.`; values there must be texts, so it is JSON within JSON.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ValidationError

from shared.formats.harness import ExportedRun, NotReadable
from shared.formats.json_reading import Unreadable
from shared.formats.leftovers import join_questions, leftover, read_members, restore, write_members, write_text
from shared.formats.tree import File
from shared.submission import Envelope, Status, learn

SCHEMA_VERSION = "0.3.0"
PREFIX = "scorehouse."
ENVELOPE = PREFIX + "envelope"
DATA = PREFIX + "data"
"""All of the data, where it has no questions; else what it has besides them."""
QUESTIONS = PREFIX + "questions"
"""How many rows belong to it; absent where the data has no questions."""
_LEFT = PREFIX + "rest"
_ERRORS = frozenset(status.value for status in Status if status is not Status.SCORED)


class _Input(msgspec.Struct):
    raw: str
    reference: list[str]


class _Output(msgspec.Struct):
    raw: list[str]


class _Evaluation(msgspec.Struct):
    score: msgspec.Raw


class _Usage(msgspec.Struct):
    input_tokens: msgspec.Raw
    output_tokens: msgspec.Raw


class _Performance(msgspec.Struct):
    latency_ms: msgspec.Raw


class _Row(msgspec.Struct):
    sample_id: str
    input: _Input
    output: _Output
    evaluation: _Evaluation
    error: str | None = None
    token_usage: _Usage | None = None
    performance: _Performance | None = None
    metadata: dict[str, str] = {}


learn(_Row)
_ROWS = msgspec.json.Decoder(_Row)
_NUMBER_STARTS = b"-0123456789"


def is_export(document: object) -> bool:
    """Whether an aggregate file was written by Scorehouse."""
    return ENVELOPE in _details(document)


def read_export(file: File, document: object, samples: File | None) -> ExportedRun:
    """The result that an aggregate file of ours was written from. NotReadable if a part of it is missing or changed."""
    details = _details(document)
    try:
        envelope = Envelope.model_validate_json(details[ENVELOPE])
        besides = details[DATA].encode()
        count = int(details[QUESTIONS]) if QUESTIONS in details else None
        members = read_members(besides) if count is not None else {}
    except (ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise NotReadable(
            f"{file.path}: source_metadata.additional_details has keys of Scorehouse's export ({PREFIX}…), but not as "
            f"it writes them ({type(error).__name__}); export it again, or take those keys out"
        ) from None
    if count is None:
        return ExportedRun(envelope, lambda: iter([besides]))
    if samples is None:
        raise NotReadable(
            f"{file.path}: its {count:,} rows are in the samples file that it names "
            "(detailed_evaluation_results.file_path), which is not among the files; import both together"
        )
    return ExportedRun(envelope, _Rows(samples, count, members).data)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a result."""

    file: File
    count: int
    besides: Mapping[str, bytes]

    def data(self) -> Iterator[bytes]:
        """The text of `data`; Unreadable where a row is missing, or is not as we wrote it."""
        with self.file.open() as stream:
            lines = (line for line in stream if line.strip())
            questions = (self._question(number, line) for number, line in enumerate(lines))
            yield from join_questions(questions, self.besides, written=self.count, path=self.file.path)

    def _question(self, number: int, line: bytes) -> bytes:
        try:
            row = _ROWS.decode(line)
            return write_members(restore(_told(row), row.metadata.get(_LEFT)))
        except (msgspec.DecodeError, ValueError) as error:
            raise Unreadable(
                f"{self.file.path}:{number + 1}", f"is not a row of Scorehouse's export: {error}"
            ) from None


def _details(document: object) -> Mapping[str, Any]:
    source = document.get("source_metadata") if isinstance(document, dict) else None
    details = source.get("additional_details") if isinstance(source, dict) else None
    return details if isinstance(details, dict) else {}


def _told(row: _Row) -> dict[str, bytes]:
    """What the fields of a row say of the question."""
    told = {"question_id": write_text(row.sample_id)}
    if row.error is None:
        told["score"] = bytes(row.evaluation.score)
    elif row.error in _ERRORS:
        told["status"] = write_text(row.error)
    if row.input.raw:
        told["question"] = write_text(row.input.raw)
    if len(row.output.raw) == 1:
        told["answer"] = write_text(row.output.raw[0])
    if len(row.input.reference) == 1:
        told["target"] = write_text(row.input.reference[0])
    if row.token_usage is not None:
        told["input_tokens"] = bytes(row.token_usage.input_tokens)
        told["output_tokens"] = bytes(row.token_usage.output_tokens)
    if row.performance is not None:
        told["latency_ms"] = bytes(row.performance.latency_ms)
    metadata = {key: write_text(text) for key, text in row.metadata.items() if not key.startswith(PREFIX)}
    if metadata:
        told["metadata"] = write_members(metadata)
    return told


def write_row(question: bytes | msgspec.Raw, common: Sequence[bytes]) -> bytes:
    """One line of the samples file, without its end. `common` are members that all rows have, as JSON text."""
    members = read_members(question)
    score, status = members.get("score"), _text_in(members, "status") or Status.SCORED
    if score is None or score[:1] not in _NUMBER_STARTS:
        score = None
    error = None if status == Status.SCORED and score is not None else status
    answer, target = _shown(members, "answer"), _shown(members, "target")
    row = {
        "sample_id": members["question_id"],
        "interaction_type": b'"single_turn"',
        "input": b'{"raw":%b,"reference":[%b]}' % (write_text(_text_in(members, "question") or ""), target or b""),
        "output": b'{"raw":[%b]}' % (answer or b""),
        "answer_attribution": b"[]" if answer is None else _ATTRIBUTION % answer,
        "evaluation": b'{"score":%b,"is_correct":%b}'
        % (score or b"0.0", b"true" if error is None and score is not None and float(score) >= 1 else b"false"),
    }
    if error is not None:
        row["error"] = write_text(error if error in _ERRORS else Status.UNSCORED)
    tokens = [members.get(key, b"") for key in ("input_tokens", "output_tokens")]
    if all(number.isdigit() for number in tokens):
        row["token_usage"] = b'{"input_tokens":%b,"output_tokens":%b,"total_tokens":%d}' % (
            tokens[0],
            tokens[1],
            int(tokens[0]) + int(tokens[1]),
        )
    latency = members.get("latency_ms")
    if latency is not None and latency[:1].isdigit():
        row["performance"] = b'{"latency_ms":%b}' % latency
    metadata = _write_metadata(members.get("metadata"))
    if metadata:
        row["metadata"] = write_members(metadata)
    left = leftover(members, _told(_ROWS.decode(write_members(row))))
    if left is not None:
        row["metadata"] = write_members(metadata | {_LEFT: write_text(left)})
    return b"{%b,%b" % (b",".join(common), write_members(row).removeprefix(b"{"))


_ATTRIBUTION = (
    b'[{"turn_idx":0,"source":"output.raw","extracted_value":%b,"extraction_method":"unknown","is_terminal":true}]'
)


def _write_metadata(metadata: bytes | None) -> dict[str, bytes]:
    """The fields as the texts that the schema wants; those of another kind stand in the leftover as well."""
    if metadata is None or not metadata.startswith(b"{"):
        return {}
    return {
        key: value if value.startswith(b'"') else write_text(value.decode())
        for key, value in read_members(metadata).items()
        if not key.startswith(PREFIX)
    }


def _text_in(members: Mapping[str, bytes], key: str) -> str | None:
    value = members.get(key, b"")
    return str(msgspec.json.decode(value)) if value.startswith(b'"') else None


def _shown(members: Mapping[str, bytes], key: str) -> bytes | None:
    """A value as the JSON text of a string; None where there is none."""
    value = members.get(key, b"null")
    if value == b"null":
        return None
    return value if value.startswith(b'"') else write_text(value.decode())

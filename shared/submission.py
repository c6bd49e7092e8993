"""What a runner pushes: the envelope, the data kept as it came, and the questions in it.

The body is parsed once for validity (`strict_json`), its envelope is checked by pydantic, its questions by msgspec
(both report the place), and `data` is handed on as the very bytes that were received.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Protocol, cast

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.names import BenchmarkName, RunId, TextId, Timestamp, check_text_id, result_name
from shared.problems import SHOWN_MAX, Fault, MalformedJson, invalid, validation_faults
from shared.registry.specs import CATEGORY_MAX, BenchmarkSpec, FieldSpec, FieldType
from shared.strict_json import MAX_DEPTH, JsonValue, read_json

SUMMARY_MAX_SCALARS = 50
SUMMARY_MAX_TEXT = 200
WARNINGS_MAX = 20
CONFIG_MAX_BYTES = 64 * 1024

Scalar = str | int | float | bool | None


def _check_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return `config` if it can stand in lists and be written as JSON again."""
    try:
        size = len(json.dumps(config, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        raise ValueError("must hold no number beyond 1.8e308") from None
    if size > CONFIG_MAX_BYTES:
        raise ValueError(f"must be at most {CONFIG_MAX_BYTES:,} bytes of JSON, is {size:,}; put more into a raw input")
    return config


class Provenance(BaseModel):
    """Where a result came from, as far as the runner knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    harness: TextId | None = None
    harness_version: TextId | None = None
    task_version: TextId | None = None
    grader: TextId | None = None
    config: Annotated[dict[str, Any], AfterValidator(_check_config)] | None = None
    raw_input: TextId | None = None


class Envelope(BaseModel):
    """Everything about a result but its data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: RunId = Field(description="Your name for this run; at most 200 bytes, no '/'.", examples=["test-run-001"])
    benchmark_name: BenchmarkName = Field(examples=["mmlu"])
    timestamp: Timestamp = Field(description="RFC 3339 with an offset; kept in UTC.", examples=["2024-01-01T12:00:00Z"])
    model_id: TextId = Field(examples=["gpt-4"])
    tokenizer_id: TextId | None = None
    source: TextId = Field(description="Who measured: a harness, a leaderboard, a team.", examples=["lm-eval"])
    provenance: Provenance | None = None

    @field_validator("provenance")
    @classmethod
    def _say_nothing_once(cls, provenance: Provenance | None) -> Provenance | None:
        """A provenance that tells nothing is none."""
        return None if provenance == Provenance() else provenance

    @property
    def result_name(self) -> str:
        """The identity of the result."""
        return result_name(self.timestamp, self.benchmark_name, self.run_id)


class SubmissionDocument(Envelope):
    """The body of a POST, for the API's documentation."""

    data: dict[str, Any] | list[Any] | str = Field(
        description="A JSON object or array, or a string that holds one. Kept byte for byte.",
        examples=[
            {
                "questions": [
                    {
                        "question_id": "anatomy/0",
                        "score": 1.0,
                        "answer": "B",
                        "target": "B",
                        "metadata": {"subject": "anatomy", "category": "STEM"},
                    }
                ]
            }
        ],
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """A valid body: `data` as received (the inner text, if it was sent as a string), and the same parsed."""

    envelope: Envelope
    data: bytes
    value: "list[JsonValue] | dict[str, JsonValue]"


class Status(StrEnum):
    """What became of one attempt at a question."""

    SCORED = "scored"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    ERROR = "error"
    UNSCORED = "unscored"


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]  # a sum of them stays finite


class Question(msgspec.Struct, frozen=True, gc=False):
    """One attempt at one question."""

    question_id: str
    attempt: Annotated[int, msgspec.Meta(ge=0, le=32_767)] = 0
    status: Status = Status.SCORED
    score: float | None = None
    answer: Any = None
    target: Any = None
    content_hash: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    latency_ms: _Amount | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cost_usd: _Amount | None = None
    metadata: dict[str, Any] = {}


class DataBytes(msgspec.Struct):
    """Reads where in a body `data` stands."""

    data: msgspec.Raw


class _Questions(msgspec.Struct):
    questions: list[Question]


def learn(*types: type) -> None:
    """Let msgspec learn these types now, at import.

    Otherwise it does so at their first use, and where two threads are first at once it reads what the other has half
    built: the process dies of a segmentation fault (seen with 0.22, in a service that had just started).
    """
    for kind in types:
        msgspec.json.Decoder(kind)


learn(DataBytes, _Questions)


KNOWN_KEYS = frozenset(Question.__struct_fields__)
"""The keys of a question that are read."""


def read_submission(body: bytes) -> Submission:
    """Read a POST body. MalformedJson or InvalidRequest says what is wrong and where."""
    document = read_json(body)
    envelope = read_envelope(document)
    value = cast("dict[str, JsonValue]", document)["data"]
    if isinstance(value, str):
        data = value.encode()
        value = _read_embedded(data)
    else:
        data = bytes(msgspec.json.decode(body, type=DataBytes).data)
    return Submission(envelope=envelope, data=data, value=check_data(value))


def read_envelope(document: JsonValue) -> Envelope:
    """The envelope of a parsed body, whose `data` must be there. InvalidRequest has every fault."""
    if not isinstance(document, dict):
        raise invalid(Fault(place="body", detail="must be a JSON object"))
    faults = []
    envelope = None
    try:
        envelope = Envelope.model_validate({key: value for key, value in document.items() if key != "data"})
    except ValidationError as error:
        faults += validation_faults(error)
    if "data" not in document:
        faults.append(Fault(place="data", detail="is required"))
    if envelope is None or faults:
        raise invalid(*faults)
    return envelope


def check_data(value: JsonValue) -> "list[JsonValue] | dict[str, JsonValue]":
    """Return `value` if it can be a result's data."""
    if not isinstance(value, dict | list):
        kind = _JSON_KINDS[type(value)]
        raise invalid(Fault(place="data", detail=f"must be an object or an array, or a string holding one, is {kind}"))
    return value


EMBEDDED = "a string that must hold JSON"
"""The place of a fault in such a string."""


def _read_embedded(data: bytes) -> JsonValue:
    try:
        return read_json(data, place=EMBEDDED, max_depth=MAX_DEPTH)
    except MalformedJson as error:
        raise invalid(Fault(place="data", detail=error.detail)) from None


_JSON_KINDS = {
    str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null",
    list: "an array", dict: "an object",
}  # fmt: skip


class Positions(Protocol):
    """Where each key came first: a dict, or something smaller."""

    def setdefault(self, key: tuple[str, int], position: int, /) -> int:
        """The position first given for `key`."""


def read_questions(value: "list[JsonValue] | dict[str, JsonValue]") -> list[Question] | None:
    """The questions in a standardized result's data; None if it states a result without them.

    Shape alone is checked here: what needs the benchmark's definition is `check_against`.
    """
    if not isinstance(value, dict) or "questions" not in value:
        return None
    questions = convert_questions(value["questions"])
    faults: list[Fault] = []
    find_shape_faults(questions, {}, faults)
    if faults:
        raise invalid(*faults)
    return questions


def convert_questions(rows: JsonValue, start: int = 0) -> list[Question]:
    """Rows as questions; the first is number `start` of the data's. InvalidRequest names the first that is none."""
    try:
        return msgspec.convert({"questions": rows}, _Questions).questions
    except msgspec.ValidationError as error:
        raise invalid(_msgspec_fault(str(error), start)) from None


def find_shape_faults(
    questions: Iterable[Question], first_seen: Positions, faults: list[Fault], start: int = 0
) -> None:
    """Add to `faults` what is wrong with questions of whatever benchmark, until there are `WARNINGS_MAX`."""
    for index, question in enumerate(questions, start):
        if len(faults) >= WARNINGS_MAX:
            return
        try:
            check_text_id(question.question_id)
        except ValueError as error:
            faults.append(Fault(place=f"data.questions[{index}].question_id", detail=str(error)))
        seen_at = first_seen.setdefault((question.question_id, question.attempt), index)
        if seen_at != index:
            detail = f"{_named(question)}, attempt {question.attempt}, stands already at questions[{seen_at}]"
            faults.append(Fault(place=f"data.questions[{index}]", detail=detail))
        if question.status is Status.SCORED and question.score is None:
            detail = f"is required where status is 'scored' ({_named(question)})"
            faults.append(Fault(place=f"data.questions[{index}].score", detail=detail))
        elif question.score is not None and not math.isfinite(question.score):
            faults.append(Fault(place=f"data.questions[{index}].score", detail="must be a finite number"))


def _named(question: Question) -> str:
    return f"question {shortened(question.question_id)!r}"


def shortened(text: str) -> str:
    """The beginning of a caller's text, for a sentence."""
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"


def _msgspec_fault(message: str, start: int) -> Fault:
    detail, _, path = message.partition(" - at `")
    path = re.sub(r"(?<=^\$\.questions\[)\d+", lambda index: str(int(index[0]) + start), path)
    place = "data." + path.rstrip("`").removeprefix("$").removeprefix(".") if path else "data"
    return Fault(place=place, detail=(detail[:1].lower() + detail[1:]).replace("`", "'"))


def check_against(benchmark: BenchmarkSpec, questions: Iterable[Question]) -> None:
    """Check scores and metadata against a registered benchmark; InvalidRequest names question and field."""
    faults: list[Fault] = []
    find_benchmark_faults(benchmark, questions, faults)
    if faults:
        raise invalid(*faults)


def find_benchmark_faults(
    benchmark: BenchmarkSpec, questions: Iterable[Question], faults: list[Fault], start: int = 0
) -> None:
    """Add to `faults` what does not fit the benchmark, until there are `WARNINGS_MAX`; the first is number `start`."""
    low, high = benchmark.score_min, benchmark.score_max
    checks = [(field.name, field.type.fits, field) for field in benchmark.fields]
    for index, question in enumerate(questions, start):
        if len(faults) >= WARNINGS_MAX:
            return
        if question.score is not None and not low <= question.score <= high:
            scale = f"{benchmark.name}'s scale {low:g}…{high:g}"
            detail = f"{question.score:g} is outside {scale} ({_named(question)})"
            faults.append(Fault(place=f"data.questions[{index}].score", detail=detail))
        for name, fits, field in checks:
            value = question.metadata.get(name)
            if value is not None and not fits(value):
                faults.append(_metadata_fault(index, question, field, value))


def _metadata_fault(index: int, question: Question, field: FieldSpec, value: Any) -> Fault:  # noqa: ANN401
    kind = _JSON_KINDS[type(value)]
    detail = f"must be {field.type.expected}, is {kind} ({_named(question)})"
    if isinstance(value, str) and field.type is FieldType.CATEGORY:
        detail = f"must be at most {CATEGORY_MAX} characters, is {len(value)} ({_named(question)})"
    return Fault(place=f"data.questions[{index}].metadata.{field.name}", detail=detail)


def shape_warnings(
    value: "list[JsonValue] | dict[str, JsonValue]",
    questions: list[Question] | None,
    benchmark: BenchmarkSpec | None,
    name: str,
) -> list[str]:
    """What was accepted but will not be read, in sentences."""
    # jiter made these dicts; Question forgets the keys it does not know.
    rows = cast("list[dict[str, JsonValue]]", cast("dict[str, JsonValue]", value)["questions"]) if questions else []
    return data_warnings(
        None if questions is None else len(questions),
        unread_keys(rows),
        unknown_metadata(benchmark, questions) if benchmark is not None and questions else set(),
        benchmark,
        name,
    )


def unread_keys(rows: "Iterable[dict[str, JsonValue]]") -> set[str]:
    """The keys of questions that nothing reads."""
    return set().union(*rows) - KNOWN_KEYS


def unknown_metadata(benchmark: BenchmarkSpec, questions: Iterable[Question]) -> set[str]:
    """The metadata fields of questions that the benchmark does not have."""
    return set().union(*(question.metadata for question in questions)) - benchmark.by_name.keys()


def data_warnings(
    questions: int | None, unread: set[str], unknown: set[str], benchmark: BenchmarkSpec | None, name: str
) -> list[str]:
    """The sentences: for how many `questions` (None without any), with which keys of them and of their metadata."""
    warnings = []
    if benchmark is None:
        warnings.append(f"benchmark {name!r} is not registered: kept, and analysed once a registry file describes it")
    if questions is None:
        warnings.append("no data.questions: kept; shown as a stated score only where data has a score or accuracy")
        return warnings
    if not questions:
        warnings.append("data.questions is empty")
    if unread:
        warnings.append(f"kept but not read in questions: {_first_names(unread)}")
    if unknown and benchmark is not None:
        names = _first_names(unknown)
        warnings.append(f"kept but not in {benchmark.name}'s registry, so not to be grouped by: {names}")
    return warnings


def _first_names(names: set[str]) -> str:
    return ", ".join(map(shortened, sorted(names)[:WARNINGS_MAX]))


def summarize(value: "list[JsonValue] | dict[str, JsonValue]") -> dict[str, Scalar]:
    """The top-level scalars of `data`, for lists; long texts and infinite numbers are left out."""
    if not isinstance(value, dict):
        return {}
    return dict(islice(short_scalars(value), SUMMARY_MAX_SCALARS))


def short_scalars(value: "dict[str, JsonValue]") -> Iterator[tuple[str, Scalar]]:
    """The entries of an object that a summary may have."""
    for key, item in value.items():
        if len(key) > SUMMARY_MAX_TEXT or isinstance(item, dict | list):
            continue
        if isinstance(item, str) and len(item) > SUMMARY_MAX_TEXT:
            continue
        if isinstance(item, float) and not math.isfinite(item):
            continue
        yield key, item


def stated_score(value: "list[JsonValue] | dict[str, JsonValue]") -> float | None:
    """The score that a result without questions states of itself: `data.score`, else `data.accuracy`."""
    if not isinstance(value, dict):
        return None
    for key in ("score", "accuracy"):
        stated = value.get(key)
        if type(stated) in (int, float) and abs(cast("float", stated)) <= sys.float_info.max:
            return float(cast("float", stated))
    return None

"""What a runner pushes: the envelope, the data kept as it came, and the questions in it.

The body is parsed once for validity (`strict_json`), its envelope is checked by pydantic, its questions by msgspec
(both report the place), and `data` is handed on as the very bytes that were received.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, cast

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.names import BenchmarkName, RunId, TextId, Timestamp, check_text_id, result_name
from shared.problems import Fault, MalformedJson, invalid, validation_faults
from shared.registry.specs import CATEGORY_MAX, BenchmarkSpec, FieldSpec, FieldType
from shared.strict_json import JsonValue, read_json

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


class _DataBytes(msgspec.Struct):
    data: msgspec.Raw


class _Questions(msgspec.Struct):
    questions: list[Question]


_KNOWN_KEYS = frozenset(Question.__struct_fields__)


def read_submission(body: bytes) -> Submission:
    """Read a POST body. MalformedJson or InvalidRequest says what is wrong and where."""
    document = read_json(body)
    if not isinstance(document, dict):
        raise invalid(Fault(place="body", detail="must be a JSON object"))
    envelope_fields = {key: value for key, value in document.items() if key != "data"}
    faults = []
    envelope = None
    try:
        envelope = Envelope.model_validate(envelope_fields)
    except ValidationError as error:
        faults += validation_faults(error)
    if "data" not in document:
        faults.append(Fault(place="data", detail="is required"))
    if envelope is None or faults:
        raise invalid(*faults)
    value = document["data"]
    if isinstance(value, str):
        data = value.encode()
        value = _read_embedded(data)
    else:
        data = bytes(msgspec.json.decode(body, type=_DataBytes).data)
    if not isinstance(value, dict | list):
        kind = _JSON_KINDS[type(value)]
        raise invalid(Fault(place="data", detail=f"must be an object or an array, or a string holding one, is {kind}"))
    return Submission(envelope=envelope, data=data, value=value)


_EMBEDDED = "a string that must hold JSON"


def _read_embedded(data: bytes) -> JsonValue:
    try:
        value = read_json(data, place=_EMBEDDED)
        read_json(
            b"[" + data + b"]", place=_EMBEDDED
        )  # as deep as `data` sent plainly may be: one level less than a whole body
    except MalformedJson as error:
        raise invalid(Fault(place="data", detail=error.detail)) from None
    return value


_JSON_KINDS = {
    str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null",
    list: "an array", dict: "an object",
}  # fmt: skip


def read_questions(value: "list[JsonValue] | dict[str, JsonValue]") -> list[Question] | None:
    """The questions in a standardized result's data; None if it states a result without them.

    Shape alone is checked here: what needs the benchmark's definition is `check_against`.
    """
    if not isinstance(value, dict) or "questions" not in value:
        return None
    try:
        questions = msgspec.convert(value, _Questions).questions
    except msgspec.ValidationError as error:
        raise invalid(_msgspec_fault(str(error))) from None
    first_seen: dict[tuple[str, int], int] = {}
    faults: list[Fault] = []
    for index, question in enumerate(questions):
        try:
            check_text_id(question.question_id)
        except ValueError as error:
            faults.append(Fault(place=f"data.questions[{index}].question_id", detail=str(error)))
        seen_at = first_seen.setdefault((question.question_id, question.attempt), index)
        if seen_at != index:
            detail = (
                f"question {question.question_id!r}, attempt {question.attempt}, stands already at questions[{seen_at}]"
            )
            faults.append(Fault(place=f"data.questions[{index}]", detail=detail))
        if question.status is Status.SCORED and question.score is None:
            detail = f"is required where status is 'scored' (question {question.question_id!r})"
            faults.append(Fault(place=f"data.questions[{index}].score", detail=detail))
        elif question.score is not None and not math.isfinite(question.score):
            faults.append(Fault(place=f"data.questions[{index}].score", detail="must be a finite number"))
        if len(faults) >= WARNINGS_MAX:
            break
    if faults:
        raise invalid(*faults)
    return questions


def _msgspec_fault(message: str) -> Fault:
    detail, _, path = message.partition(" - at `")
    place = "data." + path.rstrip("`").removeprefix("$").removeprefix(".") if path else "data"
    return Fault(place=place, detail=(detail[:1].lower() + detail[1:]).replace("`", "'"))


def check_against(benchmark: BenchmarkSpec, questions: Iterable[Question]) -> None:
    """Check scores and metadata against a registered benchmark; InvalidRequest names question and field."""
    faults: list[Fault] = []
    low, high = benchmark.score_min, benchmark.score_max
    checks = [(field.name, field.type.fits, field) for field in benchmark.fields]
    for index, question in enumerate(questions):
        if question.score is not None and not low <= question.score <= high:
            scale = f"{benchmark.name}'s scale {low:g}…{high:g}"
            detail = f"{question.score:g} is outside {scale} (question {question.question_id!r})"
            faults.append(Fault(place=f"data.questions[{index}].score", detail=detail))
        for name, fits, field in checks:
            value = question.metadata.get(name)
            if value is not None and not fits(value):
                faults.append(_metadata_fault(index, question, field, value))
        if len(faults) >= WARNINGS_MAX:
            break
    if faults:
        raise invalid(*faults)


def _metadata_fault(index: int, question: Question, field: FieldSpec, value: Any) -> Fault:  # noqa: ANN401
    kind = _JSON_KINDS[type(value)]
    detail = f"must be {field.type.expected}, is {kind} (question {question.question_id!r})"
    if isinstance(value, str) and field.type is FieldType.CATEGORY:
        detail = f"must be at most {CATEGORY_MAX} characters, is {len(value)} (question {question.question_id!r})"
    return Fault(place=f"data.questions[{index}].metadata.{field.name}", detail=detail)


def shape_warnings(
    value: "list[JsonValue] | dict[str, JsonValue]",
    questions: list[Question] | None,
    benchmark: BenchmarkSpec | None,
    name: str,
) -> list[str]:
    """What was accepted but will not be read, in sentences."""
    warnings = []
    if benchmark is None:
        warnings.append(f"benchmark {name!r} is not registered: kept, and analysed once a registry file describes it")
    if questions is None:
        warnings.append("no data.questions: kept; shown as a stated score only where data has a score or accuracy")
        return warnings
    if not questions:
        warnings.append("data.questions is empty")
    # jiter made these dicts; Question forgets the keys it does not know.
    rows = cast("list[dict[str, JsonValue]]", cast("dict[str, JsonValue]", value)["questions"])
    unread = sorted(set().union(*rows) - _KNOWN_KEYS)
    if unread:
        warnings.append(f"kept but not read in questions: {', '.join(unread[:WARNINGS_MAX])}")
    if benchmark is not None:
        told = set().union(*(question.metadata for question in questions))
        unknown = sorted(told - {field.name for field in benchmark.fields})
        if unknown:
            names = ", ".join(unknown[:WARNINGS_MAX])
            warnings.append(f"kept but not in {benchmark.name}'s registry, so not to be grouped by: {names}")
    return warnings


def summarize(value: "list[JsonValue] | dict[str, JsonValue]") -> dict[str, Scalar]:
    """The top-level scalars of `data`, for lists; long texts and infinite numbers are left out."""
    if not isinstance(value, dict):
        return {}
    return dict(_short_scalars(value))


def _short_scalars(value: "dict[str, JsonValue]") -> Iterator[tuple[str, Scalar]]:
    room = SUMMARY_MAX_SCALARS
    for key, item in value.items():
        if room == 0:
            return
        if len(key) > SUMMARY_MAX_TEXT or isinstance(item, dict | list):
            continue
        if isinstance(item, str) and len(item) > SUMMARY_MAX_TEXT:
            continue
        if isinstance(item, float) and not math.isfinite(item):
            continue
        room -= 1
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

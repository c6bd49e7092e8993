"""A run's answers as columns, and packed: what group-bys over sums cannot tell is read from here.

They are packed twice: all of it, and the scores by themselves. Texts may be a thousand times as large as scores, and
statistics over many runs need none of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.compression import compress, decompress
from shared.submission import Question, Status, learn

STATUSES = tuple(Status)
"""`status` in a column is the position here; the order is stored, so it only ever grows at its end."""

_VERSION = 2
_UNPACKED_MAX_BYTES = 2**31
"""A run's answers are a part of one body, so far below this; damaged bytes may claim anything."""


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """One entry an attempt, in the order sent; numbers that were not told are NaN."""

    question_no: NDArray[np.int32]
    name_no: NDArray[np.int32]
    """Which of the question's ids the run gave it."""
    combination: NDArray[np.int32]
    attempt: NDArray[np.int16]
    status: NDArray[np.int8]
    score: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    input_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    answer: tuple[str | None, ...]
    """As sent if it was a string, else as JSON."""
    target: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """As in `AnswerColumns`."""

    question_no: NDArray[np.int32]
    combination: NDArray[np.int32]
    status: NDArray[np.int8]
    score: NDArray[np.float64]


_SCORE_COLUMNS = tuple(field.name for field in fields(ScoreColumns))
_TEXTS = ("answer", "target")
_DTYPES = {
    "question_no": np.int32, "name_no": np.int32, "combination": np.int32, "attempt": np.int16, "status": np.int8,
    "score": np.float64, "latency_ms": np.float64, "input_tokens": np.float64, "output_tokens": np.float64,
    "cost_usd": np.float64,
}  # fmt: skip


def answer_columns(
    questions: Sequence[Question],
    question_no: NDArray[np.int32],
    name_no: NDArray[np.int32],
    combination: NDArray[np.int32],
) -> AnswerColumns:
    """The columns of `questions`, numbered as given."""
    status_code = {status: code for code, status in enumerate(STATUSES)}

    def numbers(name: str) -> NDArray[np.float64]:
        # float(None) has no meaning to numpy; NaN is what None is to a column of numbers.
        return np.array([getattr(question, name) for question in questions], dtype=np.float64)

    return AnswerColumns(
        question_no=question_no,
        name_no=name_no,
        combination=combination,
        attempt=np.array([question.attempt for question in questions], dtype=np.int16),
        status=np.array([status_code[question.status] for question in questions], dtype=np.int8),
        score=numbers("score"),
        latency_ms=numbers("latency_ms"),
        input_tokens=numbers("input_tokens"),
        output_tokens=numbers("output_tokens"),
        cost_usd=numbers("cost_usd"),
        answer=tuple(_text(question.answer) for question in questions),
        target=tuple(_text(question.target) for question in questions),
    )


def pack(columns: AnswerColumns) -> bytes:
    """`columns` as one compressed value."""
    return _pack(columns, _DTYPES, _TEXTS)


def pack_scores(columns: AnswerColumns | ScoreColumns) -> bytes:
    """What `unpack_scores` reads of `columns`, as one compressed value."""
    return _pack(columns, _SCORE_COLUMNS, ())


def _pack(columns: AnswerColumns | ScoreColumns, numbers: Iterable[str], texts: Iterable[str]) -> bytes:
    parts: dict[str, object] = {"version": _VERSION}
    for name in numbers:
        # Explicitly little-endian, so that what one machine wrote another reads.
        parts[name] = getattr(columns, name).astype(np.dtype(_DTYPES[name]).newbyteorder("<")).tobytes()
    for name in texts:
        parts[name] = getattr(columns, name)
    return compress(msgspec.msgpack.encode(parts))


def unpack(packed: bytes) -> AnswerColumns:
    """What `pack` was given."""
    parts = msgspec.msgpack.decode(decompress(packed, _UNPACKED_MAX_BYTES))
    _check_version(parts.pop("version"))
    for name in _DTYPES:
        parts[name] = _column(name, parts[name])
    for name in _TEXTS:
        parts[name] = tuple(parts[name])
    return AnswerColumns(**{field.name: parts[field.name] for field in fields(AnswerColumns)})


class _PackedScores(msgspec.Struct, frozen=True):
    """What scores are summed from; the rest is passed over, texts above all."""

    version: int
    question_no: bytes
    combination: bytes
    status: bytes
    score: bytes


learn(_PackedScores)


def unpack_scores(packed: bytes) -> ScoreColumns:
    """What `pack_scores` was given; or of what `pack` was given the same, without making texts of the rest."""
    parts = msgspec.msgpack.decode(decompress(packed, _UNPACKED_MAX_BYTES), type=_PackedScores)
    _check_version(parts.version)
    return ScoreColumns(**{name: _column(name, getattr(parts, name)) for name in _SCORE_COLUMNS})


def _check_version(version: int) -> None:
    if version != _VERSION:
        raise ValueError("packed answers of another version; rebuild the projection")


def _column(name: str, stored: bytes) -> NDArray[Any]:
    dtype = np.dtype(_DTYPES[name])
    return np.frombuffer(stored, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()

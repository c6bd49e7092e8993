"""Writes a result as a Parquet file: one row an answer; `shared.formats.scorehouse_parquet` reads it again.

A column has the type that all its values have; what it cannot tell exactly (a big integer, a number written `1.50`) is
told again, as it was, in the column `scorehouse.rest`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import parquet

from scorehouse.result_download import FetchedResult
from shared.formats.leftovers import leftover, read_members, split_questions, write_members
from shared.formats.scorehouse_parquet import (
    AMOUNTS,
    BATCH_ROWS,
    COUNTS,
    FILLED,
    HEADER_KEY,
    METADATA,
    REST,
    TEXTS,
    Header,
    told,
)
from shared.submission import Status

HEADER_MAX_BYTES = 50 * 1024 * 1024
"""Of data without questions, and of what data has beside them: it stands in the footer, which readers hold whole."""
_METADATA_COLUMNS_MAX = 200
_INT64 = range(-(2**63), 2**63)
_KINDS = {"text": pa.string(), "boolean": pa.bool_(), "integer": pa.int64(), "number": pa.float64()}
_ENVELOPE = ("result_name", "run_id", "benchmark_name", "timestamp", "model_id", "tokenizer_id", "source")
_BEFORE = {"status": Status.SCORED.value, "attempt": 0}
"""What a question has that leaves them out."""


class TooLarge(Exception):
    """A result that no Parquet file of ours can hold."""


@dataclass(slots=True)
class _Survey:
    """What the questions of a result have, to choose columns by."""

    kinds: dict[str, set[str]] = field(default_factory=dict)
    """The kinds of values that each metadata field has."""
    whole: Counter[str] = field(default_factory=Counter)
    """Of each column of doubles: how many whole numbers more are written without a point than with one."""
    given: set[str] = field(default_factory=set)
    """Columns of FILLED that some question has."""

    def add(self, members: Mapping[str, bytes]) -> None:
        self.given.update(name for name in FILLED if name in members)
        for name in AMOUNTS:
            self._count_whole(name, members.get(name, b""))
        metadata = members.get("metadata", b"")
        for name, value in (read_members(metadata) if metadata.startswith(b"{") else {}).items():
            kinds = self.kinds.get(name)
            if kinds is None:
                if len(self.kinds) >= _METADATA_COLUMNS_MAX:
                    continue
                kinds = self.kinds[name] = set()
            kinds.add(_kind(_value(value)))
            self._count_whole(METADATA + name, value)

    def _count_whole(self, column: str, value: bytes) -> None:
        if value.isdigit():
            self.whole[column] += 1
        elif value.endswith(b".0"):
            self.whole[column] -= 1

    def metadata_types(self) -> dict[str, pa.DataType]:
        """The type of each metadata column; text for values of several kinds."""
        types = {}
        for name, kinds in self.kinds.items():
            told_kinds = kinds - {"null"}
            kind = "number" if told_kinds == {"integer", "number"} else "/".join(told_kinds)
            types[METADATA + name] = _KINDS.get(kind, pa.string())
        return types

    def columns_whole(self, types: Mapping[str, pa.DataType]) -> list[str]:
        return sorted(name for name, more in self.whole.items() if more > 0 and types.get(name) == pa.float64())


def write_parquet(result: FetchedResult, file: Path) -> None:
    """Write `result` to `file`. TooLarge if what is no answer in it is; OSError if it cannot be written."""
    split = split_questions(result.data)
    questions = None if split is None else split[1]
    besides = bytes(result.data[: HEADER_MAX_BYTES + 1]) if split is None else write_members(split[0])
    if len(besides) > HEADER_MAX_BYTES:
        raise TooLarge(
            f"has more than {HEADER_MAX_BYTES:,} bytes that are no answers; export it as ndjson or every_eval_ever"
        )
    survey = _Survey()
    for question in questions or ():
        survey.add(read_members(question))
    types = (
        dict.fromkeys((*_ENVELOPE, *TEXTS), pa.string())
        | {name: pa.int32() if name == "attempt" else pa.int64() for name in COUNTS}
        | dict.fromkeys(AMOUNTS, pa.float64())
        | survey.metadata_types()
        | {REST: pa.string()}
    )
    header = Header(
        envelope=result.envelope.model_dump(exclude_none=True),
        data=besides.decode(),
        rows=None if questions is None else len(questions),
        whole=survey.columns_whole(types),
        absent=[name for name in FILLED if name not in survey.given],
    )
    schema = pa.schema(list(types.items()), metadata={HEADER_KEY: msgspec.json.encode(header)})
    envelope = {name: getattr(result.summary, name) for name in _ENVELOPE}
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(questions or ()):
            rows = [_row(members, types, header) for members in map(read_members, batch)]
            writer.write_batch(pa.RecordBatch.from_pylist([envelope | row for row in rows], schema=schema))


def _batches(questions: Sequence[msgspec.Raw]) -> Iterator[list[msgspec.Raw]]:
    iterator = iter(questions)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch


def _row(members: Mapping[str, bytes], types: Mapping[str, pa.DataType], header: Header) -> dict[str, Any]:
    """The columns of a question."""
    row: dict[str, Any] = {name: _text(members.get(name)) for name in TEXTS}
    row |= {name: _count(members.get(name), types[name]) for name in COUNTS}
    row |= {name: _amount(members.get(name)) for name in AMOUNTS}
    row |= {name: value for name, value in _BEFORE.items() if name not in members}
    metadata = members.get("metadata", b"")
    for name, value in (read_members(metadata) if metadata.startswith(b"{") else {}).items():
        kind = types.get(METADATA + name)
        if kind is not None:
            row[METADATA + name] = _typed(value, kind)
    row[REST] = leftover(members, told(row, header))
    return row


def _typed(text: bytes, kind: pa.DataType) -> str | bool | int | float | None:
    if kind == pa.string():
        return _text(text)
    if kind == pa.float64():
        return _amount(text)
    if kind == pa.int64():
        return _count(text, kind)
    value = _value(text)
    return value if isinstance(value, bool) else None


def _text(text: bytes | None) -> str | None:
    """A string as it is, anything else as JSON."""
    value = _value(text)
    return value if isinstance(value, str) or value is None or text is None else text.decode()


def _count(text: bytes | None, kind: pa.DataType) -> int | None:
    value = _value(text)
    within = range(-(2**31), 2**31) if kind == pa.int32() else _INT64
    return value if type(value) is int and value in within else None


def _amount(text: bytes | None) -> float | None:
    value = _value(text)
    if type(value) is int and value in _INT64:
        return float(value)
    return value if isinstance(value, float) and math.isfinite(value) else None


def _value(text: bytes | None) -> Any:  # noqa: ANN401
    """What JSON text writes; the text itself for a number that no double can be."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() if value in _INT64:
            return "integer"
        case float() if math.isfinite(value):
            return "number"
        case str():
            return "text"
        case _:
            return "other"

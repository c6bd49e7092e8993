"""The answers that lighteval keeps in Parquet files: read some rows at a time, whatever the size of the file.

Columns are `doc`, `metric` and `model_response` (with `__` around them in some versions), each a structure; before
version 0.10 everything about an answer stood side by side.
"""

import ast
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.formats.harness import Ledger, NotReadable, Sample
from shared.formats.json_reading import Unreadable, finite_number
from shared.formats.tree import File
from shared.submission import Status

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

BATCH_ROWS = 200
ORIGIN_TEXT_MAX = 200
MAGIC = b"PAR1"
FOOTER_MAX_BYTES = 4 * 1024 * 1024
"""Of a Parquet file's description that is looked at to tell whose it is."""

_SIGNS = ((b"doc", b"metric", b"model_response", b"gold_index"), (b"gold_index", b"full_prompt", b"cont_tokens"))
"""Names that stand in the description, of newer and of older versions."""
_NO_METADATA = re.compile(
    "(?i).*(question|query|problem|prompt|answer|solution|target|gold|choice|option|text|label).*"
)
"""Keys of what a task says of its questions that are the question or its answer."""
_TOKENS = ("input_tokens", "output_tokens")
_TAKEN = {
    "doc": ("id", "query", "original_query", "instruction", "choices", "gold_index", "specific"),
    "model_response": ("text", "text_post_processed", "logprobs", *_TOKENS),
}
_TAKEN_FLAT = ("example", "instruction", "choices", "gold_index", "gold", "specifics", "metrics", "predictions")
_LETTER = re.compile(r"\s*[A-Z]\s*")


@dataclass(frozen=True, slots=True)
class Details:
    """What a file says of all its rows."""

    task: str | None
    """What the first row calls its task."""
    metrics: Sequence[str]
    """The metrics that are numbers, as far as the columns tell."""


def is_details(file: File) -> bool:
    """Whether a file is Parquet with lighteval's columns, by the description at its end."""
    if file.size < 12:
        return False
    with file.open() as stream:
        if stream.read(4) != MAGIC:
            return False
        stream.seek(-8, 2)
        length, magic = int.from_bytes(stream.read(4), "little"), stream.read(4)
        if magic != MAGIC or length > min(file.size - 12, FOOTER_MAX_BYTES):
            return False
        stream.seek(-8 - length, 2)
        footer = stream.read(length)
    return any(all(name in footer for name in names) for names in _SIGNS)


def describe(file: File) -> Details:
    """What the first row and the columns say. NotReadable without a reader of Parquet, Unreadable if it is none."""
    with _opened(file) as table:
        columns = {_bare(field.name): field for field in table.schema_arrow}
        metrics = columns.get("metric") or columns.get("metrics")
        numbers = [child.name for child in _children(metrics.type) if _is_number(child.type)] if metrics else []
        doc, task = columns.get("doc"), None
        if doc is not None and any(child.name == "task_name" for child in _children(doc.type)):
            for batch in table.iter_batches(batch_size=1, columns=[f"{doc.name}.task_name"]):
                task = next((row[doc.name]["task_name"] for row in batch.to_pylist() if row[doc.name]), None)
                break
        return Details(task if isinstance(task, str) and task else None, numbers)


def read_details(file: File, metric: str | None, ledger: Ledger) -> Iterator[Sample]:
    """The answers in a file, in its order; `metric` is the score, else a row's first. Unreadable where it ends."""
    with _opened(file) as table:
        taken, left = _columns(table)
        ledger.left.update(dict.fromkeys(left, table.metadata.num_rows))
        attempts: Counter[str] = Counter()
        shapes: Counter[tuple[str, ...]] = Counter()
        for number, row in enumerate(
            row for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=taken) for row in _rows(batch)
        ):
            doc, scores, response = row if len(row) == 3 else _from_flat(*row)
            id_ = str(doc.get("id") or number)
            specific = doc.get("specific")
            origin = _metadata(specific)
            if isinstance(specific, dict):
                shapes[tuple(key for key, value in specific.items() if value is not None and key not in origin)] += 1
            yield _sample(id_, attempts[id_], doc, scores, response, metric, origin)
            attempts[id_] += 1
        for keys, rows in shapes.items():
            ledger.left.update({f"doc.specific.{key}": rows for key in keys})


@contextmanager
def _opened(file: File) -> "Iterator[parquet.ParquetFile]":
    try:
        import pyarrow as pa  # noqa: PLC0415 - comes with an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise NotReadable(
            f"{file.path} is Parquet, and nothing here can read that: pip install 'scorehouse[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(file.location, pre_buffer=False, buffer_size=1024 * 1024) as table:
            yield table
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(file.path, f"cannot be read as Parquet: {error}") from None


def _bare(name: str) -> str:
    return name.strip("_")


def _children(kind: "pa.DataType") -> "Iterable[pa.Field]":
    """The fields of a structure; none of anything else."""
    return list(kind) if str(kind).startswith("struct") else []


def _is_number(kind: "pa.DataType") -> bool:
    return str(kind).removeprefix("u").startswith(("int", "float", "double", "halffloat", "bool"))


def _columns(table: "parquet.ParquetFile") -> tuple[list[str], list[str]]:
    """The columns to read as they are spelled there, and what is left, as lighteval calls it today."""
    taken: list[str] = []
    left: list[str] = []
    fields = {_bare(field.name): field for field in table.schema_arrow}
    for bare, field in fields.items():
        if bare in _TAKEN and "doc" in fields:
            for child in _children(field.type):
                wanted = child.name in _TAKEN[bare]
                if wanted or child.name != "task_name":  # which is the finding's, not the row's
                    (taken if wanted else left).append(f"{field.name if wanted else bare}.{child.name}")
        elif bare == "metric" or (bare in _TAKEN_FLAT and "doc" not in fields):
            taken.append(field.name)
        else:
            left.append(bare)
    return taken, left


def _rows(batch: "pa.RecordBatch") -> Iterator[tuple[dict[str, Any], ...]]:
    """Document, metrics and response of each row; one dict of all columns in older files. Tokens are counted."""
    columns = dict(zip(map(_bare, batch.schema.names), batch.columns, strict=True))
    if "doc" not in columns:
        yield from ((row,) for row in batch.to_pylist())
        return
    response = columns.get("model_response")
    parts: dict[str, list[Any]] = {}
    if response is not None:
        for index, child in enumerate(_children(response.type)):
            values = response.field(index)
            parts[child.name] = _lengths(values) if child.name in _TOKENS else values.to_pylist()
    metrics = columns["metric"].to_pylist() if "metric" in columns else [{}] * batch.num_rows
    for index, (doc, metric) in enumerate(zip(columns["doc"].to_pylist(), metrics, strict=True)):
        yield doc or {}, metric or {}, {name: values[index] for name, values in parts.items()}


def _lengths(array: "pa.Array") -> list[int | None]:
    """How many tokens the lists of each row hold, which may be lists of lists, without making Python's of them."""
    if "list" not in str(array.type):
        return [None] * len(array)
    offsets = array.offsets.to_pylist()
    if "list" not in str(array.type.value_type):
        return [end - start for start, end in itertools.pairwise(offsets)]
    inner = [0, *itertools.accumulate(length or 0 for length in array.values.value_lengths().to_pylist())]
    return [inner[end] - inner[start] for start, end in itertools.pairwise(offsets)]


def _from_flat(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The parts of a row of an older version, which writes what is nested as Python does where Parquet cannot."""
    read = {key: _unquoted(value) for key, value in row.items()}
    doc = {
        "query": row.get("example"),
        "instruction": row.get("instruction"),
        "choices": read.get("choices"),
        "gold_index": read.get("gold_index"),
        "gold": read.get("gold"),
        "specific": read.get("specifics"),
    }
    metrics = read.get("metrics")
    predictions = read.get("predictions")
    return doc, metrics if isinstance(metrics, dict) else {}, {"text": predictions}


def _unquoted(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return value


def _sample(
    id_: str,
    attempt: int,
    doc: Mapping[str, Any],
    scores: Mapping[str, Any],
    response: Mapping[str, Any],
    metric: str | None,
    origin: Mapping[str, Any],
) -> Sample:
    metrics = {name: number for name, value in scores.items() if (number := finite_number(value)) is not None}
    score = metrics.get(metric) if metric is not None else next(iter(metrics.values()), None)
    choices = [choice for choice in _as_list(doc.get("choices")) if isinstance(choice, str)]
    question, options = _question(doc, choices)
    texts = _as_list(response.get("text_post_processed")) or _as_list(response.get("text"))
    output_tokens = response.get("output_tokens")
    return Sample(
        id=id_,
        attempt=attempt,
        status=Status.UNSCORED if score is None else Status.SCORED,
        score=score,
        answer=_only(texts) if texts else _most_likely(choices, _as_list(response.get("logprobs"))),
        target=_only(_golds(doc, choices)),
        question=question,
        choices=options,
        input_tokens=response.get("input_tokens") or None,
        output_tokens=output_tokens if texts and output_tokens else None,
        origin={"doc": origin} if origin else {},
        metrics=metrics,
    )


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401
    return value if isinstance(value, list) else [] if value is None else [value]


def _only(values: Sequence[Any]) -> Any:  # noqa: ANN401
    return values[0] if len(values) == 1 else list(values) or None


def _golds(doc: Mapping[str, Any], choices: Sequence[str]) -> list[Any]:
    indexes = [index for index in _as_list(doc.get("gold_index")) if type(index) is int and 0 <= index < len(choices)]
    return [choices[index].strip() for index in indexes] or _as_list(doc.get("gold"))


def _most_likely(choices: Sequence[str], logprobs: Sequence[Any]) -> str | None:
    """The choice that the model thinks likeliest, before any normalisation by length."""
    if len(choices) != len(logprobs) or not all(type(value) is float for value in logprobs):
        return None
    return choices[max(range(len(choices)), key=logprobs.__getitem__)].strip() if choices else None


def _question(doc: Mapping[str, Any], choices: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The question without instruction and choices, and the choices, where they can be told apart."""
    text = doc.get("original_query") or doc.get("query")
    if not isinstance(text, str):
        return None, ()
    instruction = doc.get("instruction")
    if isinstance(instruction, str) and instruction and text.startswith(instruction):
        text = text[len(instruction) :]
    if len(choices) < 2:
        return text.strip() or None, ()  # the one "choice" is the answer
    if not all(map(_LETTER.fullmatch, choices)):
        return text.strip() or None, choices
    pieces = _split_choices(text, [choice.strip() for choice in choices])
    return (pieces[0] or None, pieces[1:]) if pieces else (text.strip() or None, ())


def _split_choices(text: str, letters: Sequence[str]) -> list[str]:
    """A prompt taken apart where lines begin with `A.`, `B.` and so on; the last choice ends with its line."""
    pieces: list[list[str]] = [[]]
    for line in text.splitlines():
        letter = letters[len(pieces) - 1] if len(pieces) <= len(letters) else None
        start = line.lstrip()
        if letter is not None and start.startswith(letter) and start[len(letter) :][:1] in {".", ")", ":"}:
            pieces.append([start[len(letter) + 1 :]])
        elif letter is not None:
            pieces[-1].append(line)
    return ["\n".join(piece).strip() for piece in pieces] if len(pieces) == len(letters) + 1 else []


def _metadata(specific: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a task says of a question and could be metadata."""
    if not isinstance(specific, dict):
        return {}
    return {
        key: value
        for key, value in specific.items()
        if (type(value) in (int, float, bool) or (type(value) is str and 0 < len(value) <= ORIGIN_TEXT_MAX))
        and not _NO_METADATA.fullmatch(key)
    }

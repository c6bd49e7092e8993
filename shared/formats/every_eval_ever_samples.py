"""The instance-level rows of Every Eval Ever: one line an answer, of one of the aggregate file's results.

Schema 0.1.0 had them within the aggregate file, without scores.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Any, BinaryIO

from shared.formats.harness import Ledger, Sample
from shared.formats.json_reading import BLOCK_BYTES, Unreadable, finite_number, read_lines
from shared.formats.tree import File
from shared.submission import Status

INLINE = "detailed_evaluation_results_per_samples"
_METADATA_TEXT_MAX = 200
KINDS_MAX = 1000
"""Kinds of rows, by their fields, that are counted before they are told."""
_PLACED = frozenset(
    {"schema_version", "evaluation_id", "model_id", "evaluation_name", "evaluation_result_id", "sample_id", "input"}
    | {"interaction_type", "output", "evaluation", "answer_attribution", "error", "token_usage", "performance"}
    | {"metadata"}
)
_PLACED_WITHIN = {
    "input": frozenset({"raw", "reference", "choices"}),
    "output": frozenset({"raw"}),
    "evaluation": frozenset({"score", "is_correct"}),
    "token_usage": frozenset({"input_tokens", "output_tokens", "total_tokens"}),
    "performance": frozenset({"latency_ms"}),
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows of a samples file are a task's, and what their scores are."""

    metric: str
    result_id: str | None
    names: frozenset[str]
    """The evaluation_names that its rows may have."""
    others: frozenset[str]
    """Names and ids of the results of the same task, which are other metrics of the same answers."""
    known: frozenset[str]
    """Names and ids of all results of the file."""
    takes_all: bool
    """Whether the file has this one result, whatever its rows call it."""
    reports: bool
    """Whether this task tells of the rows that are nobody's: one of the tasks does."""
    is_percent: bool
    checksum: str | None


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Reads the samples of one task."""

    aggregate: File
    file: File | None
    inline: list[Any] | None
    chosen: Chosen

    def samples(self, ledger: Ledger) -> Iterator[Sample]:
        """As `Task.samples` says."""
        if self.file is None:
            yield from self._inline(ledger)
            return
        self._compare_checksum(ledger)
        divisor = 100.0 if self.chosen.is_percent and _in_percent(self.file) else 1.0
        attempts: Counter[str] = Counter()
        shapes: Counter[tuple[str, ...]] = Counter()
        try:
            for place, row in read_lines(self.file):
                if isinstance(row, Unreadable):
                    if self.chosen.reports:
                        ledger.refuse(place, "the line is no JSON")
                elif self._is_taken(place, row, ledger):
                    sample = _read_row(place, row, self.chosen.metric, divisor, attempts, ledger)
                    if sample is not None:
                        shapes[_without_place(row)] += 1
                        if len(shapes) > KINDS_MAX:
                            _leave(shapes, ledger)
                        yield sample
        finally:
            _leave(shapes, ledger)

    def _compare_checksum(self, ledger: Ledger) -> None:
        if self.chosen.checksum is None or not self.chosen.reports or self.file is None:
            return
        with self.file.open() as stream:
            if _sha256_of(stream) != self.chosen.checksum.lower():
                ledger.warn("the samples are not those that the aggregate file was made of: the checksum differs")

    def _is_taken(self, place: str, row: object, ledger: Ledger) -> bool:
        chosen = self.chosen
        if not isinstance(row, dict):
            if chosen.reports:
                ledger.refuse(place, "the line is no JSON object")
            return False
        if chosen.takes_all:
            return True
        name, result_id = _text(row.get("evaluation_name")), _text(row.get("evaluation_result_id"))
        if result_id is not None and chosen.result_id is not None:
            mine = result_id == chosen.result_id
        else:
            mine = name in chosen.names
        if mine:
            return True
        told = result_id if result_id is not None and result_id in chosen.known else name
        if told in chosen.others:
            ledger.pass_over("another metric of the same answers")
        elif chosen.reports and told not in chosen.known:
            ledger.refuse(place, "evaluation_result_id and evaluation_name are of no result in the aggregate file")
        return False

    def _inline(self, ledger: Ledger) -> Iterator[Sample]:
        if not self.chosen.reports:
            return
        ledger.warn("samples of schema 0.1.0 have no scores: they are taken as unscored")
        for number, row in enumerate(self.inline or ()):
            if not isinstance(row, dict) or not isinstance(row.get("sample_id"), str | int):
                ledger.refuse(f"{self.aggregate.path}:{INLINE}[{number}]", "sample_id is missing")
                continue
            yield Sample(
                id=str(row["sample_id"]),
                status=Status.UNSCORED,
                answer=row.get("response"),
                target=row.get("ground_truth"),
                question=_text(row.get("input")),
                choices=_texts(row.get("choices")),
            )
            ledger.leave(key for key in ("prompt", "full_logprobs") if row.get(key) is not None)


def _leave(shapes: Counter[tuple[str, ...]], ledger: Ledger) -> None:
    for fields, rows in shapes.items():
        ledger.leave(Counter(dict.fromkeys(fields, rows)))
    shapes.clear()


def _sha256_of(stream: BinaryIO) -> str:
    digest = sha256()
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _in_percent(file: File) -> bool:
    """Whether rows of a result in percent are in percent too: most converters write 0 and 1 in them."""
    for _, row in read_lines(file):
        evaluation = row.get("evaluation") if isinstance(row, dict) else None
        score = evaluation.get("score") if isinstance(evaluation, dict) else None
        if isinstance(score, int | float) and score > 1:
            return True
    return False


def _read_row(
    place: str, row: Mapping[str, Any], metric: str, divisor: float, attempts: Counter[str], ledger: Ledger
) -> Sample | None:
    sample_id = row.get("sample_id")
    if isinstance(sample_id, int) and not isinstance(sample_id, bool):
        sample_id = str(sample_id)
    if not isinstance(sample_id, str) or not sample_id:
        ledger.refuse(place, "sample_id is missing or no text")
        return None
    evaluation, given = _within(row, "evaluation"), _within(row, "input")
    value = evaluation.get("score")
    number = finite_number(value)
    score = None if number is None else number / divisor
    error, status = row.get("error"), Status.SCORED
    if isinstance(error, str) and error:
        status = Status.REFUSED if "refus" in error.lower() else Status.ERROR
    elif score is None:
        status = Status.UNSCORED
    attempt = attempts[sample_id]
    attempts[sample_id] += 1
    reference = _texts(given.get("reference"))
    usage = _within(row, "token_usage")
    return Sample(
        id=sample_id,
        attempt=attempt,
        status=status,
        score=score if status is Status.SCORED else None,
        answer=_answer(row),
        target=reference[0] if len(reference) == 1 else reference or None,
        question=_text(given.get("raw")),
        choices=_texts(given.get("choices")),
        latency_ms=_amount(_within(row, "performance").get("latency_ms")),
        input_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        origin=_origin(row),
        metrics={} if score is None else {metric: score},
    )


def _answer(row: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """What was extracted as the final answer, else the last of what was extracted, else the output as it was."""
    attributions = row.get("answer_attribution")
    extracted = [item for item in attributions if isinstance(item, dict)] if isinstance(attributions, list) else []
    for item in chain((item for item in reversed(extracted) if item.get("is_terminal")), reversed(extracted)):
        if item.get("extracted_value") is not None:
            return item["extracted_value"]
    outputs = _texts(_within(row, "output").get("raw"))
    if outputs:
        return outputs[0] if len(outputs) == 1 else outputs
    messages = row.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "assistant" and message.get("content"):
            return message["content"]
    return None


def _origin(row: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        key: value
        for key, value in _within(row, "metadata").items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _METADATA_TEXT_MAX)
    }
    return {"metadata": metadata} if metadata else {}


def _without_place(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a row that nothing is made of, by their paths."""
    fields = [key for key, value in row.items() if key not in _PLACED and value not in (None, [], {})]
    for key, placed in _PLACED_WITHIN.items():
        within = row.get(key)
        if isinstance(within, dict):
            fields += [f"{key}.{name}" for name, value in within.items() if name not in placed and value is not None]
    metadata = row.get("metadata")
    if isinstance(metadata, dict):
        fields += [
            f"metadata.{name}"
            for name, value in metadata.items()
            if isinstance(value, dict | list) or (isinstance(value, str) and len(value) > _METADATA_TEXT_MAX)
        ]
    return tuple(fields)


def _within(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> list[str]:
    """A list of texts; before 0.3.0 a single one stood for a list of one."""
    if isinstance(value, str):
        return [value]
    items: Iterable[object] = value if isinstance(value, list) else ()
    return [item if isinstance(item, str) else str(item) for item in items if item is not None]


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= 2**53 else None


def _amount(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15:
        return float(value)
    return None

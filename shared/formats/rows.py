"""From samples to the questions of a result, one by one, with an account of those that cannot be one."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.first_seen import FirstSeen
from shared.formats.comparison import Tallies
from shared.formats.content import content_hash
from shared.formats.harness import HarnessRun, Ledger, Sample, Task
from shared.formats.json_reading import Unreadable
from shared.formats.mapping import MetadataMapper, TaskMapping
from shared.names import check_text_id
from shared.registry.specs import BenchmarkSpec
from shared.submission import Status, learn
from shared.submission_stream import QUESTIONS_MAX

TEXT_MAX = 1000
"""Characters of an answer or target that are kept; the raw input has all of them."""
_ATTEMPT_MAX = 32_767
_COUNT_MAX = 2**53
_AMOUNT_MAX = 1e15
_SHAPES_MAX = 1000
_LEVELS_MAX = 50
"""Lists and objects within one another, in what is kept as such; deeper ones become text, for a result has a depth."""


class Row(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A question as it is pushed: `shared.submission.Question`, without what is not told."""

    question_id: str
    attempt: int = 0
    status: Status = Status.SCORED
    score: float | None = None
    answer: Any = None
    target: Any = None
    content_hash: str | None = None
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    metadata: dict[str, Any] = {}


learn(Row)


@dataclass(frozen=True, slots=True)
class Part:
    """A task of a run, and what the registry takes it for."""

    run: HarnessRun
    task: Task
    mapping: TaskMapping


class Rows:
    """The questions of one result, out of the samples of its tasks."""

    def __init__(self, parts: Sequence[Part], spec: BenchmarkSpec | None, ledger: Ledger, tallies: Tallies) -> None:
        self._parts = parts
        self._spec = spec
        self._ledger = ledger
        self._tallies = tallies
        self._seen = FirstSeen()
        self._mapper = MetadataMapper(spec)
        self._shapes: Counter[tuple[tuple[str, tuple[str, ...]], ...]] = Counter()
        """The keys of samples' origins, and of the objects in them, with the samples that have them."""

    def read(self) -> Iterator[Row]:
        """All that can be taken; the ledger and the tallies are told of every sample."""
        number = 0
        for part in self._parts:
            if part.task.samples is None:
                self._ledger.warn(f"{part.task.names[0]} has no samples, so its figures are only in the raw input")
                continue
            prefix = self._prefix(part)
            tally = self._tallies.of(part.task)
            try:
                for sample in part.task.samples(self._ledger):
                    if number >= QUESTIONS_MAX:
                        self._ledger.refuse(
                            _place(part, sample),
                            f"cannot be taken from here on: a result has at most {QUESTIONS_MAX:,} answers",
                        )
                        tally.cut_short = True
                        break
                    tally.add(sample)
                    row = self._row(sample, part, prefix, number)
                    number += 1
                    if row is not None:
                        yield row
            except Unreadable as error:
                self._ledger.refuse(error.place, f"cannot be read from here on: {error.reason}")
                tally.cut_short = True
        self._tell_fields()

    def _prefix(self, part: Part) -> str:
        """What keeps questions of different tasks apart."""
        if part.mapping.metadata:
            return "/".join(str(value) for value in part.mapping.metadata.values()) + "/"
        return f"{part.task.names[0]}/" if len(self._parts) > 1 else ""

    def _row(self, sample: Sample, part: Part, prefix: str, number: int) -> Row | None:
        place = _place(part, sample)
        if type(sample.attempt) is not int or not 0 <= sample.attempt <= _ATTEMPT_MAX:
            self._ledger.refuse(place, f"its attempt is not a number from 0 to {_ATTEMPT_MAX:,}")
            return None
        status, score = sample.status, sample.score
        if score is not None and not math.isfinite(score):
            score = None
        if status is Status.SCORED and score is None:
            status = Status.UNSCORED
        if score is not None and self._spec and not self._spec.score_min <= score <= self._spec.score_max:
            scale = f"{self._spec.score_min:g}…{self._spec.score_max:g}"
            self._ledger.refuse(place, f"its score is outside {self._spec.name}'s scale {scale}")
            return None
        words = sample.content_hash
        if words is None and sample.question:
            words = content_hash(sample.question, sample.choices)
        question_id = self._question_id(prefix + sample.id, sample.attempt, words, number)
        if question_id is None:
            self._ledger.refuse(place, "the same attempt at the same question is there already")
            return None
        if self._spec is not None:
            self._shapes[_shape(sample.origin)] += 1
            if len(self._shapes) > _SHAPES_MAX:
                self._tell_shapes()
        try:
            row = Row(
                question_id=question_id,
                attempt=sample.attempt,
                status=status,
                score=score,
                answer=self._short(sample.answer),
                target=self._short(sample.target),
                content_hash=words,
                latency_ms=_amount(sample.latency_ms),
                input_tokens=_count(sample.input_tokens),
                output_tokens=_count(sample.output_tokens),
                cost_usd=_amount(sample.cost_usd),
                metadata=self._mapper.read(sample.origin, part.mapping.metadata, self._task_origin(part)),
            )
            check_text_id(question_id)
            msgspec.json.encode(row)
        except ValueError as error:  # of which an id of 400 bytes, or half of a surrogate pair, is one
            self._ledger.refuse(place, f"it cannot be stored: {error}")
            return None
        return row

    def _task_origin(self, part: Part) -> Mapping[str, Any]:
        """What the task says of all its samples: worth nothing where nobody asked for it and there is only one."""
        return part.task.origin if self._spec or len(self._parts) > 1 else {}

    def _question_id(self, id_: str, attempt: int, words: str | None, number: int) -> str | None:
        """The id, or one with a part of the content hash where another text has it; None for a repetition."""
        first = self._seen.setdefault((id_, attempt), number) == number
        same_words = self._seen.setdefault((id_, attempt, words), number) != number
        if first:
            return id_
        if same_words or words is None:
            return None
        self._ledger.warn("several questions have one id: those after the first are told apart by their content")
        digest = words.rpartition(":")[2]
        # Of many thousands with one id some begin alike; and another may be called just so.
        longer = (f"{id_}~{digest[:letters]}" for letters in (8, 16, 64))
        return next((name for name in longer if self._seen.setdefault((name, attempt), number) == number), None)

    def _short(self, value: Any) -> Any:  # noqa: ANN401
        if value is None or isinstance(value, float | int):
            return value
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if len(text) <= TEXT_MAX:
            return text if is_deep(value) else value
        self._ledger.warn(f"answers and targets over {TEXT_MAX:,} characters are cut; the raw input has them whole")
        return text[:TEXT_MAX] + "…"

    def _tell_fields(self) -> None:
        """Count what could have been metadata and is none of the benchmark's."""
        self._tell_shapes()
        for text, rows in self._mapper.unmapped.items():
            self._ledger.left[f"{text} (not a value of that field)"] += rows

    def _tell_shapes(self) -> None:
        for shape, rows in self._shapes.items():
            paths = {f"{key}.{inner}" if inner else key for key, inners in shape for inner in inners}
            self._ledger.leave(Counter(dict.fromkeys(paths - self._mapper.used, rows)))
        self._shapes.clear()


def _place(part: Part, sample: Sample) -> str:
    """What a sample is called where it is refused."""
    return f"{part.task.names[0]}, sample {sample.id}"


def _shape(origin: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple([(key, tuple(value) if type(value) is dict else ("",)) for key, value in origin.items()])


def is_deep(value: object, levels: int = _LEVELS_MAX) -> bool:
    """Whether lists and objects stand within one another deeper than is kept."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deep(item, levels - 1) for item in inner)


def _amount(value: float | None) -> float | None:
    return value if value is not None and 0 <= value <= _AMOUNT_MAX else None


def _count(value: int | None) -> int | None:
    return int(value) if value is not None and 0 <= value <= _COUNT_MAX else None

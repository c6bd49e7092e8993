"""From what a reader found to results as they are pushed, with an account of what got lost.

A finding becomes one raw input, which keeps its files, and a standardized result for each benchmark, model and time in
it: the 57 tasks of MMLU are one result. Nothing is read before somebody takes a result's body, and then row by row.

Identity: the run id is the harness's own, or made of the files' content; times are those that the files state. So the
same files are the same results, whenever and from wherever they are imported.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from pydantic import ValidationError

from shared.first_seen import FirstSeen
from shared.formats.comparison import Tallies, compare
from shared.formats.content import content_hash
from shared.formats.harness import (
    ExportedRun,
    Finding,
    HarnessRun,
    Ledger,
    NotReadable,
    ReadOptions,
    Sample,
    Task,
)
from shared.formats.json_reading import Unreadable
from shared.formats.mapping import MetadataMapper, TaskMapping, map_task
from shared.imports import ComparedAggregate
from shared.names import check_text_id
from shared.problems import validation_faults
from shared.registry.specs import BenchmarkSpec, Registry
from shared.submission import Envelope, Provenance, Status, learn
from shared.submission_stream import QUESTIONS_MAX

UNTOLD_TIME = "1970-01-01T00:00:00Z"
"""The time of a run whose files state none; always the same, or a second import would be another result."""
SEVERAL = "several"
"""What stands for the benchmark or model of a raw input that holds several."""
TEXT_MAX = 1000
"""Characters of an answer or target that are kept; the raw input has all of them."""
_PIECE_BYTES = 64 * 1024
_ATTEMPT_MAX = 32_767
_COUNT_MAX = 2**53
_AMOUNT_MAX = 1e15
_DIGEST_LETTERS = 16
_SHAPES_MAX = 1000
_LEVELS_MAX = 50
"""Lists and objects within one another, in what is kept as such; deeper ones become text, for a result has a depth."""
RESULTS_MAX = 5000
"""Results of one finding: each is stored by itself, and named in the report."""


class _Row(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
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


learn(_Row)


@dataclass(frozen=True, slots=True)
class Part:
    """A task of a run, and what the registry takes it for."""

    run: HarnessRun
    task: Task
    mapping: TaskMapping


@dataclass(slots=True)
class StandardResult:
    """A result to be pushed. `taken` and the ledger are right once its body was read to the end."""

    envelope: Envelope
    parts: Sequence[Part]
    """None of them in what Scorehouse itself wrote out."""
    registered: bool
    _pieces: "Callable[[StandardResult], Iterator[bytes]]"
    _rows: "Callable[[StandardResult], Iterator[_Row]] | None" = None
    taken: int = 0

    @property
    def with_questions(self) -> bool:
        """Whether it has samples, so that none taken means that all were refused."""
        return any(part.task.samples is not None for part in self.parts)

    @property
    def tasks(self) -> list[str]:
        """What the harness calls that which is in it."""
        return [part.task.names[0] for part in self.parts]

    def data(self) -> Iterator[bytes]:
        """The JSON text of its data, piece by piece; to be read once."""
        return self._pieces(self)

    def questions(self) -> Iterator[bytes]:
        """The JSON text of each question, as `data` has them; read instead of it. None where only scores are stated."""
        self.taken = 0
        for row in self._rows(self) if self._rows else ():
            self.taken += 1
            yield msgspec.json.encode(row)

    def body(self) -> Iterator[bytes]:
        """The same with the envelope, as a POST takes it."""
        envelope = self.envelope.model_dump_json(exclude_none=True).encode()
        yield envelope.removesuffix(b"}") + b',"data":'
        yield from self.data()
        yield b"}"


class Standardized:
    """What a finding becomes."""

    def __init__(
        self,
        finding: Finding,
        runs: Sequence[HarnessRun | ExportedRun],
        *,
        digest: str,
        registry: Registry,
        options: ReadOptions,
        raw: Envelope | None = None,
        usual: "Sequence[HarnessRun | ExportedRun]" = (),
    ) -> None:
        """`digest` is that of the finding's content (`digest_of`); `raw` the raw input that it is, if there is one;
        `usual` are the same runs as they are read where nobody chooses a metric or a filter.

        NotReadable where names cannot be made of it.
        """
        self.finding = finding
        self.ledger = Ledger()
        self._registry = registry
        self._digest = digest[:_DIGEST_LETTERS]
        self._options = options
        self._tallies: dict[int, Tallies] = {}
        self._runs = [run for run in runs if isinstance(run, HarnessRun)]
        self._usual = {
            (number, task.names[0]): task.metric
            for number, run in enumerate(one for one in usual if isinstance(one, HarnessRun))
            for task in run.tasks
        }
        self.incomplete = next((run.incomplete for run in self._runs if run.incomplete), None)
        for run in self._runs:
            for warning in run.warnings:
                self.ledger.warn(warning)
        exported = [
            StandardResult(run.envelope, (), run.envelope.benchmark_name in registry.benchmarks, _pieces=_copied(run))
            for run in runs
            if isinstance(run, ExportedRun)
        ]
        self.results = exported + [
            result for number, run in enumerate(self._runs) for result in self._plan(number, run)
        ]
        self._tell_apart()
        self.raw = (raw or self._raw_envelope()) if self._runs else None
        """The envelope of the raw input that keeps the files; None for what Scorehouse itself wrote out."""
        if self.raw is not None:
            for result in self.results:
                result.envelope = _linked(result.envelope, self.raw.result_name)

    def _plan(self, number: int, run: HarnessRun) -> Iterator[StandardResult]:
        tallies = self._tallies[id(run)] = Tallies(run)
        parts: dict[str, list[Part]] = {}
        for task in run.tasks:
            mapping = map_task(task.names, self._registry, task.own_name)
            parts.setdefault(mapping.benchmark, []).append(Part(run, task, mapping))
        if len(parts) > RESULTS_MAX:
            raise NotReadable(
                f"{self.finding.place}: has {len(parts):,} tasks that are benchmarks of their own; at most "
                f"{RESULTS_MAX:,} results are made of one output"
            )
        run_id = self._run_id(number, run)
        for benchmark, those in parts.items():
            pieces: Callable[[StandardResult], Iterator[bytes]] = _stated_data
            rows = None
            if any(part.task.samples is not None for part in those):
                rows = self._rows(tallies, self._registry.benchmarks.get(benchmark))
                pieces = _questions_data(rows)
            envelope = self._envelope(run, run_id, benchmark, those)
            yield StandardResult(envelope, those, benchmark in self._registry.benchmarks, _pieces=pieces, _rows=rows)

    def _envelope(self, run: HarnessRun, run_id: str, benchmark: str, parts: Sequence[Part]) -> Envelope:
        versions = sorted({part.task.version for part in parts if part.task.version})
        graders = sorted({part.task.metric for part in parts if part.task.metric})
        provenance = Provenance(
            harness=self.finding.format,
            harness_version=_text_id(run.harness_version),
            task_version=_text_id(", ".join(versions)),
            grader=_text_id(", ".join(graders)),
            config=_plain(run.config) or None,
        )
        return self._checked(
            run_id=run_id,
            benchmark_name=benchmark,
            timestamp=self._timestamp(run),
            model_id=self._options.model_id or run.model_id,
            tokenizer_id=_text_id(run.tokenizer_id),
            source=self.finding.format,
            provenance=provenance,
        )

    def _raw_envelope(self) -> Envelope:
        def only(values: Iterable[str]) -> str:
            first, *others = dict.fromkeys(values)
            return SEVERAL if others else first

        envelopes = [result.envelope for result in self.results]
        return self._checked(
            run_id=f"{self.finding.format}-{self._digest}",
            benchmark_name=only(envelope.benchmark_name for envelope in envelopes),
            timestamp=min(envelope.timestamp for envelope in envelopes),
            model_id=only(envelope.model_id for envelope in envelopes),
            source=self.finding.format,
        )

    def _checked(self, **fields: Any) -> Envelope:  # noqa: ANN401
        try:
            return Envelope(**fields)
        except ValidationError as error:
            faults = "; ".join(f"{fault.place} {fault.detail}" for fault in validation_faults(error))
            raise NotReadable(f"{self.finding.place} states what no result can have: {faults}") from None

    def _timestamp(self, run: HarnessRun) -> str:
        timestamp = run.timestamp or self._options.timestamp
        if timestamp is None:
            self.ledger.warn(f"no time is stated, so {UNTOLD_TIME} stands for it; say it with --timestamp")
        return timestamp or UNTOLD_TIME

    def _run_id(self, number: int, run: HarnessRun) -> str:
        """The harness's own id of the run, or one made of the content; with what was chosen of it."""
        usual = ((task, self._usual.get((number, task.names[0]), task.metric)) for task in run.tasks)
        chosen = sorted({task.metric for task, metric in usual if task.metric and task.metric != metric})
        if len(chosen) > 1:
            chosen = [self._options.filter or self._options.metric or "", digest_of(chosen)[:8]]
        names = [run.run_key or f"{self.finding.format}-{self._digest}"]
        if run.run_key and run.incomplete:
            names.append(self._digest)  # what it will be when it is whole is another result
        return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(names + chosen))

    def _tell_apart(self) -> None:
        """Results of one finding whose names would be the same get numbers, in the order of the files."""
        taken: set[str] = set()
        numbers: Counter[str] = Counter()
        for result in self.results:
            first = result.envelope
            while result.envelope.result_name in taken:
                numbers[first.result_name] += 1
                number = numbers[first.result_name] + 1
                result.envelope = first.model_copy(update={"run_id": f"{first.run_id}-{number}"})
            taken.add(result.envelope.result_name)

    def _rows(self, tallies: Tallies, spec: BenchmarkSpec | None) -> "Callable[[StandardResult], Iterator[_Row]]":
        return lambda result: _Rows(result, spec, self.ledger, tallies).read()

    def compare(self) -> list[ComparedAggregate]:
        """What the harness states beside what its rows come to, once all bodies were read."""
        return [found for run in self._runs for found in compare(run, self._tallies[id(run)])]


class _Rows:
    """The questions of one result, out of the samples of its tasks."""

    def __init__(self, result: StandardResult, spec: BenchmarkSpec | None, ledger: Ledger, tallies: Tallies) -> None:
        self._parts = result.parts
        self._spec = spec
        self._ledger = ledger
        self._tallies = tallies
        self._seen = FirstSeen()
        self._mapper = MetadataMapper(spec)
        self._shapes: Counter[tuple[tuple[str, tuple[str, ...]], ...]] = Counter()
        """The keys of samples' origins, and of the objects in them, with the samples that have them."""

    def read(self) -> Iterator[_Row]:
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
                            place_of(part, sample),
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

    def _row(self, sample: Sample, part: Part, prefix: str, number: int) -> _Row | None:
        place = place_of(part, sample)
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
            row = _Row(
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
            return text if _is_deep(value) else value
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


def place_of(part: Part, sample: Sample) -> str:
    """What a sample is called where it is refused."""
    return f"{part.task.names[0]}, sample {sample.id}"


def _shape(origin: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple([(key, tuple(value) if type(value) is dict else ("",)) for key, value in origin.items()])


def _questions_data(
    rows: "Callable[[StandardResult], Iterator[_Row]]",
) -> "Callable[[StandardResult], Iterator[bytes]]":
    def pieces(result: StandardResult) -> Iterator[bytes]:
        result.taken = 0
        encode = msgspec.json.Encoder().encode_into
        held = bytearray(b'{"questions":[')
        for row in rows(result):
            if result.taken:
                held += b","
            encode(row, held, -1)
            result.taken += 1
            if len(held) >= _PIECE_BYTES:
                yield bytes(held)
                held.clear()
        yield bytes(held) + b"]}"

    return pieces


def _stated_data(result: StandardResult) -> Iterator[bytes]:
    """Data of a result without answers: the score that the harness states, and its other figures."""
    figures = {
        part.task.names[0]: {
            (stated.name or stated.metric) + ("" if stated.kind == "mean" else f" ({stated.kind})"): stated.value
            for stated in part.task.stated
        }
        for part in result.parts
    }
    data: dict[str, Any] = {"stated": figures}
    scores = [_stated_score(part.task) for part in result.parts]
    told = [score for score in scores if score is not None]
    if told and len(told) == len(scores) and len({part.task.metric for part in result.parts}) == 1:
        counts = [_stated_count(part.task) for part in result.parts]
        weights = [count or 0 for count in counts] if all(counts) else [1] * len(told)
        mean = sum(score * weight for score, weight in zip(told, weights, strict=True)) / sum(weights)
        data = {"score": mean, **data}
        if len(told) > 1:
            data["score_of"] = f"{len(told)} tasks, weighted " + ("by their samples" if all(counts) else "equally")
    yield msgspec.json.encode(data)


def _stated_score(task: Task) -> float | None:
    """The stated mean of the metric that is the score, never another's; the first from 0 to 1 where none is named."""
    means = [stated for stated in task.stated if stated.kind == "mean" and math.isfinite(stated.value)]
    if task.metric is None:
        return next((score for stated in means if 0 <= (score := stated.value / stated.scale) <= 1), None)
    of_metric = (stated for stated in means if task.metric in (stated.metric, stated.metric.partition(",")[0]))
    return next((stated.value / stated.scale for stated in of_metric), None)


def _stated_count(task: Task) -> int | None:
    return task.expected or next((stated.count for stated in task.stated if stated.count), None)


def _copied(run: ExportedRun) -> "Callable[[StandardResult], Iterator[bytes]]":
    return lambda _: run.data()


def _linked(envelope: Envelope, raw_name: str) -> Envelope:
    provenance = (envelope.provenance or Provenance()).model_copy(update={"raw_input": raw_name})
    return envelope.model_copy(update={"provenance": provenance})


def _text_id(text: str | None) -> str | None:
    """A text that can stand in an envelope; None if it cannot."""
    try:
        return check_text_id(text) if text else None
    except ValueError:
        return None


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can be kept: numbers that are none become null."""
    shallow = {key: msgspec.json.encode(value).decode() if _is_deep(value) else value for key, value in config.items()}
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(shallow, order="sorted"))
    return plain


def _is_deep(value: object, levels: int = _LEVELS_MAX) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(item, levels - 1) for item in inner)


def _amount(value: float | None) -> float | None:
    return value if value is not None and 0 <= value <= _AMOUNT_MAX else None


def _count(value: int | None) -> int | None:
    return int(value) if value is not None and 0 <= value <= _COUNT_MAX else None


def digest_of(files: Iterable[str]) -> str:
    """What a finding's content is known by: of the SHA-256 of its files, wherever they lie and whatever their names."""
    return sha256("\n".join(sorted(files)).encode()).hexdigest()

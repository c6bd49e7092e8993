"""From what a reader found to results as they are pushed, with an account of what got lost.

A finding becomes one raw input, which keeps its files, and a standardized result for each benchmark, model and time in
it: the 57 tasks of MMLU are one result. Nothing is read before somebody takes a result's body, and then row by row.

Identity: the run id is the harness's own, or made of the files' content; times are those that the files state. So the
same files are the same results, whenever and from wherever they are imported.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec
from pydantic import ValidationError

from shared.formats.comparison import Tallies, compare
from shared.formats.harness import ExportedRun, Finding, HarnessRun, Ledger, NotReadable, ReadOptions
from shared.formats.mapping import map_task
from shared.formats.rows import Part, Row, Rows, is_deep
from shared.formats.stated import stated_data
from shared.imports import ComparedAggregate
from shared.names import check_text_id
from shared.problems import validation_faults
from shared.registry.specs import BenchmarkSpec, Registry
from shared.submission import Envelope, Provenance

UNTOLD_TIME = "1970-01-01T00:00:00Z"
"""The time of a run whose files state none; always the same, or a second import would be another result."""
SEVERAL = "several"
"""What stands for the benchmark or model of a raw input that holds several."""
_PIECE_BYTES = 64 * 1024
_DIGEST_LETTERS = 16
RESULTS_MAX = 5000
"""Results of one finding: each is stored by itself, and named in the report."""


@dataclass(slots=True)
class StandardResult:
    """A result to be pushed. `taken` and the ledger are right once its body was read to the end."""

    envelope: Envelope
    parts: Sequence[Part]
    """None of them in what Scorehouse itself wrote out."""
    registered: bool
    _rows: Callable[[], Iterator[Row]] | None
    """None of a result without samples."""
    _otherwise: Callable[[], Iterator[bytes]] | None = None
    """Its data, then."""
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
        """The JSON text of its data, piece by piece."""
        if self._rows is None:
            yield from self._otherwise() if self._otherwise else [stated_data([part.task for part in self.parts])]
            return
        self.taken = 0
        encode = msgspec.json.Encoder().encode_into
        held = bytearray(b'{"questions":[')
        for row in self._rows():
            if self.taken:
                held += b","
            encode(row, held, -1)
            self.taken += 1
            if len(held) >= _PIECE_BYTES:
                yield bytes(held)
                held.clear()
        yield bytes(held) + b"]}"

    def questions(self) -> Iterator[bytes]:
        """The JSON text of each question, as `data` has them; read instead of it. None where only scores are stated."""
        self.taken = 0
        for row in self._rows() if self._rows else ():
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
            StandardResult(run.envelope, (), run.envelope.benchmark_name in registry.benchmarks, None, run.data)
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
            spec = self._registry.benchmarks.get(benchmark)
            read = partial(self._read, those, spec, tallies)
            has_samples = any(part.task.samples is not None for part in those)
            envelope = self._envelope(run, run_id, benchmark, those)
            yield StandardResult(envelope, those, spec is not None, read if has_samples else None)

    def _read(self, parts: Sequence[Part], spec: BenchmarkSpec | None, tallies: Tallies) -> Iterator[Row]:
        return Rows(parts, spec, self.ledger, tallies).read()

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

    def compare(self) -> list[ComparedAggregate]:
        """What the harness states beside what its rows come to, once all bodies were read."""
        return [found for run in self._runs for found in compare(run, self._tallies[id(run)])]


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
    shallow = {key: msgspec.json.encode(value).decode() if is_deep(value) else value for key, value in config.items()}
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(shallow, order="sorted"))
    return plain


def digest_of(files: Iterable[str]) -> str:
    """What a finding's content is known by: of the SHA-256 of its files, wherever they lie and whatever their names."""
    return sha256("\n".join(sorted(files)).encode()).hexdigest()

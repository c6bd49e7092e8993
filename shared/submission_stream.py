"""A pushed result that is too large to be held: read while it arrives, with the checks and words of `submission`.

`SubmissionStream` takes the body and hands on the bytes of `data`. What it remembers is the envelope, what is told of
the data, and 17 to 26 bytes a question.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import islice
from typing import cast

import msgspec

from shared.first_seen import FirstSeen
from shared.json_stream import Group, JsonStream, Level
from shared.problems import Fault, InvalidRequest, MalformedJson, invalid
from shared.registry.specs import BenchmarkSpec, Registry
from shared.strict_json import MAX_DEPTH, JsonValue
from shared.submission import (
    EMBEDDED,
    KNOWN_KEYS,
    SUMMARY_MAX_SCALARS,
    WARNINGS_MAX,
    DataBytes,
    Envelope,
    Scalar,
    check_data,
    convert_questions,
    data_warnings,
    find_benchmark_faults,
    find_shape_faults,
    read_envelope,
    short_scalars,
    unknown_metadata,
    unread_keys,
)

ENVELOPE_MAX_BYTES = 1024 * 1024
QUESTIONS_MAX = 2_000_000

_Container = list[JsonValue] | dict[str, JsonValue]
_DATA_BEGINS = len(b'{"data":')


@dataclass(frozen=True, slots=True)
class StreamedSubmission:
    """A valid body, as far as it could be read in one go."""

    envelope: Envelope
    questions: int | None
    """How many; None where the data has none or they are not to be read."""
    summary: Mapping[str, Scalar]
    warnings: Sequence[str]
    benchmark_unread: BenchmarkSpec | None = None
    """The benchmark that questions still must be checked against: its name came after them."""

    @property
    def questions_unread(self) -> bool:
        """Whether the stored data must be read again, by `second_pass`, before this is known to be valid."""
        return self.benchmark_unread is not None

    def second_pass(self) -> "QuestionStream":
        """What to feed the bytes of data to, as they were handed out."""
        return QuestionStream(self)


class SubmissionStream:
    """Reads a body block by block. Slow: call it off the event loop.

    JSON that is malformed is refused at once; whatever else is wrong is told at the end, as with a whole body.
    """

    def __init__(self, *, with_questions: bool, registry: Registry) -> None:
        """`with_questions` for standardized results, whose questions are checked."""
        self._with_questions = with_questions
        self._registry = registry
        self._body = JsonStream()
        self._data = _DataReader(with_questions=with_questions)
        self._data_open = False
        self._data_complete = False
        self._embedded: JsonStream | None = None
        self._embedded_problem: MalformedJson | None = None
        self._envelope_bytes = 0

    def feed(self, block: bytes) -> bytes:
        """Read on, and return the bytes of data in what could be read, to be stored in this order.

        With the body's last byte all of data has been returned. MalformedJson names line and column in the body.
        """
        return b"".join([self._take(group) for group in self._body.feed(block)])

    def finish(self) -> StreamedSubmission:
        """What was sent, once all of it was fed. MalformedJson or InvalidRequest says what is wrong and where."""
        self._body.finish()
        document = self._body.value
        envelope = read_envelope(document)
        value = cast("dict[str, JsonValue]", document)["data"]
        check_data(value if self._embedded is None else self._finish_embedded(self._embedded))
        self._data.refuse_faults()
        name = envelope.benchmark_name
        benchmark = self._registry.benchmarks.get(name)
        unread = self._data.benchmark is None and bool(self._data.questions)
        return StreamedSubmission(
            envelope=envelope,
            questions=self._data.questions,
            summary=self._data.summary,
            warnings=self._data.warnings(benchmark, name) if self._with_questions else [],
            benchmark_unread=benchmark if unread else None,
        )

    def _take(self, group: Group) -> bytes:
        """Take up what a group tells; the bytes of data in it."""
        document, levels = self._body.value, self._body.levels
        if not isinstance(document, dict):
            _forget(levels[1:])
            return b""
        if self._data_complete or "data" not in document:
            self._count_envelope(len(group.text))
            return b""
        in_data = levels[1:] and levels[1].key == "data" and (len(levels) > 2 or self._body.in_entry)
        was_open, self._data_open = self._data_open, bool(in_data and len(levels) > 2)
        self._data_complete = not in_data
        if self._data.benchmark is None and not self._data.questions:
            name = document.get("benchmark_name")
            self._data.benchmark = self._registry.benchmarks.get(name) if isinstance(name, str) else None
        value = document["data"]
        if isinstance(value, str):
            document["data"] = ""
            return self._take_text(value)
        if not isinstance(value, dict | list):
            return b""
        self._data.take(value, levels[2:] if in_data else (), in_entry=self._body.in_entry)
        received = self._bytes_of_data(group, was_open=was_open)
        self._count_envelope(len(group.text) - len(received))
        return received

    def _count_envelope(self, size: int) -> None:
        self._envelope_bytes += size
        if self._envelope_bytes > ENVELOPE_MAX_BYTES:
            raise invalid(Fault(place="body", detail=f"has more than {ENVELOPE_MAX_BYTES:,} bytes besides data"))

    def _bytes_of_data(self, group: Group, *, was_open: bool) -> bytes:
        if was_open and self._data_open:
            return group.text
        raw = bytes(msgspec.json.decode(group.document, type=DataBytes).data)
        if was_open:  # the document begins with {"data": and what was open of it
            return group.text[: len(group.text) - group.end + _DATA_BEGINS + len(raw)]
        if self._data_open:  # the document ends with data and the brace of the body
            return group.document[len(group.document) - 1 - len(raw) : group.end]
        return raw

    def _take_text(self, text: str) -> bytes:
        """Take up a piece of data that was sent as a string."""
        stream = self._embedded = self._embedded or JsonStream(EMBEDDED, max_depth=MAX_DEPTH)
        data = text.encode()
        if self._embedded_problem is None:
            try:
                _read_data(stream, data, self._data)
            except MalformedJson as problem:  # told only if the body around it is well-formed
                self._embedded_problem = problem
        return data

    def _finish_embedded(self, stream: JsonStream) -> JsonValue:
        try:
            if self._embedded_problem is not None:
                raise self._embedded_problem
            stream.finish()
        except MalformedJson as problem:
            raise invalid(Fault(place="data", detail=problem.detail)) from None
        return stream.value


class QuestionStream:
    """Reads the stored bytes of data a second time, where the benchmark was named after its questions."""

    def __init__(self, submission: StreamedSubmission) -> None:
        self._submission = submission
        self._stream = JsonStream("data")
        self._data = _DataReader(with_questions=True, benchmark=submission.benchmark_unread)

    def feed(self, data: bytes) -> None:
        """Read on; in blocks of whatever size."""
        _read_data(self._stream, data, self._data)

    def finish(self) -> StreamedSubmission:
        """The submission, now fully checked. InvalidRequest names question and field."""
        self._stream.finish()
        self._data.refuse_faults()
        warnings = self._data.warnings(self._data.benchmark, self._submission.envelope.benchmark_name)
        return replace(self._submission, warnings=warnings, benchmark_unread=None)


def _read_data(stream: JsonStream, data: bytes, reader: "_DataReader") -> None:
    for _ in stream.feed(data):
        value = stream.value
        if isinstance(value, dict | list):
            reader.take(value, stream.levels[1:], in_entry=stream.in_entry)


def _forget(levels: Iterable[Level]) -> None:
    for level in levels:
        level.value.clear()


class _DataReader:
    """What is told of data while it passes by. It takes all that is complete out of the open containers."""

    def __init__(self, *, with_questions: bool, benchmark: BenchmarkSpec | None = None) -> None:
        self.benchmark = benchmark
        self.questions: int | None = None
        self.summary: dict[str, Scalar] = {}
        self._with_questions = with_questions
        self._unread: set[str] = set()
        self._unknown: set[str] = set()
        self._first_seen = FirstSeen()
        self._unreadable: InvalidRequest | None = None
        self._shape_faults: list[Fault] = []
        self._benchmark_faults: list[Fault] = []

    def refuse_faults(self) -> None:
        """InvalidRequest if questions had faults."""
        if self._unreadable is not None:
            raise self._unreadable
        for faults in (self._shape_faults, self._benchmark_faults):
            if faults:
                raise invalid(*faults)

    def warnings(self, benchmark: BenchmarkSpec | None, name: str) -> list[str]:
        """What was accepted and will not be read."""
        return data_warnings(self.questions, self._unread, self._unknown, benchmark, name)

    def take(self, data: _Container, levels: Sequence[Level], *, in_entry: bool) -> None:
        """Take up data, whose open containers are `levels`; `in_entry` if the innermost one's last entry goes on."""
        if isinstance(data, list):
            data.clear()
            _forget(levels)
            return
        open_key = _open_key(levels, in_entry=in_entry)
        complete = {key: value for key, value in data.items() if key != open_key}
        for key in complete:
            del data[key]
        if self._with_questions and "questions" in complete:
            self._take_questions(complete["questions"], (), in_entry=False)
        self.summary.update(islice(short_scalars(complete), SUMMARY_MAX_SCALARS - len(self.summary)))
        if self._with_questions and open_key == "questions" and len(levels) > 1:
            self._take_questions(data["questions"], levels[1:], in_entry=in_entry)
        else:
            _forget(levels[1:])

    def _take_questions(self, rows: JsonValue, levels: Sequence[Level], *, in_entry: bool) -> None:
        if not isinstance(rows, list):
            self._check(rows, 0)
            _forget(levels)
            return
        row_open = len(levels) > 1 or (len(levels) == 1 and in_entry)
        number = len(rows) - row_open
        batch = rows[:number]
        del rows[:number]
        self._check(batch, number)
        if len(levels) > 1:
            self._thin_out(levels[1:], in_entry=in_entry)

    def _check(self, rows: JsonValue, number: int) -> None:
        start = self.questions or 0
        self.questions = start + number
        if self.questions > QUESTIONS_MAX:
            detail = f"are more than {QUESTIONS_MAX:,}; send several results"
            raise invalid(Fault(place="data.questions", detail=detail))
        if self._unreadable is not None:
            return
        try:
            questions = convert_questions(rows, start)
        except InvalidRequest as problem:
            self._unreadable = problem
            return
        find_shape_faults(questions, self._first_seen, self._shape_faults, start)
        self._unread |= unread_keys(cast("list[dict[str, JsonValue]]", rows))
        if self.benchmark is not None:
            find_benchmark_faults(self.benchmark, questions, self._benchmark_faults, start)
            self._unknown |= unknown_metadata(self.benchmark, questions)
        self._trim()

    def _trim(self) -> None:
        """Keep those names that a warning shows."""
        self._unread = set(nsmallest(WARNINGS_MAX, self._unread))
        self._unknown = set(nsmallest(WARNINGS_MAX, self._unknown))

    def _thin_out(self, levels: Sequence[Level], *, in_entry: bool) -> None:
        """Empty a question that is not complete of what its checks do not need."""
        question = levels[0].value
        open_key = _open_key(levels, in_entry=in_entry)
        if isinstance(question, dict):
            for key, value in list(question.items()):
                if key not in KNOWN_KEYS:
                    self._unread.add(key)
                if key == open_key:
                    continue
                if key not in KNOWN_KEYS:
                    del question[key]
                elif key in ("answer", "target"):
                    question[key] = None
                elif key != "metadata" and isinstance(value, dict | list):
                    value.clear()
        else:
            question.clear()
        inner = levels[1:]
        if inner and open_key == "metadata" and isinstance(inner[0].value, dict):
            self._thin_out_metadata(inner[0].value, _open_key(inner, in_entry=in_entry))
            inner = inner[1:]
        _forget(inner)
        self._trim()

    def _thin_out_metadata(self, metadata: dict[str, JsonValue], open_key: str | None) -> None:
        fields = self.benchmark.by_name if self.benchmark is not None else {}
        for key, value in list(metadata.items()):
            if self.benchmark is not None and key not in fields:
                self._unknown.add(key)
            if key == open_key:
                continue
            if key not in fields:
                del metadata[key]
            elif isinstance(value, dict | list):
                value.clear()


def _open_key(levels: Sequence[Level], *, in_entry: bool) -> str | None:
    """The key of the outermost level's entry that goes on."""
    return levels[0].key if len(levels) > 1 or (levels and in_entry) else None

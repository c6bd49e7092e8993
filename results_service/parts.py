"""The parts of a live run: read and checked, and what is known of those that are there. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from shared.problems import Fault, InvalidRequest, PartConflict, invalid
from shared.registry.specs import Registry
from shared.strict_json import read_json
from shared.submission import check_against, learn, read_questions, shape_warnings

MAX_PARTS = 20_000
"""Of one live run: they are listed in its document, which every part changes."""
MAX_ATTEMPTS = 500_000
"""Attempts at questions in one live run: each instance that takes parts of it remembers them all."""
PAGE_BYTES = 4 * 1024 * 1024
PAGE_PARTS = 500
FAULTS_MAX = 20

EMPTY_DATA = b'{"questions":[]}'

Attempt = tuple[str, int]
"""Question id and attempt, which occur once in a run."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it was sent."""

    text: bytes
    """The questions: what stands between the brackets of their array, byte for byte."""
    attempts: tuple[Attempt, ...]
    warnings: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the text."""
        return sha256(self.text).digest()


class _Body(msgspec.Struct):
    questions: msgspec.Raw


class _Asked(msgspec.Struct):
    question_id: str
    attempt: int = 0


learn(_Body, _Asked)


def read_part(body: bytes, benchmark_name: str, registry: Registry) -> Part:
    """Read and check the body of a part, `{"questions": […]}`, as the questions of a standardized result are.

    MalformedJson or InvalidRequest says what is wrong and where. Slow for large bodies: call it off the event loop.
    """
    value = read_json(body)
    read_json(b"[" + body + b"]")  # as deep as the data of a result may be: one level less than a whole body
    if not isinstance(value, dict):
        raise invalid(Fault(place="body", detail="must be a JSON object"))
    faults = [Fault(place=key, detail="is not a field of this request") for key in value if key != "questions"]
    if "questions" not in value:
        faults.append(Fault(place="questions", detail="is required"))
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    benchmark = registry.benchmarks.get(benchmark_name)
    try:
        questions = read_questions(value) or []
        if benchmark is not None:
            check_against(benchmark, questions)
    except InvalidRequest as problem:
        # They speak of the data of a whole result, of which this is the inside.
        own = [fault.model_copy(update={"place": fault.place.removeprefix("data.")}) for fault in problem.faults]
        raise invalid(*own) from None
    if not questions:
        raise invalid(Fault(place="questions", detail="must hold at least one question"))
    text = bytes(msgspec.json.decode(body, type=_Body).questions)[1:-1]
    return Part(
        text=text,
        attempts=tuple((question.question_id, question.attempt) for question in questions),
        warnings=tuple(shape_warnings(value, questions, benchmark, benchmark_name)),
    )


def attempts_in(text: bytes) -> list[Attempt]:
    """The attempts in a stored part, in order."""
    asked = msgspec.json.decode(b"[" + text + b"]", type=list[_Asked])
    return [(question.question_id, question.attempt) for question in asked]


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that is registered with its live run."""

    number: int
    id: str
    digest: bytes
    size: int
    """Bytes of its text."""


def in_pages(parts: Iterable[StoredPart]) -> Iterator[list[StoredPart]]:
    """`parts` in their order, as many at a time as come to a moderate size; a large one by itself."""
    page: list[StoredPart] = []
    size = 0
    for part in parts:
        if page and (size + part.size > PAGE_BYTES or len(page) == PAGE_PARTS):
            yield page
            page, size = [], 0
        page.append(part)
        size += part.size
    if page:
        yield page


@dataclass(slots=True)
class PartsKnown:
    """What an instance knows of a live run's parts, in the order in which they were registered."""

    parts: dict[int, StoredPart] = field(default_factory=dict)
    attempts: dict[Attempt, tuple[int, int]] = field(default_factory=dict)
    """Each attempt with the number of its part and its place in there."""

    def add(self, part: StoredPart, attempts: Iterable[Attempt]) -> None:
        """Take note of a part that was registered."""
        self.parts[part.number] = part
        self.attempts.update((attempt, (part.number, index)) for index, attempt in enumerate(attempts))

    def check_attempts(self, attempts: Iterable[Attempt]) -> None:
        """PartConflict, naming both places, if another part holds one of `attempts`."""
        faults = []
        for index, attempt in enumerate(attempts):
            if (place := self.attempts.get(attempt)) is not None:
                question, number = attempt
                where = f"in part {place[0]} at questions[{place[1]}]"
                detail = f"question {question!r}, attempt {number}, stands already {where}"
                faults.append(Fault(place=f"questions[{index}]", detail=detail))
                if len(faults) >= FAULTS_MAX:
                    break
        if faults:
            detail = "; ".join(f"{fault.place}: {fault.detail}" for fault in faults)
            raise PartConflict(f"other parts hold the same attempts: {detail}", faults=faults)

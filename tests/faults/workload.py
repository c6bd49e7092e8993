"""What the clients of a fault run push.

Everything follows from the seed, so that a client that was killed knows what it was about, and the check at the end
knows what must be there without having been told.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from hashlib import sha256
from random import Random
from typing import Any
from urllib.parse import quote

BENCHMARK = "math500"
SUBJECTS = ("Prealgebra", "Algebra", "Number Theory", "Counting & Probability", "Geometry", "Precalculus")
MODELS = ("gpt-4", "claude-3-opus", "phi-4", "somebody/unregistered-1b")
RIVALS_EVERY, COMMON_EVERY = 7, 5
"""How often all clients push a name of which only one can have it, and the same result."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question, as the sums at the end are made of it."""

    subject: str
    level: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Document:
    """A result as it is pushed, and what must be found of it."""

    kind: str
    name: str
    model: str
    body: bytes
    data: bytes
    answers: tuple[Answer, ...]

    @property
    def sha256(self) -> str:
        """Of the bytes of `data`."""
        return sha256(self.data).hexdigest()

    @property
    def path(self) -> str:
        """Where it is to be had."""
        return f"/{self.kind}/{quote(self.name, safe='')}"


class Expected(StrEnum):
    """What a push must come to."""

    STORED = "stored"
    """Created, or unchanged where an acknowledgement was lost."""
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"
    SHARED = "shared"
    """As stored, by whichever client was first."""
    EITHER = "either"
    """Stored or a conflict: another client may have been first with other content."""
    INVALIDATED = "invalidated"
    RESTORED = "restored"
    FINISHED = "finished"
    """A live run was opened, has all its parts, and has become a result."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a client has to have acknowledged. `key` is its name in the journal."""

    key: str
    document: Document
    expected: Expected


@dataclass(frozen=True, slots=True)
class Step:
    """Tasks that are done at once, by requests of their own or in one batch."""

    number: int
    tasks: tuple[Task, ...]
    is_batch: bool = False


@dataclass(slots=True)
class Plan:
    """All steps of one client, in order, the same at every call; the flags tell what the service has."""

    seed: str
    client: int
    batches: bool
    corrections: bool
    live_runs: bool
    _mine: list[Document] = field(default_factory=list)
    """Standardized results of steps past; these are stored."""
    _invalid: list[Document] = field(default_factory=list)

    def steps(self) -> Iterator[Step]:
        """Without end. A step is begun only when all before it are acknowledged."""
        number = 0
        while True:
            random = Random(f"{self.seed}/{self.client}/{number}")
            step = self._step(number, random)
            yield step
            for task in step.tasks:
                self._remember(task)
            number += 1

    def _remember(self, task: Task) -> None:
        match task.expected:
            case Expected.STORED | Expected.FINISHED if task.document.kind == "standardized_output":
                self._mine.append(task.document)
            case Expected.INVALIDATED:
                self._mine.remove(task.document)
                self._invalid.append(task.document)
            case Expected.RESTORED:
                self._invalid.remove(task.document)
                self._mine.append(task.document)
            case _:
                pass

    def _step(self, number: int, random: Random) -> Step:
        if number % RIVALS_EVERY == RIVALS_EVERY - 1:
            rival = make_document(f"{self.seed}/rival/{number}", content=f"{self.seed}/{self.client}")
            return Step(number, (Task(f"{number}/rival", rival, Expected.EITHER),))
        if number % COMMON_EVERY == COMMON_EVERY - 1:
            common = make_document(f"{self.seed}/common/{number}")
            return Step(number, (Task(f"{number}/common", common, Expected.SHARED),))
        choices = {"single": 4, "burst": 4, "raw": 2, "again": 2, "changed": 2}
        choices |= {"batch": 4} if self.batches else {}
        choices |= {"invalidate": 3, "restore": 2} if self.corrections else {}
        choices |= {"live": 2} if self.live_runs else {}
        chosen = random.choices(list(choices), list(choices.values()))[0]
        if chosen == "batch":
            return Step(number, self._lines(number, random), is_batch=True)
        return Step(number, tuple(self._tasks(chosen, number, random)))

    def _tasks(self, chosen: str, number: int, random: Random) -> Iterator[Task]:
        match chosen:
            case "burst":
                yield from (self._new(number, index) for index in range(random.randint(4, 16)))
            case "raw":
                yield self._new(number, 0, kind="raw_input")
            case "live":
                yield Task(
                    f"{number}/live", make_live_run(f"{self.seed}/{self.client}/{number}/live"), Expected.FINISHED
                )
            case "again" if self._mine:
                yield self._former(number, random, Expected.UNCHANGED)
            case "changed" if self._mine:
                yield self._former(number, random, Expected.CONFLICT)
            case "invalidate" if self._mine:
                yield Task(f"{number}/invalidate", random.choice(self._mine), Expected.INVALIDATED)
            case "restore" if self._invalid:
                yield Task(f"{number}/restore", random.choice(self._invalid), Expected.RESTORED)
            case _:
                yield self._new(number, 0)

    def _new(self, number: int, index: int, kind: str = "standardized_output") -> Task:
        document = make_document(f"{self.seed}/{self.client}/{number}/{index}", kind=kind)
        return Task(f"{number}/{index}", document, Expected.STORED)

    def _former(self, number: int, random: Random, expected: Expected, index: int = 0) -> Task:
        former = random.choice(self._mine)
        document = respelled(former) if expected is Expected.UNCHANGED else changed(former)
        return Task(f"{number}/{index}-{expected}", document, expected)

    def _lines(self, number: int, random: Random) -> tuple[Task, ...]:
        tasks = []
        for index in range(random.randint(5, 30)):
            chance = random.random()
            if chance < 0.15 and self._mine:
                tasks.append(self._former(number, random, Expected.UNCHANGED, index))
            elif chance < 0.25 and self._mine:
                tasks.append(self._former(number, random, Expected.CONFLICT, index))
            else:
                tasks.append(self._new(number, index))
        return tuple(tasks)


def make_document(key: str, *, kind: str = "standardized_output", content: str = "") -> Document:
    """The document of this key; its name, model and source follow from `key` alone, its data from `content` too."""
    random = Random(key)
    moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(300 * 86_400))
    fraction = random.choice(("", ".5", ".25", f".{random.randrange(1, 10**9):09}".rstrip("0")))
    run_id = key.replace("/", "-")
    envelope = {
        "run_id": run_id,
        "benchmark_name": BENCHMARK,
        # Told in a zone of its own; the name has it in UTC.
        "timestamp": _spelled(moment, fraction, random.choice((0, 9, -5))),
        "model_id": random.choice(MODELS),
        "source": "fault run",
    }
    random = Random(f"{key}/{content}")
    answers, data = _questions(random) if kind == "standardized_output" else ((), _raw(random))
    body = json.dumps(envelope).encode().removesuffix(b"}") + b', "data": ' + data + b"}"
    name = f"{_spelled(moment, fraction, 0)}-{BENCHMARK}-{run_id}"
    return Document(kind, name, envelope["model_id"], body, data, answers)


LIVE_PART = 5
"""Questions in each part of a live run."""


def make_live_run(key: str) -> Document:
    """A result that is pushed in parts; its body is the envelope alone."""
    document = make_document(key)
    questions = b",".join(b",".join(part) for part in parts_of(document))
    envelope = document.body.partition(b', "data": ')[0] + b"}"
    data = b'{"questions":[' + questions + b"]}"
    return Document(document.kind, document.name, document.model, envelope, data, document.answers)


def parts_of(document: Document) -> list[list[bytes]]:
    """The questions of a document's data, by part, each as it is written."""
    questions = [json.dumps(row).encode() for row in json.loads(document.data)["questions"]]
    return [questions[start : start + LIVE_PART] for start in range(0, len(questions), LIVE_PART)]


def _spelled(moment: datetime, fraction: str, hours: int) -> str:
    local = moment.astimezone(timezone(timedelta(hours=hours)))
    return f"{local:%Y-%m-%dT%H:%M:%S}{fraction}" + (f"{hours:+03}:00" if hours else "Z")


def _questions(random: Random) -> tuple[tuple[Answer, ...], bytes]:
    rows: list[dict[str, Any]] = []
    answers = []
    for question in random.sample(range(500), random.randint(3, 40)):
        answer = Answer(
            SUBJECTS[question % len(SUBJECTS)],
            question % 5 + 1,
            # Halves and quarters: their sums are exact in any order.
            None if random.random() < 0.1 else random.choice((0, 0.25, 0.5, 1)),
        )
        answers.append(answer)
        metadata = {"subject": answer.subject, "level": answer.level}
        row = {"question_id": f"q/{question}", "answer": str(random.randrange(10**6)), "metadata": metadata}
        rows.append(row | ({"status": "refused"} if answer.score is None else {"score": answer.score}))
    odd = {"": 2**70, "$a.b": [1, 1.0], "한글": "\u2028", "nothing": None}
    return tuple(answers), json.dumps({"questions": rows, "odd": odd}, ensure_ascii=random.random() < 0.5).encode()


def _raw(random: Random) -> bytes:
    """Mostly small; now and then more than a document of MongoDB's may hold."""
    size = random.choice((10, 1000, 100_000)) if random.random() < 0.97 else 9_000_000
    return json.dumps({"text": random.randbytes(size).hex(), "numbers": [1, 1.0, 2**64]}).encode()


def respelled(document: Document) -> Document:
    """The same content in other bytes."""
    data = json.dumps(json.loads(document.data), separators=(" ,", " : "), sort_keys=True).encode()
    return _with_data(document, data)


def changed(document: Document) -> Document:
    """Other content under the same name."""
    return _with_data(document, b'{"questions": [], "changed": ' + document.data + b"}")


def _with_data(document: Document, data: bytes) -> Document:
    envelope = document.body.partition(b', "data": ')[0].removesuffix(b"}")
    body = envelope + b', "data": ' + data + b"}"
    return Document(document.kind, document.name, document.model, body, data, document.answers)


def sums_of(documents: Sequence[Document]) -> dict[tuple[str, str, int], tuple[int, float | None]]:
    """(model, subject, level) → scored answers and their mean, over all documents."""
    scores: dict[tuple[str, str, int], list[float]] = {}
    for document in documents:
        for answer in document.answers:
            cell = scores.setdefault((document.model, answer.subject, answer.level), [])
            if answer.score is not None:
                cell.append(answer.score)
    return {key: (len(cell), sum(cell) / len(cell) if cell else None) for key, cell in scores.items()}

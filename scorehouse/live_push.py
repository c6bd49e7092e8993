"""Sends a run while it goes on: its questions in parts, then its end; and what was left of runs that were killed.

Every question is in the run's journal before anything else happens to it. Parts are numbered by the place of their
first question, so that the result has all of them in their order, in whatever order they ended: the order in which an
import of the harness's own file would have them.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from getpass import getuser
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Self

import msgspec

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.live_journal import Close, Ended, Journal, Opened, Sending, Sent
from shared.formats.tree import File
from shared.imports import ImportReport
from shared.registry.load import load_registry
from shared.registry.specs import Registry
from shared.submission import Envelope

PARTS_MAX = 20_000
"""What the service takes of one live run."""
PART_QUESTIONS = 500
PART_BYTES = 1024 * 1024


def local_registry() -> Registry:
    """The registry that questions are made by here, which should be the services': SCOREHOUSE_REGISTRY_DIR says both.

    Where it is not, what the service imports from the harness's own files counts. RegistryError if it cannot be used.
    """
    folder = os.environ.get("SCOREHOUSE_REGISTRY_DIR")
    return load_registry(Path(folder) if folder else None)


@dataclass(slots=True)
class LivePush:
    """One run. `add` and `close` are for whoever measures, `send` for whoever talks to the service."""

    journal: Journal
    envelope: Envelope | None = None
    total: int = 0
    may_open: bool = False
    """Whether the envelope is what it will be in the end."""
    ending: Close | None = None
    refusal: ScorehouseError | None = None
    """Why the service does not take its parts."""
    _waiting: dict[int, bytes] = field(default_factory=dict)
    """Questions that are in no part yet, by rank."""
    _digests: dict[int, bytes] = field(default_factory=dict)
    """SHA-256 of those that are."""
    _parts: dict[int, bytes] = field(default_factory=dict)
    """Parts that the service does not have yet, by number."""
    _numbers: list[int] = field(default_factory=list)
    """First ranks of all parts, in order."""
    _is_open: bool = False
    _adding: Lock = field(default_factory=Lock)
    _sending: Lock = field(default_factory=Lock)

    @classmethod
    def restore(cls, journal: Journal) -> Self:
        """A run as far as its journal tells; what was cut into parts stays cut as it was."""
        run = cls(journal, may_open=True)
        for line in journal.read():
            match line:
                case Opened(envelope=envelope, total=total):
                    run.envelope, run.total = Envelope.model_validate_json(bytes(envelope)), total
                case Ended(rank=rank, question=question):
                    run._waiting[rank] = bytes(question)
                case Sending(number=number, first=first, last=last):
                    run._take_part(number, [rank for rank in sorted(run._waiting) if first <= rank <= last])
                case Sent(number=number):
                    run._parts.pop(number, None)
                case Close():
                    run.ending = line
                case _:
                    pass
        return run

    @property
    def result_name(self) -> str:
        """The name of the result that it becomes."""
        return self.envelope.result_name if self.envelope else "a run without a name"

    def open(self, envelope: Envelope, total: int, *, may_open: bool) -> None:
        """Say what the run is; again as long as nothing was sent."""
        with self._adding:
            if envelope != self.envelope:
                text = envelope.model_dump_json(exclude_none=True).encode()
                self.journal.add([Opened(msgspec.Raw(text), total)])
            self.envelope, self.total, self.may_open = envelope, total, may_open

    def add(self, rank: int, question: bytes) -> None:
        """Take a question; it is safe on the disk on return. OSError if it is not."""
        with self._adding:
            if rank not in self._digests:
                self.journal.add([Ended(rank, msgspec.Raw(question))])
                self._waiting[rank] = question

    def is_part_of(self, questions: Iterable[tuple[int | None, bytes]]) -> bool:
        """Whether the parts fit these, the questions of the result by rank, all in their order.

        If so, those that are missing or not the same are taken from there, as far as they are in no part.
        """
        known: dict[int, bytes] = {}
        before = -1
        for rank, question in questions:
            if rank is None or rank <= before:
                return False
            known[rank] = question
            before = rank
        with self._adding:
            if not self._waiting.keys() <= known.keys():
                return False
            for rank, digest in self._digests.items():
                if rank not in known or sha256(known[rank]).digest() != digest:
                    return False
            new = {
                rank: question
                for rank, question in known.items()
                if rank not in self._digests and self._waiting.get(rank) != question
            }
            self.journal.add([Ended(rank, msgspec.Raw(question)) for rank, question in new.items()])
            self._waiting |= new
        return True

    def close(self, ending: Close) -> None:
        """Say how it ends; safe on the disk on return."""
        with self._adding:
            self.journal.add([ending])
            self.ending, self.may_open = ending, True

    def send(self, house: Scorehouse, *, is_over: bool = False) -> bool:
        """Send what has ended, as it is now; where the run `is_over`, all that there is. Whether there was something.

        ScorehouseError where the service is away: what is not sent is sent the next time. A refusal is kept in
        `refusal`, and no more parts are sent then.
        """
        with self._sending:
            if not self.may_open or self.envelope is None or self.refusal is not None:
                return False
            self._cut(is_over=is_over)
            if not self._parts and not (is_over and self._numbers):
                return False
            try:
                if not self._is_open:
                    house.open_live_run(self.envelope)
                    self._is_open = True
                for number in sorted(self._parts):
                    house.push_part(self.result_name, number, b"[" + self._parts[number] + b"]")
                    with self._adding:
                        self.journal.add([Sent(number)], is_durable=False)
                        del self._parts[number]
            except ScorehouseError as error:
                if not error.refused:
                    raise
                self.refusal = error
            return True

    def end(self, house: Scorehouse) -> ImportReport | None:
        """Do what `ending` says; the report where that was an import. Then the journal is gone.

        What the service does not let finish is imported: the file may have been already, by somebody else.
        ScorehouseError where the service is away, or refuses it. FileNotFoundError if what is to be imported is gone.
        """
        self.send(house, is_over=True)
        ending, report = self.ending, None
        if ending is not None and ending.how == "finish" and self.refusal is None and self._numbers:
            try:
                house.finish_live_run(self.result_name)
            except ScorehouseError as error:
                if not error.refused:
                    raise
                self.refusal = error
        if ending is not None and ending.files and (ending.how == "import" or self.refusal is not None):
            report = house.import_files([_file(Path(path)) for path in ending.files])
            if self._is_open:
                close_preview(house, self.result_name, report)
        elif self.refusal is not None:
            raise self.refusal
        self.journal.remove()
        return report

    def _step(self) -> int:
        return max(1, -(-self.total // PARTS_MAX))

    def _cut(self, *, is_over: bool) -> None:
        """Cut what waits into parts of neighbours. What may still come between two of them keeps them apart."""
        with self._adding:
            cut = list(self._runs(is_over=is_over))
            step = self._step()
            lines = [Sending(ranks[0] // step + 1, ranks[0], ranks[-1]) for ranks in cut]
            if lines:
                self.journal.add(lines)
            for line, ranks in zip(lines, cut, strict=True):
                self._take_part(line.number, ranks)

    def _runs(self, *, is_over: bool) -> Iterator[list[int]]:
        step = self._step()
        held: list[int] = []
        size = 0
        for rank in sorted(self._waiting):
            first = rank // step * step
            cell = range(first, min(first + step, self.total))
            if not is_over and not all(other in self._waiting for other in cell):
                continue
            full = len(held) >= PART_QUESTIONS or size >= PART_BYTES
            if held and ((full and rank == first) or self._is_apart(held[-1], rank, is_over=is_over)):
                yield held
                held, size = [], 0
            held.append(rank)
            size += len(self._waiting[rank])
        if held:
            yield held

    def _is_apart(self, rank: int, next_rank: int, *, is_over: bool) -> bool:
        if not is_over:
            return next_rank != rank + 1
        return bisect_right(self._numbers, rank) != bisect_right(self._numbers, next_rank)

    def _take_part(self, number: int, ranks: Sequence[int]) -> None:
        texts = [self._waiting.pop(rank) for rank in ranks]
        self._digests.update((rank, sha256(text).digest()) for rank, text in zip(ranks, texts, strict=True))
        self._parts[number] = b",".join(texts)
        self._numbers.insert(bisect_right(self._numbers, ranks[0]), ranks[0])


def close_preview(house: Scorehouse, result_name: str, report: ImportReport) -> None:
    """Close a live run whose result was imported: as finished where that is the same, else discarded."""
    names = {run.result_name for finding in report.findings for run in finding.runs if run.problem is None}
    try:
        if result_name not in names or not _could_finish(house, result_name):
            house.discard_live_run(result_name, _author(), "what was imported of the finished run takes its place")
    except ScorehouseError as error:
        if error.status != 404:  # it never came to be opened
            raise


def _could_finish(house: Scorehouse, result_name: str) -> bool:
    try:
        house.finish_live_run(result_name)
    except ScorehouseError as error:
        if error.status != 409:
            raise
        return False
    return True


def _author() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # no login, as in many containers
        return "scorehouse"


def _file(path: Path) -> File:
    return File(path.name, path, path.stat().st_size)

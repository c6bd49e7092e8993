"""Pushes documents, several at once, and tells what became of each."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import Document, Unreadable, find_files, read_documents
from shared.problems import ProblemDocument
from shared.results import ResultKind, StoredAnswer

REASONS_MAX = 5
"""How many faults of one document are told; the service's answer may hold more."""

_OF_THE_DOCUMENT = frozenset({400, 409, 413, 415, 422, 500, 504})
"""Statuses that concern one document; after any other there is no use in sending the next."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that was not stored, or a file that could not be read: where it stands and why."""

    place: str
    reasons: tuple[str, ...]


@dataclass(slots=True)
class PushReport:
    """What became of the documents so far."""

    stored: int = 0
    unchanged: int = 0
    questions: int = 0
    """Questions in what was stored or found unchanged."""
    refused: list[Refusal] = field(default_factory=list)
    unreadable: list[Refusal] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    """Warnings by their text, with the number of documents that caused each."""
    under_way: int = 0
    """Documents that were sent and not yet answered."""

    @property
    def documents(self) -> int:
        """Documents that were answered."""
        return self.stored + self.unchanged + len(self.refused)

    @property
    def complete(self) -> bool:
        """Whether something was found and all of it is stored."""
        return self.stored + self.unchanged > 0 and not self.refused and not self.unreadable

    def add(self, answer: StoredAnswer) -> None:
        """Count a document that is stored."""
        if answer.unchanged:
            self.unchanged += 1
        else:
            self.stored += 1
        self.questions += answer.questions
        self.warnings.update(set(answer.warnings))


OnDone = Callable[[Document], None]
"""Called after each document's answer, for progress."""


def documents_under(paths: Iterable[Path]) -> Iterator[Document | Unreadable]:
    """Every document in these files and folders."""
    for file in find_files(paths):
        if isinstance(file, Path):
            yield from read_documents(file)
        else:
            yield file


def bytes_under(paths: Iterable[Path]) -> int:
    """The size of these files on disk."""
    return sum(file.stat().st_size for file in find_files(paths) if isinstance(file, Path) and file.exists())


async def push_documents(
    house: AsyncScorehouse,
    documents: Iterable[Document | Unreadable],
    report: PushReport,
    *,
    kind: ResultKind = ResultKind.STANDARDIZED,
    jobs: int = 4,
    on_done: OnDone = lambda _: None,
) -> None:
    """Push all `documents`, at most `jobs` at once; `report` is up to date at any moment, also when this is cancelled.

    A document that the service refuses is reported and the others go on. ScorehouseError is raised where the next
    one would fare no better: the service cannot be reached, or the API key does not allow this.
    """
    source = iter(documents)
    reading = asyncio.Lock()

    async def upload_in_turn() -> None:
        while True:
            async with reading:  # files are read by one at a time, and no further ahead than there are uploads
                item = await asyncio.to_thread(next, source, None)
            if item is None:
                return
            if isinstance(item, Unreadable):
                report.unreadable.append(Refusal(item.place, (item.reason,)))
                continue
            report.under_way += 1
            await _upload(house, item, report, kind)
            report.under_way -= 1
            on_done(item)

    try:
        async with asyncio.TaskGroup() as uploads:
            for _ in range(jobs):
                uploads.create_task(upload_in_turn())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _upload(house: AsyncScorehouse, document: Document, report: PushReport, kind: ResultKind) -> None:
    try:
        report.add(await house.push(kind, document.body))
    except ScorehouseError as error:
        if error.problem is None or error.status not in _OF_THE_DOCUMENT:
            raise
        report.refused.append(Refusal(document.place, _reasons(error.problem)))


def _reasons(problem: ProblemDocument) -> tuple[str, ...]:
    if not problem.faults:
        return (f"{problem.title}: {problem.detail}",)
    told = tuple(f"{fault.place}: {fault.detail}" for fault in problem.faults[:REASONS_MAX])
    more = len(problem.faults) - len(told)
    return (*told, f"and {more} more") if more else told

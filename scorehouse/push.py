"""Pushes documents, several at once, and tells what became of each."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from scorehouse.batches import grouped
from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import (
    UNREADABLE,
    Document,
    Unreadable,
    find_files,
    read_documents,
    why_unreadable,
)
from scorehouse.spool import Spool
from shared.problems import ProblemDocument
from shared.results import BatchLine, ResultKind, StoreStatus

REASONS_MAX = 5
"""How many faults of one document are told; the service's answer may hold more."""


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
    spooled: int = 0
    """Documents that wait in the spool."""
    spooled_for: ScorehouseError | None = None
    """Why they wait."""
    away: ScorehouseError | None = None
    """Why nothing more is sent."""

    @property
    def documents(self) -> int:
        """Documents of which something became."""
        return self.stored + self.unchanged + len(self.refused) + self.spooled

    @property
    def complete(self) -> bool:
        """Whether something was found and all of it is stored, or safe in the spool."""
        return self.stored + self.unchanged + self.spooled > 0 and not self.refused and not self.unreadable

    def add(self, document: Document, line: BatchLine) -> None:
        """Count a document that is answered."""
        if line.problem is not None:
            self.refused.append(Refusal(document.place, _reasons(line.problem)))
            return
        if line.unchanged:
            self.unchanged += 1
        else:
            self.stored += 1
        self.questions += line.questions or 0
        self.warnings.update(set(line.warnings or ()))


OnDone = Callable[[Document], None]
"""Called after each document's answer, for progress."""


def documents_under(paths: Iterable[Path], without: Set[Path] = frozenset()) -> Iterator[Document | Unreadable]:
    """Every document in these files and folders, but for files that others have seen to."""
    for file in find_files(paths, without):
        if isinstance(file, Path):
            yield from read_documents(file)
        else:
            yield file


def bytes_under(paths: Iterable[Path], without: Set[Path] = frozenset()) -> int:
    """The size of these files on disk."""
    return sum(file.stat().st_size for file in find_files(paths, without) if isinstance(file, Path) and file.exists())


async def push_documents(
    house: AsyncScorehouse,
    documents: Iterable[Document | Unreadable],
    report: PushReport,
    *,
    kind: ResultKind = ResultKind.STANDARDIZED,
    jobs: int = 4,
    spool: Spool | None = None,
    on_done: OnDone = lambda _: None,
) -> None:
    """Push all `documents`, at most `jobs` requests at once; `report` is up to date at any moment, also when cancelled.

    A document that the service refuses is reported and the others go on. Where the next one would fare no better (the
    service stays away, or the API key does not allow this) ScorehouseError is raised; with a `spool` what is not
    answered goes there instead, and so does all that follows, without asking again. SpoolError if it cannot.
    """
    source = grouped(_readable(documents, report), lambda document: document.body)
    reading = asyncio.Lock()

    async def upload_in_turn() -> None:
        while True:
            async with reading:  # files are read by one at a time, and no further ahead than there are uploads
                group = await asyncio.to_thread(next, source, None)
            if group is None:
                return
            await _Upload(house, kind, group, report, spool, on_done).run()

    try:
        async with asyncio.TaskGroup() as uploads:
            for _ in range(jobs):
                uploads.create_task(upload_in_turn())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _readable(documents: Iterable[Document | Unreadable], report: PushReport) -> Iterator[Document]:
    for item in documents:
        if isinstance(item, Document):
            yield item
        else:
            report.unreadable.append(Refusal(item.place, (item.reason,)))


@dataclass(slots=True)
class _Upload:
    """One group of documents on its way."""

    house: AsyncScorehouse
    kind: ResultKind
    group: list[Document]
    report: PushReport
    spool: Spool | None
    on_done: OnDone

    async def run(self) -> None:
        left = dict(enumerate(self.group, 1))
        try:
            if self.report.away is None:
                await self._send(left)
        except UNREADABLE as error:  # a large document, which goes alone, is read while it is sent
            [document] = left.values()
            self.report.under_way -= 1
            self.report.unreadable.append(Refusal(document.place, (why_unreadable(error),)))
            return
        except ScorehouseError as error:
            if self.spool is None:
                raise
            self.report.under_way -= len(left)
            self.report.away = self.report.spooled_for = error
        if self.spool is not None:
            for document in left.values():
                await asyncio.to_thread(self.spool.add, self.kind, document.body)
                self.report.spooled += 1
                self.on_done(document)

    async def _send(self, left: dict[int, Document]) -> None:
        """Send the documents; those of which something became leave `left`."""
        self.report.under_way += len(left)
        async with aclosing(self.house.push_batch(self.kind, [document.body for document in self.group])) as lines:
            async for line in lines:
                self.report.under_way -= 1
                if line.status is StoreStatus.FAILED and line.problem and self.spool is not None:
                    self.report.spooled_for = ScorehouseError(line.problem.detail, line.problem)
                    continue  # not the document's fault, so it is kept
                document = left.pop(line.line)
                self.report.add(document, line)
                self.on_done(document)


def _reasons(problem: ProblemDocument) -> tuple[str, ...]:
    if not problem.faults:
        return (f"{problem.title}: {problem.detail}",)
    told = tuple(f"{fault.place}: {fault.detail}" for fault in problem.faults[:REASONS_MAX])
    more = len(problem.faults) - len(told)
    return (*told, f"and {more} more") if more else told

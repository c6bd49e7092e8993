"""Batches: many small documents in one request, and one line of the answer for each. Pure: nothing is sent here."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from pydantic import ValidationError

from scorehouse.calls import ScorehouseError, UnreachableError
from scorehouse.documents import Content
from shared.compression import compress
from shared.problems import ProblemDocument
from shared.results import BatchLine, StoredAnswer, StoreStatus

BATCH_BYTES = 1 << 20
"""Of documents in one request. The answer is read when all of it is sent, so both must fit the buffers on the way."""
BATCH_LINES = 500
LINE_BYTES = 16 << 20
"""Of one line of an answer; a longer one is none of ours."""
ALONE_BYTES = 256 << 10
"""Larger documents gain nothing by sharing a request, and would wait for one another."""

_T = TypeVar("_T")


def goes_alone(document: Content) -> bool:
    """Whether a document is sent by itself: it is large, blank, or takes several lines.

    In a batch a document is one line. Line breaks cannot be taken out of a pretty-printed one, for the bytes of
    `data` are kept as they are sent.
    """
    return (
        not isinstance(document, bytes)
        or len(document) > ALONE_BYTES
        or b"\n" in document
        or not document.strip()  # a batch's blank lines are passed by; this must be refused
    )


def grouped(items: Iterable[_T], content: Callable[[_T], Content]) -> Iterator[list[_T]]:
    """`items` in their order, in groups that go together; one that goes alone is a group of its own."""
    group: list[_T] = []
    size = 0
    for item in items:
        document = content(item)
        alone = goes_alone(document)
        length = len(document) if isinstance(document, bytes) else 0
        if group and (alone or size + length > BATCH_BYTES or len(group) == BATCH_LINES):
            yield group
            group, size = [], 0
        if alone:
            yield [item]
        else:
            group.append(item)
            size += length
    if group:
        yield group


class Batch:
    """Documents that go together, by their numbers; those that are answered leave it."""

    def __init__(self, documents: Mapping[int, Content]) -> None:
        self.unanswered = dict(documents)
        self.goes_alone = len(self.unanswered) == 1
        """Whether what is unanswered is sent document by document."""
        self.compressed = True
        self._sent: tuple[int, ...] = ()
        self._rest = b""
        self._failed: ProblemDocument | None = None

    def body(self) -> bytes:
        """What is not answered yet, as it is sent; the answer's lines are numbered by it."""
        self._sent, self._rest, self._failed = tuple(self.unanswered), b"", None
        plain = b"\n".join(document for document in self.unanswered.values() if isinstance(document, bytes))
        # Level 1 has the ratio of level 3 on results (22) in a quarter of the time; gzip takes five times as long.
        return compress(plain, level=1) if self.compressed else plain

    def take(self, block: bytes) -> list[BatchLine]:
        """The lines that this block of the answer completes, with the numbers of their documents.

        ValueError (a ValidationError is one) or LookupError if they are not such lines.
        """
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            raise ValueError("the line has no end")
        return [line for text in lines if text for line in self._taken(BatchLine.model_validate_json(text))]

    def _taken(self, line: BatchLine) -> Iterator[BatchLine]:
        if line.line < 1:
            raise LookupError(line.line)
        number = self._sent[line.line - 1]
        if line.status is StoreStatus.FAILED:
            self._failed = self._failed or line.problem
        elif line.problem and line.problem.status in (408, 413):
            self.goes_alone = True  # less than this goes into one body there, or one line; alone it may fit
        else:
            del self.unanswered[number]
            yield line.model_copy(update={"line": number})

    def failure(self) -> tuple[ScorehouseError, str | None]:
        """Why something is unanswered although the answer came to its end, and the Retry-After of that."""
        if self._failed is None:
            missing = f"{len(self.unanswered)} {'line' if len(self.unanswered) == 1 else 'lines'}"
            return UnreachableError(f"the results service's answer ended {missing} early; sending again is safe"), None
        problem = self._failed
        after = None if problem.retry_after_s is None else str(problem.retry_after_s)
        return ScorehouseError(f"{problem.title}: {problem.detail}", problem), after

    def send_otherwise(self, error: ScorehouseError) -> bool:
        """Choose another way after the whole request was refused: plain, then one by one. False if none may help.

        The service may not read zstd (415), allow less in one body than we send or guess a bomb behind honest
        repetition (413), or know no batches (405).
        """
        if error.status in (None, 401, 403, 404):
            return False
        if self.compressed and error.status in (400, 413, 415):
            self.compressed = False
        else:
            self.goes_alone = True
        return True


def batches(documents: Iterable[Content]) -> Iterator[Batch]:
    """`documents`, numbered from 1, in batches."""
    for group in grouped(enumerate(documents, 1), lambda item: item[1]):
        yield Batch(dict(group))


def line_of(number: int, outcome: StoredAnswer | ScorehouseError) -> BatchLine:
    """What a batch would have said of a document that went alone; raises the error if it concerns more than that."""
    if isinstance(outcome, StoredAnswer):
        return BatchLine(line=number, **outcome.model_dump())
    if not outcome.concerns_document:
        raise outcome
    status = StoreStatus.FAILED
    if outcome.refused:
        status = StoreStatus.CONFLICT if outcome.status == 409 else StoreStatus.REFUSED
    name = outcome.problem.result_name if outcome.problem else None
    return BatchLine(line=number, status=status, result_name=name, problem=outcome.problem)


NOT_A_LINE = (ValidationError, ValueError, LookupError)
"""What `Batch.take` raises where the answer is not one of ours."""

"""A results service that is not there: answers for respx, where the network itself is the subject."""

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import respx

from shared.compression import decompress
from shared.problems import Problem
from shared.results import BatchLine, StoredAnswer, StoreStatus

Judge = Callable[[bytes], StoredAnswer | Problem]
"""Decides what becomes of a document."""


def stored(*, unchanged: bool = False, warnings: list[str] | None = None) -> StoredAnswer:
    """The answer to a document of ten questions."""
    status = StoreStatus.UNCHANGED if unchanged else StoreStatus.CREATED
    return StoredAnswer(
        result_name="n", status=status, unchanged=unchanged, sha256="0", questions=10, warnings=warnings or []
    )


def problem_answer(problem: Problem) -> httpx.Response:
    """A problem as a service sends it."""
    headers = {"Content-Type": "application/problem+json", **problem.headers}
    return httpx.Response(problem.status, headers=headers, text=problem.document().model_dump_json(exclude_none=True))


def stored_answer(answer: StoredAnswer) -> httpx.Response:
    """The answer to a POST of one document."""
    return httpx.Response(200 if answer.unchanged else 201, text=answer.model_dump_json())


def batch_lines(request: httpx.Request) -> list[bytes]:
    """The documents of a batch as it was sent."""
    body = request.content
    if request.headers.get("content-encoding") == "zstd":
        body = decompress(body, 100_000_000)
    return body.split(b"\n")


def batch_line(number: int, outcome: StoredAnswer | Problem) -> bytes:
    """A line of a batch's answer."""
    if isinstance(outcome, StoredAnswer):
        line = BatchLine(line=number, **outcome.model_dump())
    else:
        status = {409: StoreStatus.CONFLICT, 503: StoreStatus.FAILED}.get(outcome.status, StoreStatus.REFUSED)
        line = BatchLine(line=number, status=status, problem=outcome.document())
    return line.model_dump_json(exclude_none=True).encode() + b"\n"


@dataclass
class ResultsDouble:
    """Judges documents, alone or in batches, and remembers them in the order in which they came."""

    url: str
    judge: Judge = field(default=lambda _: stored())
    requests: list[list[bytes]] = field(default_factory=list)
    """The documents of each request."""
    encodings: list[str | None] = field(default_factory=list)
    away: list[httpx.Response | Exception] = field(default_factory=list)
    """What the next requests are answered instead."""

    @property
    def documents(self) -> list[bytes]:
        """All documents that came, those that came twice included."""
        return [document for request in self.requests for document in request]

    def listen(self, kind: str = "standardized_output") -> None:
        """Take over the addresses; inside respx.mock."""
        respx.post(f"{self.url}/{kind}").mock(side_effect=self._alone)
        respx.post(f"{self.url}/{kind}/batch").mock(side_effect=self._batch)

    def _alone(self, request: httpx.Request) -> httpx.Response:
        if answer := self._answer_instead([request.content], request):
            return answer
        outcome = self.judge(request.content)
        return stored_answer(outcome) if isinstance(outcome, StoredAnswer) else problem_answer(outcome)

    def _batch(self, request: httpx.Request) -> httpx.Response:
        lines = batch_lines(request)
        if answer := self._answer_instead(lines, request):
            return answer
        return httpx.Response(
            200, content=b"".join(batch_line(number, self.judge(line)) for number, line in enumerate(lines, 1))
        )

    def _answer_instead(self, documents: list[bytes], request: httpx.Request) -> httpx.Response | None:
        self.requests.append(documents)
        self.encodings.append(request.headers.get("content-encoding"))
        if not self.away:
            return None
        outcome = self.away.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

"""Many results in one body: a document a line in, a line out for each, both ways as they come."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from results_service.intake import READERS, WHOLE_BYTES, NewResult, read_result, receive_result
from results_service.mongo import Mongo
from results_service.store import ResultStore, stored_answer
from shared.problems import Problem, ResultConflict, ResultNameTaken, StoreUnavailable, TooLarge
from shared.registry.specs import Registry
from shared.results import BatchLine, ResultKind, StoreStatus

_GROUPS_AHEAD = 3
"""Groups of lines that are read while earlier ones are being stored."""
_OFF_LOOP_BYTES = 16 * 1024
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one batch may hold."""

    lines: int
    line_bytes: int


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    body: bytes | None
    """None where the line is longer than is allowed; its bytes were not kept."""


async def answer_lines(
    blocks: AsyncIterator[bytes],
    kind: ResultKind,
    *,
    mongo: Mongo,
    store: ResultStore,
    registry: Registry,
    limits: BatchLimits,
) -> AsyncIterator[bytes]:
    """Store the documents in the lines of a body; for each, in order, a BatchLine as a line of JSON.

    A problem with the body itself is raised if it shows before the first answer; later it is the last line.

    Reading the body never waits for whoever reads the answers: a client that sends everything before it reads would
    wait for us, and we for it. What is held for it is bounded by the lines that a batch may have.
    """
    batch = _Batch(kind, mongo, store, registry, limits)
    reading = asyncio.create_task(batch.read(blocks))
    answered = 0
    try:
        while (group := await batch.answers.get()) is not None:
            lines = await group
            if lines:
                answered = lines[-1].line
                yield b"".join(line.model_dump_json(exclude_none=True).encode() + b"\n" for line in lines)
        try:
            await reading
        except Problem as problem:
            if not answered:
                raise
            last = _not_stored(answered + 1, problem)
            yield last.model_dump_json(exclude_none=True).encode() + b"\n"
    finally:
        reading.cancel()


@dataclass(slots=True)
class _Batch:
    kind: ResultKind
    mongo: Mongo
    store: ResultStore
    registry: Registry
    limits: BatchLimits
    answers: "asyncio.Queue[asyncio.Task[list[BatchLine]] | None]" = field(default_factory=asyncio.Queue)
    _ahead: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_GROUPS_AHEAD))
    _store_away: StoreUnavailable | None = None

    async def read(self, blocks: AsyncIterator[bytes]) -> None:
        """Put what becomes of the lines into `answers`, None at the end."""
        try:
            async for lines in _lines(blocks, self.limits):
                await self._ahead.acquire()
                task = asyncio.create_task(self._store(lines))
                task.add_done_callback(lambda _: self._ahead.release())
                self.answers.put_nowait(task)
        finally:
            self.answers.put_nowait(None)

    async def _store(self, lines: Sequence[_Line]) -> list[BatchLine]:
        sizes = [len(line.body or b"") for line in lines]
        if max(sizes) > WHOLE_BYTES:
            read = [await self._receive_line(line) for line in lines]
        elif sum(sizes) > _OFF_LOOP_BYTES:
            read = await asyncio.get_running_loop().run_in_executor(READERS, self._read_lines, lines)
        else:
            read = self._read_lines(lines)
        return list(
            await asyncio.gather(*(self._put(line.number, result) for line, result in zip(lines, read, strict=True)))
        )

    async def _receive_line(self, line: _Line) -> NewResult | Problem:
        """As `_read_line`, a large document a piece at a time, as if it had come by itself."""
        if line.body is None:
            return self._read_line(line)
        if self._store_away is not None:
            return self._store_away
        try:
            return await receive_result(_pieces(line.body), self.kind, self.registry, self.mongo)
        except StoreUnavailable as problem:
            self._store_away = problem
            return problem
        except Problem as problem:
            return problem

    def _read_lines(self, lines: Sequence[_Line]) -> list[NewResult | Problem]:
        return [self._read_line(line) for line in lines]

    def _read_line(self, line: _Line) -> NewResult | Problem:
        if line.body is None:
            return TooLarge(
                f"a line of a batch may have at most {self.limits.line_bytes:,} bytes (setting MAX_LINE_BYTES); "
                "push this document by itself"
            )
        try:
            return read_result(line.body, self.kind, self.registry)
        except Problem as problem:
            return problem

    async def _put(self, number: int, result: NewResult | Problem) -> BatchLine:
        if isinstance(result, Problem):
            return _not_stored(number, result)
        if self._store_away is not None:  # each line would wait for the store's time limit
            return _not_stored(number, self._store_away, result.result_name)
        try:
            answer = stored_answer(result, await self.store.put(result))
        except StoreUnavailable as problem:
            self._store_away = problem
            return _not_stored(number, problem, result.result_name)
        except Problem as problem:
            return _not_stored(number, problem, result.result_name)
        return BatchLine(line=number, **dict(answer))


async def _lines(blocks: AsyncIterator[bytes], limits: BatchLimits) -> AsyncIterator[list[_Line]]:
    """The lines that end in each block, without the blank ones. TooLarge after the last line that is allowed.

    What has come is handed on at once: a client may well wait for an answer before it sends its next line.
    """
    number = begun_bytes = 0
    begun: list[bytes] = []
    async for block in _with_last_line_ended(blocks):
        pieces = block.split(b"\n")
        lines: list[_Line] = []
        full = False
        for piece in pieces[:-1]:
            number += 1
            size = begun_bytes + len(piece)
            body = b"".join([*begun, piece]).strip() if size <= limits.line_bytes else None
            begun.clear()
            begun_bytes = 0
            if body != b"":
                full = number > limits.lines
                if full:
                    break
                lines.append(_Line(number, body))
        if lines:
            yield lines
        if full:
            raise TooLarge(
                f"a batch may have at most {limits.lines:,} lines (setting MAX_BATCH_LINES); line {number:,} and all "
                "after it were not read"
            )
        begun_bytes += len(pieces[-1])
        if begun_bytes <= limits.line_bytes:
            begun.append(pieces[-1])


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


async def _with_last_line_ended(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield block
    yield b"\n"


def _not_stored(number: int, problem: Problem, result_name: str | None = None) -> BatchLine:
    match problem:
        case ResultConflict() | ResultNameTaken():
            status = StoreStatus.CONFLICT
        case Problem(status=code) if code >= 500:
            status = StoreStatus.FAILED
        case _:
            status = StoreStatus.REFUSED
    return BatchLine(line=number, status=status, result_name=result_name, problem=problem.document())

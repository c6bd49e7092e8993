"""Answers that are sent a JSON line at a time, while they are being made."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from fastapi.responses import StreamingResponse

from shared.problems import Problem
from shared.reconciliation import ReconciliationLine

log = structlog.get_logger(__name__)


class JsonLineStream(StreamingResponse):
    """One JSON document a line, sent as it is made."""

    media_type = "application/x-ndjson"


async def in_lines(lines: AsyncGenerator[ReconciliationLine, None]) -> JsonLineStream:
    """An NDJSON response of `lines`. A problem before the first is the answer; a later one is the last line."""
    first = await anext(lines)
    return JsonLineStream(_encoded(first, lines))


async def _encoded(first: ReconciliationLine, lines: AsyncGenerator[ReconciliationLine, None]) -> AsyncIterator[bytes]:
    yield _line(first)
    async with aclosing(lines):  # also where the caller goes away
        try:
            async for line in lines:
                yield _line(line)
        except Problem as problem:
            log.warning("reconciliation ended early", reason=problem.detail)
            yield _line(ReconciliationLine(phase="done", problem=problem.document()))


def _line(line: ReconciliationLine) -> bytes:
    return line.model_dump_json(exclude_none=True).encode() + b"\n"

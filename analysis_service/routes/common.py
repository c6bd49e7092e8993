"""What routes take from the application, and how they answer."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Answer, AnswerCache, Asked, Compute
from analysis_service.reader import Reader
from shared.direct_routes import DirectJson
from shared.entity_tags import is_known
from shared.problems import Problem


def _reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


ReaderOf = Annotated[Reader, Depends(_reader)]
Language = Annotated[Literal["en", "ko"], Query(description="Language of titles and descriptions")]

UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "As `If-None-Match` has it"}}
"""Among the answers of every route that answers from what is kept."""


async def answer(request: Request, asked: Asked, compute: Compute) -> Response:
    """What was `asked`, from what is kept if nothing has changed since, else computed; 304 where the caller has it.

    That also after POST: here it asks a question, and changes nothing.
    """
    answers: AnswerCache = request.app.state.answers
    return _respond(request, await answers.fetch(asked, compute, partial(_leave, request)))


async def answer_anew(request: Request, compute: Compute) -> Response:
    """What `compute` tells, which is neither kept nor taken from what is: it tells of its own making."""
    answers: AnswerCache = request.app.state.answers
    told = await answers.compute(compute, partial(_leave, request))
    return DirectJson(told.body, 200, (b"cache-control", b"no-store"))


async def _leave(request: Request) -> None:
    """Return when the caller is gone. The server does not end what it asked for: it only tells who listens."""
    with suppress(Problem):  # of a body that nobody asked for, which no longer matters
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return
    await asyncio.get_running_loop().create_future()


def _respond(request: Request, told: Answer) -> Response:
    # Whoever keeps it asks each time whether it still holds, and with the key that it takes: no Vary is needed.
    headers = ((b"etag", told.etag.encode()), (b"cache-control", b"private, no-cache"))
    if is_known(request, told.etag):
        unchanged = Response(status_code=304)
        unchanged.raw_headers += headers
        return unchanged
    return DirectJson(told.body, 200, *headers)

"""`/live_runs`: results that come in parts while they are being measured."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from results_service.live_runs import LiveRuns
from results_service.parts import MAX_PARTS
from results_service.routes.answers import refuse_repeats
from results_service.routes.corrections import WriterKey
from shared.guard import require
from shared.keys import Scope
from shared.problems import TooLarge
from shared.results import (
    CorrectionRequest,
    LiveQuestions,
    LiveRun,
    LiveRunDetail,
    LiveRunPage,
    LiveRunState,
    OpenedLiveRun,
    PartAnswer,
)
from shared.submission import Envelope
from shared.web import StrictRoute

router = APIRouter(prefix="/live_runs", tags=["live_runs"], route_class=StrictRoute)


def _live_runs(request: Request) -> LiveRuns:
    live_runs: LiveRuns = request.app.state.live_runs
    return live_runs


TheLiveRuns = Annotated[LiveRuns, Depends(_live_runs)]


class LiveRunQuery(BaseModel):
    """Which live runs, and how many of them."""

    model_config = ConfigDict(extra="forbid")

    state: LiveRunState | None = None
    abandoned: bool | None = Field(default=None, description="Only those that are abandoned, or only the others")
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before")


class Finish(BaseModel):
    """What the sender knows of the whole run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parts: int | None = Field(
        default=None, ge=1, le=MAX_PARTS, description="How many parts were sent: refused unless exactly 1…n are there"
    )


@router.post(
    "",
    status_code=201,
    responses={200: {"model": OpenedLiveRun, "description": "It was open with the same words"}},
)
async def open_live_run(
    envelope: Envelope, key: WriterKey, live_runs: TheLiveRuns, response: Response
) -> OpenedLiveRun:
    """Open a live run: the fields of a standardized result without its data. Its parts follow.

    Only the API key that opened it, or one with the scope `admin`, may add parts, finish or discard it.
    """
    opened = await live_runs.open(envelope, key)
    response.status_code = 200 if opened.unchanged else 201
    return opened


_PART: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"questions": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
                    "required": ["questions"],
                    "additionalProperties": False,
                },
                "example": {"questions": [{"question_id": "law/0", "score": 1, "metadata": {"subject": "law"}}]},
            }
        },
    }
}


@router.post(
    "/{result_name}/parts/{number}",
    status_code=201,
    responses={200: {"model": PartAnswer, "description": "The same part was there"}},
    openapi_extra=_PART,
)
async def add_part(
    result_name: str,
    number: Annotated[int, Path(ge=1, le=MAX_PARTS, description="Your number for this part, in any order")],
    key: WriterKey,
    live_runs: TheLiveRuns,
    request: Request,
    response: Response,
) -> PartAnswer:
    """Add questions to a live run. The answer comes when they are safe; they will be in the finished result.

    Sending the same part again is answered 200. Another one under its number, or an attempt at a question that another
    part holds, is refused.
    """
    body = await _read_body(request, request.app.state.batch_limits.line_bytes)
    answer = await live_runs.parts.add(result_name, number, body, key)
    response.status_code = 200 if answer.unchanged else 201
    return answer


async def _read_body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > max_bytes:
            raise TooLarge(f"a part may have at most {max_bytes:,} bytes (setting MAX_LINE_BYTES); send it as several")
    return bytes(body)


@router.post("/{result_name}/finish")
async def finish_live_run(
    result_name: str, key: WriterKey, live_runs: TheLiveRuns, finish: Finish | None = None
) -> LiveRun:
    """Make the standardized result: the questions of all parts, byte for byte, in the order of their numbers.

    Sending it again is answered in the same way. With `parts`, nothing happens unless exactly those are there.
    """
    return await live_runs.finish(result_name, finish.parts if finish else None, key)


@router.post("/{result_name}/discard")
async def discard_live_run(
    result_name: str, discard: CorrectionRequest, key: WriterKey, live_runs: TheLiveRuns
) -> LiveRun:
    """Close a live run without a result: it leaves every analysis. What was sent stays stored."""
    return await live_runs.discard(result_name, discard, key)


@router.get("", dependencies=[require(Scope.RESULTS_READ), Depends(refuse_repeats)])
async def list_live_runs(query: Annotated[LiveRunQuery, Query()], live_runs: TheLiveRuns) -> LiveRunPage:
    """Live runs, also those that are finished or discarded, newest first."""
    return await live_runs.page(query.state, query.abandoned, query.limit, query.cursor)


@router.get("/{result_name}", dependencies=[require(Scope.RESULTS_READ)])
async def read_live_run(result_name: str, live_runs: TheLiveRuns) -> LiveRunDetail:
    """One live run, with the numbers of its parts."""
    return await live_runs.get(result_name)


@router.get(
    "/{result_name}/questions",
    response_class=StreamingResponse,
    responses={200: {"model": LiveQuestions}},
    dependencies=[require(Scope.RESULTS_READ)],
)
async def read_live_questions(result_name: str, live_runs: TheLiveRuns) -> StreamingResponse:
    """All questions of a live run so far, in the order of the parts' numbers."""
    return StreamingResponse(await live_runs.read_questions(result_name), media_type="application/json")

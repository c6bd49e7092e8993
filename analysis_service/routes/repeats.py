"""What several attempts at each question tell."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.repeats import measure_repeats
from analysis_service.routes.common import UNCHANGED, ReaderOf, answer
from shared.guard import require
from shared.keys import Scope
from shared.repeats import RepeatsAnswer, RepeatsRequest
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])


@router.post(
    "/repeats",
    summary="pass@k, majority votes and consistency of repeated attempts",
    response_model=RepeatsAnswer,
    responses=UNCHANGED,
)
async def post_repeats(request: Request, wanted: RepeatsRequest, reader: ReaderOf) -> Response:
    """Of each run: pass@k and pass^k for every k, avg@n, maj@n, consistency, and questions' and attempts' variance."""
    asked = Asked("repeats", (wanted.model_dump_json(),), (wanted.benchmark,))
    return await answer(request, asked, partial(measure_repeats, reader, wanted))

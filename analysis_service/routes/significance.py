"""Whether a candidate may replace a baseline."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.routes.common import UNCHANGED, ReaderOf, answer
from analysis_service.significance.judge import judge
from shared.guard import require
from shared.keys import Scope
from shared.significance import SignificanceAnswer, SignificanceRequest
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])


@router.post(
    "/significance",
    summary="Judge a candidate against a baseline",
    response_model=SignificanceAnswer,
    responses=UNCHANGED,
)
async def post_significance(request: Request, wanted: SignificanceRequest, reader: ReaderOf) -> Response:
    """Better, worse, equivalent within a margin, or inconclusive: on each benchmark, and overall.

    A candidate whose run is going on is named by `run`; its verdict may be looked at as often as one likes.
    """
    asked = Asked("significance", (wanted.model_dump_json(),), tuple(wanted.benchmarks))
    return await answer(request, asked, partial(judge, reader, wanted))

"""Scores over time."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.routes.common import UNCHANGED, ReaderOf, answer
from analysis_service.time_series.trace import trace_scores
from shared.guard import require
from shared.keys import Scope
from shared.time_series import TimeSeriesAnswer, TimeSeriesRequest
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])


@router.post(
    "/timeseries",
    summary="Scores over time, with steps and breaks",
    response_model=TimeSeriesAnswer,
    responses=UNCHANGED,
)
async def post_time_series(request: Request, wanted: TimeSeriesRequest, reader: ReaderOf) -> Response:
    """A family's or some models' runs as a line, or one for each value of a field; steps are searched and tested."""
    asked = Asked("time series", (wanted.model_dump_json(),), (wanted.benchmark,))
    return await answer(request, asked, partial(trace_scores, reader, wanted))

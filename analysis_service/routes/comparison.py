"""Models and runs compared."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.comparison.compare import compare
from analysis_service.routes.common import UNCHANGED, ReaderOf, answer
from shared.comparisons import ComparisonAnswer, ComparisonRequest
from shared.guard import require
from shared.keys import Scope
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])


@router.post(
    "/comparison",
    summary="Compare models or runs question by question",
    response_model=ComparisonAnswer,
    responses=UNCHANGED,
)
async def post_comparison(request: Request, wanted: ComparisonRequest, reader: ReaderOf) -> Response:
    """All pairs of two or more on the questions that they share: differences, intervals, tests and ranks."""
    benchmarks = [wanted.benchmark] if wanted.benchmark is not None else wanted.benchmarks or []
    asked = Asked("comparison", (wanted.model_dump_json(),), tuple(benchmarks))
    return await answer(request, asked, partial(compare, reader, wanted))

"""Group-bys and the summary."""

from functools import lru_cache, partial

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.group_by.analyze import analyze_columns
from analysis_service.routes.common import UNCHANGED, Language, ReaderOf, answer, answer_anew
from analysis_service.summary import summarize
from shared.analysis import AnalysisAnswer, AnalysisRequest, SummaryAnswer
from shared.direct_routes import DirectRoute, read_body
from shared.guard import admit, require
from shared.keys import Scope
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])
direct = APIRouter(route_class=DirectRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])

_SMALL_BYTES = 4096
"""A body that is remembered as read: a dashboard asks the same thousands of times."""


def _documented(wanted: AnalysisRequest) -> None:
    """Tells the documentation what the body is, which the endpoint reads itself."""


@direct.post(
    "/analysis",
    summary="Group scores by metadata, models and runs",
    response_model=AnalysisAnswer,
    responses=UNCHANGED,
    dependencies=[Depends(_documented)],
)
async def post_analysis(request: Request) -> Response:
    """One to three levels over the latest (or all, or named) runs; rows carry n, n_questions and means.

    The answer has an `ETag`; sent back as `If-None-Match` it saves the answer's body while nothing has changed.
    """
    await admit(request, Scope.ANALYSIS_READ)
    body = await request.body()
    wanted, asked = _read_again(body) if len(body) <= _SMALL_BYTES else _read(body)
    compute = partial(analyze_columns, request.app.state.reader, wanted)
    return await (answer_anew(request, compute) if wanted.explain else answer(request, asked, compute))


@router.get(
    "/analysis/summary",
    summary="What is stored, and how the models did",
    response_model=SummaryAnswer,
    responses=UNCHANGED,
)
async def get_summary(request: Request, reader: ReaderOf, lang: Language = "en") -> Response:
    """One entry a benchmark."""
    return await answer(request, Asked("summary", (lang,), None), partial(summarize, reader, lang))


def _read(body: bytes) -> tuple[AnalysisRequest, Asked]:
    """The request, and what is asked by it."""
    wanted = read_body(body, AnalysisRequest)
    benchmarks = [wanted.benchmark] if wanted.benchmark is not None else wanted.benchmarks or []
    return wanted, Asked("analysis", (wanted.model_dump_json(),), tuple(benchmarks))


_read_again = lru_cache(maxsize=500)(_read)

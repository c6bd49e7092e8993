"""Group-bys and the summary."""

from fastapi import APIRouter

from analysis_service.analyze import analyze
from analysis_service.routes.common import Language, ReaderOf
from analysis_service.summary import summarize
from shared.analysis import AnalysisAnswer, AnalysisRequest, SummaryAnswer
from shared.guard import require
from shared.keys import Scope
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["analysis"])


@router.post("/analysis", summary="Group scores by metadata, models and runs")
async def post_analysis(request: AnalysisRequest, reader: ReaderOf) -> AnalysisAnswer:
    """One to three levels over the latest (or all, or named) runs; rows carry n, n_questions and means."""
    return await analyze(reader, request)


@router.get("/analysis/summary", summary="What is stored, and how the models did")
async def get_summary(reader: ReaderOf, lang: Language = "en") -> SummaryAnswer:
    """One entry a benchmark."""
    return await summarize(reader, lang)

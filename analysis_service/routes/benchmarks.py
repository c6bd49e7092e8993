"""What a benchmark can be grouped by."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.options import describe_fields, fetch_options
from analysis_service.routes.common import UNCHANGED, Language, ReaderOf, answer
from shared.analysis import MetadataAnswer, OptionsAnswer, OptionsRequest
from shared.guard import require
from shared.keys import Scope
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["benchmarks"])


@router.get(
    "/benchmarks/{benchmark}/metadata",
    summary="A benchmark's fields and their values",
    response_model=MetadataAnswer,
    responses=UNCHANGED,
)
async def get_metadata(request: Request, benchmark: str, reader: ReaderOf, lang: Language = "en") -> Response:
    """Each field with its values and the number of questions that have each."""
    asked = Asked("metadata", (benchmark, lang), (benchmark,))
    return await answer(request, asked, partial(describe_fields, reader, benchmark, lang))


@router.post(
    "/benchmarks/{benchmark}/metadata/options",
    summary="Values for the next level",
    response_model=OptionsAnswer,
    responses=UNCHANGED,
)
async def post_options(request: Request, benchmark: str, wanted: OptionsRequest, reader: ReaderOf) -> Response:
    """The values of the fields that remain, among the questions that the levels above keep."""
    asked = Asked("options", (benchmark, wanted.model_dump_json()), (benchmark,))
    return await answer(request, asked, partial(fetch_options, reader, benchmark, wanted))

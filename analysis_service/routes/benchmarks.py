"""What a benchmark can be grouped by."""

from fastapi import APIRouter

from analysis_service.options import describe_fields, fetch_options
from analysis_service.routes.common import Language, ReaderOf
from shared.analysis import MetadataAnswer, OptionsAnswer, OptionsRequest
from shared.guard import require
from shared.keys import Scope
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["benchmarks"])


@router.get("/benchmarks/{benchmark}/metadata", summary="A benchmark's fields and their values")
async def get_metadata(benchmark: str, reader: ReaderOf, lang: Language = "en") -> MetadataAnswer:
    """Each field with its values and the number of questions that have each."""
    return await describe_fields(reader, benchmark, lang)


@router.post("/benchmarks/{benchmark}/metadata/options", summary="Values for the next level")
async def post_options(benchmark: str, request: OptionsRequest, reader: ReaderOf) -> OptionsAnswer:
    """The values of the fields that remain, among the questions that the levels above keep."""
    return await fetch_options(reader, benchmark, request)

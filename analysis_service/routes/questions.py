"""Single questions, through every model and harness."""

from typing import Annotated

from fastapi import APIRouter, Query

from analysis_service.question_list import list_questions
from analysis_service.questions import fetch_question
from analysis_service.routes.common import ReaderOf
from shared.guard import require
from shared.keys import Scope
from shared.questions import QuestionAnswer, QuestionListQuery, QuestionPage, QuestionQuery
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["benchmarks"])


@router.get("/benchmarks/{benchmark}/questions", summary="A benchmark's questions")
async def get_questions(benchmark: str, query: Annotated[QuestionListQuery, Query()], reader: ReaderOf) -> QuestionPage:
    """By id; a question is listed under each id that a harness gave it."""
    return await list_questions(reader, benchmark, query)


@router.get("/benchmarks/{benchmark}/questions/{question_id:path}", summary="What runs made of one question")
async def get_question(
    benchmark: str, question_id: str, query: Annotated[QuestionQuery, Query()], reader: ReaderOf
) -> QuestionAnswer:
    """Found by any harness's id for it (`/` may stand as it is); shown as every model and harness answered it."""
    return await fetch_question(reader, benchmark, question_id, query)

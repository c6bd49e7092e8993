"""Single questions, through every model and harness."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from analysis_service.answer_cache import Asked
from analysis_service.question_list import list_questions
from analysis_service.questions import fetch_question
from analysis_service.routes.common import UNCHANGED, ReaderOf, answer
from shared.guard import require
from shared.keys import Scope
from shared.questions import QuestionAnswer, QuestionListQuery, QuestionPage, QuestionQuery
from shared.web import StrictRoute

router = APIRouter(route_class=StrictRoute, dependencies=[require(Scope.ANALYSIS_READ)], tags=["benchmarks"])


@router.get(
    "/benchmarks/{benchmark}/questions",
    summary="A benchmark's questions",
    response_model=QuestionPage,
    responses=UNCHANGED,
)
async def get_questions(
    request: Request, benchmark: str, query: Annotated[QuestionListQuery, Query()], reader: ReaderOf
) -> Response:
    """By id; a question is listed under each id that a harness gave it."""
    asked = Asked("questions", (benchmark, query.model_dump_json()), (benchmark,))
    return await answer(request, asked, partial(list_questions, reader, benchmark, query))


@router.get(
    "/benchmarks/{benchmark}/questions/{question_id:path}",
    summary="What runs made of one question",
    response_model=QuestionAnswer,
    responses=UNCHANGED,
)
async def get_question(
    request: Request, benchmark: str, question_id: str, query: Annotated[QuestionQuery, Query()], reader: ReaderOf
) -> Response:
    """Found by any harness's id for it (`/` may stand as it is); shown as every model and harness answered it."""
    asked = Asked("question", (benchmark, question_id, query.model_dump_json()), (benchmark,))
    return await answer(request, asked, partial(fetch_question, reader, benchmark, question_id, query))

"""`/benchmarks`, `/models`, `/sources`: what results are stored of, for pickers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from results_service.routes.answers import Json, answer_json, refuse_repeats
from results_service.routes.dependencies import ThePickers
from shared.guard import require
from shared.keys import Scope
from shared.results import ResultKind, StoredNamePage

PICKERS = {"benchmarks": "benchmark_name", "models": "model_id", "sources": "source"}
"""Path → the field whose values it lists."""


class PickerQuery(BaseModel):
    """Of which results, and how many names."""

    model_config = ConfigDict(extra="forbid")

    kind: ResultKind = ResultKind.STANDARDIZED
    limit: int = Field(default=100, ge=1, description="At most as many as the setting MAX_PAGE")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before")


def pickers_router() -> APIRouter:
    """One route for each picker."""
    router = APIRouter(tags=["pickers"], dependencies=[require(Scope.RESULTS_READ), Depends(refuse_repeats)])
    for path, field in PICKERS.items():
        _add_picker(router, path, field)
    return router


def _add_picker(router: APIRouter, path: str, field: str) -> None:
    @router.head(f"/{path}", include_in_schema=False)
    @router.get(
        f"/{path}",
        name=f"list_{path}",
        response_class=Json,
        responses={200: {"model": StoredNamePage}, 304: {"description": "As `If-None-Match` has it"}},
        description=f"The {path} that results are stored of, with how many. At a million results it may be 5 s old.",
    )
    async def list_names(query: Annotated[PickerQuery, Query()], request: Request, pickers: ThePickers) -> Response:
        page = await pickers.names(query.kind, field, query.limit, query.cursor)
        return answer_json(request, page.model_dump_json().encode())

"""`/raw_input` and `/standardized_output`: push a result, list what is stored, read one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from results_service.intake import read_result
from results_service.routes.dependencies import TheRegistry, TheStore
from results_service.store import FILTERS
from shared.guard import require
from shared.keys import Scope
from shared.problems import UnsupportedMedia
from shared.results import ResultDetail, ResultKind, ResultPage, StoredAnswer, StoreStatus
from shared.submission import SubmissionDocument

_OFF_LOOP_BYTES = 64 * 1024
"""Bodies beyond this take longer to read than other requests should wait."""

_EXAMPLES: dict[ResultKind, dict[str, Any]] = {
    ResultKind.RAW: {
        "run_id": "test-run-001",
        "benchmark_name": "mmlu",
        "timestamp": "2024-01-01T12:00:00Z",
        "model_id": "gpt-4",
        "source": "lm-eval",
        "data": {"results": {"mmlu": {"acc,none": 0.85}}},
    },
    ResultKind.STANDARDIZED: {
        "run_id": "test-run-001",
        "benchmark_name": "mmlu",
        "timestamp": "2024-01-01T12:00:00Z",
        "model_id": "gpt-4",
        "source": "lm-eval",
        "data": {
            "questions": [
                {"question_id": "law/0", "score": 1, "answer": "B", "target": "B", "metadata": {"subject": "law"}},
                {"question_id": "law/1", "status": "refused", "metadata": {"subject": "law"}},
            ]
        },
    },
}


class ListQuery(BaseModel):
    """Which results, and how many of them."""

    model_config = ConfigDict(extra="forbid")

    benchmark_name: str | None = None
    model_id: str | None = None
    source: str | None = None
    run_id: str | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before")


class Json(Response):
    """JSON that is text already."""

    media_type = "application/json"


def results_router(kind: ResultKind) -> APIRouter:
    """The routes of one kind of result."""
    router = APIRouter(prefix=f"/{kind}", tags=[kind.value])

    @router.post(
        "",
        status_code=201,
        responses={200: {"model": StoredAnswer, "description": "The same content was stored before"}},
        openapi_extra=_body_documentation(kind),
        dependencies=[require(Scope.RESULTS_WRITE)],
    )
    async def push_result(request: Request, response: Response, store: TheStore, registry: TheRegistry) -> StoredAnswer:
        """Store a result. The answer comes when it is safe: written to a majority and its journals.

        201 for a new result, 200 if the same content was stored before, 409 if its name is taken by other content.
        """
        _check_encoding(request)
        body = await request.body()
        if len(body) > _OFF_LOOP_BYTES:
            result = await asyncio.to_thread(read_result, body, kind, registry)
        else:
            result = read_result(body, kind, registry)
        status = await store.put(result)
        unchanged = status is StoreStatus.UNCHANGED
        response.status_code = 200 if unchanged else 201
        return StoredAnswer(
            result_name=result.result_name,
            status=status,
            unchanged=unchanged,
            sha256=result.sha256,
            questions=result.questions,
            warnings=list(result.warnings),
        )

    @router.get("", dependencies=[require(Scope.RESULTS_READ)])
    async def list_results(query: Annotated[ListQuery, Query()], store: TheStore) -> ResultPage:
        """Envelopes, newest first. `data` is not read for it; pages stay right while results are being pushed."""
        filters = query.model_dump(include=set(FILTERS), exclude_none=True)
        return await store.page(kind, filters, query.limit, query.cursor)

    @router.get(
        "/{result_name}",
        response_class=Json,
        responses={200: {"model": ResultDetail}},
        dependencies=[require(Scope.RESULTS_READ)],
    )
    async def read_one(result_name: str, store: TheStore) -> Response:
        """One result with its data, byte for byte as it was received. The time in the name may be spelled any way."""
        stored = await store.get(kind, result_name)
        head = stored.summary.model_dump_json().encode().removesuffix(b"}") + b',"data":'
        if stored.in_one_piece:
            data = b"".join([chunk async for chunk in stored.data])
            return Json(head + data + b"}")
        length = len(head) + stored.summary.bytes + 1
        stream = _around(head, stored.data, b"}")
        return StreamingResponse(stream, media_type=Json.media_type, headers={"Content-Length": str(length)})

    return router


async def _around(head: bytes, data: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async for chunk in data:
        yield chunk
    yield tail


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(f"Content-Encoding {encoding!r} is not read here; send the body as plain JSON")


def _body_documentation(kind: ResultKind) -> dict[str, Any]:
    """The request body for /docs. FastAPI does not see it, for the bytes of `data` matter and it would parse them."""
    schema = SubmissionDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)  # Provenance; the answers' models have brought it into the components
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": _EXAMPLES[kind]}},
        }
    }

"""`POST /raw_input` and `/standardized_output`: one result, or many as lines."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from results_service.batch import answer_lines
from results_service.intake import receive_result
from results_service.routes.answers import read_flag
from results_service.routes.feed import JsonLines
from results_service.store import stored_answer
from shared.bodies import DuplexResponse
from shared.direct_routes import DirectJson, DirectRoute
from shared.guard import admit, require
from shared.keys import Scope
from shared.results import BatchLine, ResultKind, StandardizationState, StoredAnswer
from shared.submission import SubmissionDocument

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


def push_router(kind: ResultKind) -> APIRouter:
    """The routes that store results of one kind."""
    router = APIRouter(prefix=f"/{kind}", tags=[kind.value], route_class=DirectRoute)

    @router.post(
        "",
        status_code=201,
        response_model=StoredAnswer,
        responses={200: {"model": StoredAnswer, "description": "The same content was stored before"}},
        openapi_extra=_documented_body("application/json", kind),
        dependencies=[require(Scope.RESULTS_WRITE)],
    )
    async def push_result(request: Request) -> Response:
        """Store a result. The answer comes when it is safe: written to a majority and its journals.

        201 for a new result, 200 if the same content was stored before, 409 if its name is taken by other content.
        The body may be compressed (`Content-Encoding: gzip` or `zstd`).
        """
        await admit(request, Scope.RESULTS_WRITE)
        state = request.app.state
        is_to_standardize = kind is ResultKind.RAW and read_flag(request, "standardize")
        result = await receive_result(request.stream(), kind, state.registry, state.mongo)
        if is_to_standardize:
            result = replace(result, standardization=StandardizationState.QUEUED)
        answer = stored_answer(result, await state.store.put(result))
        if is_to_standardize:
            await state.standardizing.queue(result.result_name)
        status = 200 if answer.unchanged else 201
        return DirectJson(answer.model_dump_json().encode(), status)

    @router.post(
        "/batch",
        response_class=JsonLines,
        responses={200: {"model": BatchLine, "description": "A line for each line of the body, in order"}},
        openapi_extra=_documented_body("application/x-ndjson", kind),
        dependencies=[require(Scope.RESULTS_WRITE)],
    )
    async def push_results(request: Request) -> Response:
        """Store many results: a document a line (NDJSON), each as `POST` takes it by itself.

        Answers come line by line while the body is still being read. A line that is refused does not keep others out.
        Where the store goes away, the lines from there on are `failed`: send those again. Longer lines than a batch
        takes, and documents with line breaks, go by themselves.
        """
        await admit(request, Scope.RESULTS_WRITE)
        state = request.app.state
        lines = answer_lines(
            request.stream(),
            kind,
            mongo=state.mongo,
            store=state.store,
            registry=state.registry,
            limits=state.batch_limits,
        )
        # What is wrong before the first line is answered is a problem of the whole request.
        first = await anext(lines, b"")
        return DuplexResponse(_and_the_rest(first, lines), media_type=JsonLines.media_type)

    return router


async def _and_the_rest(first: bytes, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in lines:
        yield line


def _documented_body(media_type: str, kind: ResultKind) -> dict[str, Any]:
    """The request body for /docs. FastAPI does not see it, for the bytes of `data` matter and it would parse them."""
    schema = SubmissionDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)  # Provenance; the answers' models have brought it into the components
    content = {media_type: {"schema": schema, "example": _EXAMPLES[kind]}}
    return {"requestBody": {"required": media_type == "application/json", "content": content}}  # a batch may be empty

"""`GET /raw_input` and `/standardized_output`: list what is stored, read one result."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from results_service.listing import ListQuery
from results_service.reading import StoredResult
from results_service.routes.answers import Json, answer_json, refuse_repeats, takes_zstd
from results_service.routes.dependencies import TheReader
from shared.entity_tags import entity_tag, is_known
from shared.guard import require
from shared.keys import Scope
from shared.results import ResultDetail, ResultKind, ResultPage


def results_router(kind: ResultKind) -> APIRouter:
    """The routes that read results of one kind."""
    router = APIRouter(prefix=f"/{kind}", tags=[kind.value], dependencies=[require(Scope.RESULTS_READ)])

    @router.head("", include_in_schema=False, dependencies=[Depends(refuse_repeats)])
    @router.get(
        "",
        response_class=Json,
        responses={200: {"model": ResultPage}, 304: {"description": "As `If-None-Match` has it"}},
        dependencies=[Depends(refuse_repeats)],
    )
    async def list_results(query: Annotated[ListQuery, Query()], request: Request, reader: TheReader) -> Response:
        """Results without their data. Pages stay right while results are being pushed.

        A walk from page to page meets each result once; those that come while it goes on are in it where their place
        in the order is still ahead.
        """
        return answer_json(request, await reader.page(kind, query))

    @router.head("/{result_name}", include_in_schema=False)
    @router.get(
        "/{result_name}",
        response_class=Json,
        responses={200: {"model": ResultDetail}, 304: {"description": "As `If-None-Match` has it"}},
    )
    async def read_one(result_name: str, request: Request, reader: TheReader) -> Response:
        """One result with its data, byte for byte as it was received. The time in the name may be spelled any way.

        With `Accept-Encoding: zstd` it is sent compressed, as it is stored.
        """
        zstd = takes_zstd(request)
        if request.method == "HEAD" or "if-none-match" in request.headers:
            told = await reader.result(kind, result_name, with_data=False)
            headers = _headers(told, zstd=zstd)
            if is_known(request, headers["ETag"]):
                return Response(status_code=304, headers=headers)
            if request.method == "HEAD":
                return _without_body(told, headers)
        stored = await reader.result(kind, result_name, with_data=True)
        headers = _headers(stored, zstd=zstd)
        pieces = reader.frames(stored) if zstd else reader.body(stored)
        first = await anext(pieces)  # while the answer can still be a problem
        if stored.in_one_piece:
            return Json(first, headers=headers)
        if not zstd:
            headers["Content-Length"] = str(stored.size)
        return StreamingResponse(_chained(first, pieces), media_type=Json.media_type, headers=headers)

    return router


def _headers(stored: StoredResult, *, zstd: bool) -> dict[str, str]:
    # The head holds the digest of the data and every correction, so it changes whenever anything does.
    headers = {
        "ETag": entity_tag(stored.head, "-zstd" if zstd else ""),
        "Vary": "Accept-Encoding",
        "Cache-Control": "no-cache",
    }
    return headers | {"Content-Encoding": "zstd"} if zstd else headers


def _without_body(stored: StoredResult, headers: dict[str, str]) -> Response:
    answer = Json(headers=headers)
    if "Content-Encoding" in headers:
        del answer.headers["Content-Length"]  # known only when the data has been read
    else:
        answer.headers["Content-Length"] = str(stored.size)
    return answer


async def _chained(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece

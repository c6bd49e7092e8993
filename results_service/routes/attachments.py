"""`GET /raw_input/{result_name}/files`: the files that are kept with a raw input, listed and as they are."""

import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from results_service.attachments import AttachedFile
from results_service.documents import stored_id
from results_service.routes.answers import Json, answer_json
from results_service.routes.dependencies import TheAttachments, TheReader
from shared.attachments import FileList, FileSummary
from shared.entity_tags import is_known
from shared.guard import require
from shared.keys import Scope
from shared.problems import RangeNotSatisfiable
from shared.results import ResultKind
from shared.timestamps import canonical_result_name

router = APIRouter(prefix=f"/{ResultKind.RAW}", tags=[ResultKind.RAW], dependencies=[require(Scope.RESULTS_READ)])

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


async def _raw_stored_id(result_name: str, reader: TheReader) -> str:
    """The stored id of the raw input of this name, its time in any spelling; NotFound if there is none."""
    await reader.result(ResultKind.RAW, result_name, with_data=False)
    return stored_id(canonical_result_name(result_name))


RawStoredId = Annotated[str, Depends(_raw_stored_id)]


@router.head("/{result_name}/files", include_in_schema=False)
@router.get(
    "/{result_name}/files",
    response_class=Json,
    responses={200: {"model": FileList}, 304: {"description": "As `If-None-Match` has it"}},
)
async def list_files(raw: RawStoredId, request: Request, attachments: TheAttachments) -> Response:
    """The files that are kept with a raw input, by their paths; none for one that was pushed as a document."""
    files = FileList(items=[_summary(file) for file in await attachments.list(raw)])
    return answer_json(request, files.model_dump_json().encode())


@router.head("/{result_name}/files/{path:path}", include_in_schema=False)
@router.get(
    "/{result_name}/files/{path:path}",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file, byte for byte", "content": {"application/octet-stream": {}}},
        206: {"description": "What `Range` names of it"},
        304: {"description": "As `If-None-Match` has it"},
        416: {"description": "`Range` begins beyond its end"},
    },
)
async def download_file(path: str, raw: RawStoredId, request: Request, attachments: TheAttachments) -> Response:
    """A file as it was received. Its `ETag` is its SHA-256; a download that broke off goes on with `Range`."""
    file = await attachments.find(raw, path)
    headers = _headers(file)
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    wanted = _range(request, file, headers["ETag"])
    start, stop = wanted or (0, file.bytes)
    headers["Content-Length"] = str(stop - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.bytes}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    pieces = attachments.contents(file, start, stop)
    first = await anext(pieces, b"")  # while the answer can still be a problem
    return StreamingResponse(_chained(first, pieces), status_code=status, headers=headers)


def _summary(file: AttachedFile) -> FileSummary:
    return FileSummary(path=file.path, bytes=file.bytes, sha256=file.sha256, media_type=file.media_type)


def _headers(file: AttachedFile) -> dict[str, str]:
    """Whatever the file is, a browser saves it and runs nothing of it."""
    return {
        "Content-Type": file.media_type,  # as it is: Starlette would add a charset that nobody knows
        "Content-Disposition": _disposition(PurePosixPath(file.path).name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": f'"{file.sha256}"',
        "Cache-Control": "no-cache",
        "Accept-Ranges": "bytes",
    }


def _disposition(name: str) -> str:
    """RFC 6266: the name in UTF-8, and before it for old readers one of plain letters."""
    plain = re.sub(r"[^A-Za-z0-9 ._+=@-]", "_", name, flags=re.ASCII)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _range(request: Request, file: AttachedFile, tag: str) -> tuple[int, int] | None:
    """Where what is asked for begins and ends; None for the whole. RangeNotSatisfiable where there is none of it.

    Several ranges, and what is not understood, are answered with the whole, as RFC 9110 (section 14.2) allows.
    """
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or request.method != "GET" or request.headers.get("if-range", tag) != tag:
        return None
    first, last = asked.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, file.bytes) if last else file.bytes
        if last and int(last) < start:
            return None
    elif last:
        start, stop = max(file.bytes - int(last), 0), file.bytes
    else:
        return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"the file has {file.bytes:,} bytes, so none at {start:,}; leave out Range to have all of it",
            headers={"Content-Range": f"bytes */{file.bytes}"},
        )
    return start, stop


async def _chained(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece

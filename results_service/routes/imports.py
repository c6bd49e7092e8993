"""`POST /import`: a harness's own files, and what was lost on the way; reports on raw inputs that were standardized."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from results_service.imports import Importer, ImportOptions
from results_service.routes.dependencies import TheReader
from results_service.uploaded_files import ImportLimits, receive_files, temporary_folder
from shared.formats.harness import ReadOptions
from shared.formats.known import FORMATS
from shared.guard import require
from shared.imports import ImportedFinding, ImportReport
from shared.keys import Scope
from shared.names import TextId, Timestamp
from shared.problems import invalid, unknown_value
from shared.results import ResultKind

router = APIRouter(tags=["import"])


class ImportParameters(BaseModel):
    """What may be said in the address of an import."""

    model_config = ConfigDict(extra="forbid")

    format: str | None = Field(None, description=f"Look for this one alone: {', '.join(FORMATS)}.")
    dry_run: bool = Field(False, description="Store nothing, only report.")
    filename: str | None = Field(None, description="What a body that is one file is called.")
    model_id: TextId | None = Field(None, description="The model, whatever the files say.")
    timestamp: Timestamp | None = Field(None, description="When it was run, for files that do not say it.")
    metric: str | None = Field(None, max_length=200, description="The metric to take as the score.")
    filter: str | None = Field(None, max_length=200, description="The filter whose answers to take.")


_FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/import", openapi_extra=_FILES, dependencies=[require(Scope.RESULTS_WRITE)])
async def import_files(parameters: Annotated[ImportParameters, Query()], request: Request) -> ImportReport:
    """Store what a harness wrote: its files unchanged, and what was measured as standardized results.

    Send files as parts of a form (a filename with slashes is a path), or one file or archive (zip, tar, tar.gz,
    tar.zst) as the body. Formats are recognised by content. The answer tells for everything that was found what became
    of it: rows taken and refused, fields without a place, and whether the figures that the harness states come out of
    its rows. The same files again are `unchanged`, wherever they lie.
    """
    _check_format(parameters.format)
    state = request.app.state
    importer: Importer = state.importer
    limits: ImportLimits = state.import_limits
    async with temporary_folder() as folder:
        content_type = request.headers.get("content-type", "")
        files = await receive_files(request.stream(), content_type, parameters.filename, folder, limits)
        read = ReadOptions(parameters.model_id, parameters.timestamp, parameters.metric, parameters.filter)
        return await importer.import_files(files, ImportOptions(read, parameters.format, parameters.dry_run))


@router.get(
    f"/{ResultKind.RAW}/{{result_name}}/standardization",
    tags=[ResultKind.RAW.value],
    dependencies=[require(Scope.RESULTS_READ)],
)
async def read_reports(result_name: str, request: Request, reader: TheReader) -> list[ImportedFinding]:
    """What became of a raw input that was imported, or that was to be standardized; empty as long as nothing has."""
    await reader.result(ResultKind.RAW, result_name, with_data=False)  # 404 if there is none
    importer: Importer = request.app.state.importer
    return await importer.records.read(result_name)


def _check_format(name: str | None) -> None:
    if name is not None and name not in FORMATS:
        raise invalid(unknown_value("format", name, FORMATS, what="format"))

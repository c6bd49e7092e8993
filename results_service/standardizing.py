"""Standardizes raw inputs in the background, by the code that imports files.

`POST /raw_input?standardize=true` stores `queued` with the raw input itself, so what a crash leaves is found again by
the next look, here or in another instance. Two that do the same one store the same results.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from pymongo import ASCENDING, IndexModel

from results_service.blobs import read_data, unpacked
from results_service.documents import envelope_of, result_name_of, stored_id
from results_service.imports import Importer, ImportOptions
from results_service.mongo import Document, Mongo
from results_service.uploaded_files import UploadedFiles, temporary_folder
from shared.formats.harness import ReadOptions
from shared.formats.tree import File, Tree
from shared.imports import ImportedFinding
from shared.problems import Problem, StoreUnavailable, UnrecognisedFormat
from shared.results import ResultKind, StandardizationState

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
_AT_A_TIME = 100


class Standardizing:
    """Takes queued raw inputs one after the other."""

    def __init__(self, mongo: Mongo, importer: Importer) -> None:
        self._mongo = mongo
        self._raw = mongo.collection(ResultKind.RAW)
        self._importer = importer
        self._wanted = asyncio.Event()

    async def prepare(self) -> None:
        """Make the index that the queue is; one that is there stays."""
        queued = {"standardization": StandardizationState.QUEUED.value}
        async with self._mongo.answering():
            index = IndexModel([("standardization", ASCENDING)], partialFilterExpression=queued)
            await self._raw.create_indexes([index])

    async def queue(self, name: str) -> None:
        """Standardize a stored raw input soon, unless it was queued with the push or ever before."""
        queued = {"$set": {"standardization": StandardizationState.QUEUED.value}}
        async with self._mongo.answering():
            await self._raw.update_one({"_id": stored_id(name), "standardization": {"$exists": False}}, queued)
        self._wanted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while this is open. What is not done by then stays queued."""
        working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            self._wanted.clear()
            try:
                while queued := await self._fetch_queued():
                    for document in queued:
                        await self._standardize(document)
            except StoreUnavailable as problem:
                log.warning("raw inputs not standardized, will try again", reason=problem.detail)
            except Exception:  # or one fault that nobody foresaw would end this for good
                log.exception("raw inputs not standardized, will try again")
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _fetch_queued(self) -> list[Document]:
        queued = {"standardization": StandardizationState.QUEUED.value}
        async with self._mongo.answering():
            return await self._raw.find(queued, limit=_AT_A_TIME).to_list(None)

    async def _standardize(self, document: Document) -> None:
        name = result_name_of(document["_id"])
        envelope = envelope_of(document)
        findings: list[ImportedFinding] = []
        async with temporary_folder() as folder:
            file = await self._write_data(document, folder / "data.json")
            read = ReadOptions(model_id=envelope.model_id, timestamp=envelope.timestamp)
            files = UploadedFiles(Tree([file]), {file.path: document["sha256"]})
            try:
                report = await self._importer.import_files(files, ImportOptions(read, raw=envelope))
                findings = report.findings
                state = StandardizationState.DONE if report.complete else StandardizationState.PARTLY
                if all(finding.problem for finding in findings):
                    state = StandardizationState.FAILED
            except UnrecognisedFormat:
                state = StandardizationState.UNRECOGNISED
            except (StoreUnavailable, OSError):
                raise
            except Problem as problem:
                log.warning("a raw input could not be standardized", result_name=name, reason=problem.detail)
                state = StandardizationState.FAILED
            except Exception:  # it would fail again, and whatever is queued behind it would wait for ever
                log.exception("a raw input could not be standardized", result_name=name)
                state = StandardizationState.FAILED
        await self._importer.records.write(name, state, *findings)
        log.info("standardized a raw input", result_name=name, state=state.value)

    async def _write_data(self, document: Document, location: Path) -> File:
        """The data of a raw input as a file."""
        with location.open("wb") as stream:
            if "data" in document:
                data = await unpacked(document["data"], document["bytes"])
                stream.write(data)
            else:
                async for piece in read_data(self._mongo, document["blob"], document["bytes"]):
                    await asyncio.to_thread(stream.write, piece)
        return File("data.json", location, document["bytes"])

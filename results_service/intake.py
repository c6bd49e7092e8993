"""From a POST's body to a result ready to be stored: small bodies whole, large ones while they arrive."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

from results_service.blobs import CHUNK_BYTES, OFF_LOOP_BYTES, Upload, new_upload, read_data
from results_service.mongo import Mongo
from shared.compression import compress
from shared.registry.specs import Registry
from shared.results import ResultKind, StandardizationState
from shared.submission import (
    Envelope,
    Scalar,
    check_against,
    read_questions,
    read_submission,
    shape_warnings,
    summarize,
)
from shared.submission_stream import SubmissionStream

WHOLE_BYTES = CHUNK_BYTES
"""Bodies up to this are read in one piece, which is faster; parsed they take about ten times as much memory."""

READERS = ThreadPoolExecutor(2, thread_name_prefix="reader")
"""Few, for reading holds the interpreter: more threads would not read faster, only take more memory."""


@dataclass(frozen=True, slots=True)
class NewResult:
    """A valid result, and what is told of it without reading its data again."""

    kind: ResultKind
    envelope: Envelope
    content: bytes | Upload
    """The data as received, compressed; or where it has been stored already."""
    size: int
    """Bytes of data before compression."""
    sha256: str
    questions: int
    summary: Mapping[str, Scalar]
    warnings: tuple[str, ...]
    standardization: StandardizationState | None = None
    """Of a raw input that is to be standardized."""
    from_live_run: bool = False
    """Whether it was put together from the parts of a live run."""

    @property
    def result_name(self) -> str:
        """The identity of the result."""
        return self.envelope.result_name


def read_result(body: bytes, kind: ResultKind, registry: Registry) -> NewResult:
    """Read and check a body. MalformedJson or InvalidRequest says what is wrong and where.

    A raw input's data is anything; a standardized result's questions are checked against its benchmark's definition.
    Slow for large bodies: call it off the event loop.
    """
    submission = read_submission(body)
    questions = None
    warnings: list[str] = []
    if kind is ResultKind.STANDARDIZED:
        name = submission.envelope.benchmark_name
        benchmark = registry.benchmarks.get(name)
        questions = read_questions(submission.value)
        if benchmark is not None and questions is not None:
            check_against(benchmark, questions)
        warnings = shape_warnings(submission.value, questions, benchmark, name)
    return NewResult(
        kind=kind,
        envelope=submission.envelope,
        content=compress(submission.data),
        size=len(submission.data),
        sha256=sha256(submission.data).hexdigest(),
        questions=len(questions or ()),
        summary=summarize(submission.value),
        warnings=tuple(warnings),
    )


async def receive_result(blocks: AsyncIterator[bytes], kind: ResultKind, registry: Registry, mongo: Mongo) -> NewResult:
    """The same from a body that is still arriving. However large it is, a few chunks of it are in memory."""
    held: list[bytes] = []
    size = 0
    async for block in blocks:
        held.append(block)
        size += len(block)
        if size > WHOLE_BYTES:
            return await _receive_upload(_gathered(held, blocks), kind, registry, mongo)
    body = b"".join(held)
    if size > OFF_LOOP_BYTES:
        return await asyncio.get_running_loop().run_in_executor(READERS, read_result, body, kind, registry)
    return read_result(body, kind, registry)


_GATHERED_BYTES = 1024 * 1024


async def _gathered(held: list[bytes], blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What was held, then the rest, in larger pieces: each costs a change of threads."""
    for block in held:
        yield block
    held.clear()
    gathered = bytearray()
    async for block in blocks:
        gathered += block
        if len(gathered) >= _GATHERED_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


async def _receive_upload(
    blocks: AsyncIterator[bytes], kind: ResultKind, registry: Registry, mongo: Mongo
) -> NewResult:
    upload = new_upload(mongo)
    stream = SubmissionStream(with_questions=kind is ResultKind.STANDARDIZED, registry=registry)
    digest = sha256()
    size = 0
    loop = asyncio.get_running_loop()

    def read(block: bytes) -> bytes:
        data = stream.feed(block)
        digest.update(data)
        return data

    try:
        async for block in blocks:
            data = await loop.run_in_executor(READERS, read, block)
            size += len(data)
            await upload.write(data)
        await upload.finish()
        submission = await loop.run_in_executor(READERS, stream.finish)
        if submission.questions_unread:
            # The benchmark was named after the data, so what it asks of questions could not be checked on the way.
            questions = submission.second_pass()
            async for data in read_data(mongo, upload.blob, size):
                await loop.run_in_executor(READERS, questions.feed, data)
            submission = await loop.run_in_executor(READERS, questions.finish)
    except BaseException:
        await upload.discard()
        raise
    return NewResult(
        kind=kind,
        envelope=submission.envelope,
        content=upload,
        size=size,
        sha256=digest.hexdigest(),
        questions=submission.questions or 0,
        summary=submission.summary,
        warnings=tuple(submission.warnings),
    )

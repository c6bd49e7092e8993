"""Gives stored results back as files, one result after another, each file whole or not there at all.

ndjson is one file of the documents as they were pushed. The other formats are a folder with a file or two for each
result, named by its content: those that are there already are not fetched again, so an export that broke off goes on.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from scorehouse.calls import ListFilters
from scorehouse.export_every_eval_ever import aggregate_path, path_segment, string_of, write_every_eval_ever
from scorehouse.result_download import FetchedResult, ResultDownloads, read_fetched, temporary_file
from shared.compression import compress
from shared.results import ResultKind, ResultSort, ResultState, ResultSummary

_BLOCK_BYTES = 1 << 20
_LINE_BREAK = re.compile(rb"[\r\n]")


class ExportFormat(StrEnum):
    """What results are written as."""

    NDJSON = "ndjson"
    EVERY_EVAL_EVER = "every_eval_ever"
    PARQUET = "parquet"


class StateChoice(StrEnum):
    """Which results are exported by whether they count."""

    VALID = "valid"
    INVALIDATED = "invalidated"
    ALL = "all"


class NotExported(Exception):
    """A result that cannot be written in the chosen format. The message says why, and what would do."""


@dataclass(slots=True)
class ExportReport:
    """What became of the results."""

    written: int = 0
    answers: int = 0
    kept: int = 0
    """Were there already."""
    left_out: int = 0
    """Are in another state than the chosen one."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Names of results that the format cannot hold, and why."""

    @property
    def results(self) -> int:
        """How many there were."""
        return self.written + self.kept + len(self.refused)


class Writer(Protocol):
    """Writes results in one format."""

    def has(self, result: ResultSummary) -> bool:
        """Whether it is there already."""

    def add(self, result: FetchedResult) -> None:
        """Write it. NotExported if the format cannot hold it, OSError if the disk cannot."""


async def export_results(
    house: ResultDownloads,
    writer: Writer,
    report: ExportReport,
    *,
    kind: ResultKind,
    filters: ListFilters,
    state: StateChoice,
    on_done: Callable[[ResultSummary], None] = lambda _result: None,
) -> None:
    """Write every result that passes, in the order of their arrival. ScorehouseError or OSError ends it."""
    ordered: ListFilters = {**filters, "sort": ResultSort.FIRST_ARRIVED}
    with temporary_file() as file:
        async for result in house.list_results(kind, **ordered):
            if state is not StateChoice.ALL and result.state != ResultState(state):
                report.left_out += 1
                continue
            if writer.has(result):
                report.kept += 1
            else:
                await house.download(kind, result, file)
                try:
                    writer.add(read_fetched(result, file))
                except NotExported as error:
                    report.refused.append((result.result_name, str(error)))
                else:
                    report.written += 1
                    report.answers += result.questions
            on_done(result)


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A file beside `file` that may be written; it takes that name when all went well, and is gone otherwise."""
    part = file.with_name(f".{file.name}.part")
    try:
        yield part
        if part.exists():
            part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def open_ndjson(file: Path) -> Iterator["NdjsonWriter"]:
    """A writer of one document a line; the file has its name once all went well."""
    with whole_file(file) as part, closing(_Compressing(part, file.name)) as stream:
        yield NdjsonWriter(stream)


class NdjsonWriter:
    """Writes documents as they were pushed.

    Data that has line breaks stands as a string that holds it, which a push takes for the same, byte for byte.
    """

    def __init__(self, stream: "_Compressing") -> None:
        self._stream = stream

    def has(self, _result: ResultSummary) -> bool:
        """As Writer says: the file is written anew each time."""
        return False

    def add(self, result: FetchedResult) -> None:
        """As Writer says."""
        self._stream.write(result.envelope.model_dump_json(exclude_none=True).encode().removesuffix(b"}"))
        self._stream.write(b',"data":')
        for piece in string_of(result.data) if _LINE_BREAK.search(result.data) else blocks(result.data):
            self._stream.write(piece)
        self._stream.write(b"}\n")


def blocks(data: memoryview) -> Iterator[memoryview]:
    """The data in pieces."""
    for start in range(0, len(data), _BLOCK_BYTES):
        yield data[start : start + _BLOCK_BYTES]


class _Compressing:
    """A file that is compressed by the ending of its name: `.gz`, `.zst`."""

    def __init__(self, file: Path, name: str) -> None:
        self._stream: IO[bytes] = file.open("wb")
        self._is_zstd = name.endswith(".zst")
        self._gzip = zlib.compressobj(wbits=16 + zlib.MAX_WBITS) if name.endswith(".gz") else None
        self._waiting = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """Write on."""
        self._waiting += data
        if len(self._waiting) >= _BLOCK_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the end."""
        with self._stream:
            self._flush()
            if self._gzip is not None:
                self._stream.write(self._gzip.flush())

    def _flush(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        if self._gzip is not None:
            data = self._gzip.compress(data)
        elif self._is_zstd and data:
            data = compress(data)  # a frame a block, which is one zstd file all the same
        self._stream.write(data)


class EveryEvalEverWriter:
    """A folder of aggregate files with their rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, result: ResultSummary) -> bool:
        """As Writer says. The aggregate comes last: where it is, the rows are."""
        return (self._folder / aggregate_path(result)).exists()

    def add(self, result: FetchedResult) -> None:
        """As Writer says."""
        file = self._folder / aggregate_path(result.summary)
        file.parent.mkdir(parents=True, exist_ok=True)
        samples = file.with_name(f"{file.stem}_samples.jsonl")
        with whole_file(file) as part, part.open("wb") as stream, whole_file(samples) as rows:
            write_every_eval_ever(result, stream, rows)


class ParquetWriter:
    """A folder of Parquet files, one a result."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, result: ResultSummary) -> bool:
        """As Writer says."""
        return self._file(result).exists()

    def add(self, result: FetchedResult) -> None:
        """As Writer says."""
        from scorehouse.export_parquet import TooLarge, write_parquet  # noqa: PLC0415 - pyarrow comes with an extra

        file = self._file(result.summary)
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            try:
                write_parquet(result, part)
            except TooLarge as error:
                raise NotExported(str(error)) from None

    def _file(self, result: ResultSummary) -> Path:
        """A folder a benchmark; the name is as much of the result's as a file's can be, and what tells it apart."""
        digest = sha256(f"{result.result_name}\n{result.sha256}".encode()).hexdigest()[:12]
        name = f"{path_segment(f'{result.timestamp}-{result.run_id}')}-{digest}.parquet"
        return self._folder / path_segment(result.benchmark_name) / name

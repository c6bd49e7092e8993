"""Parquet files that Scorehouse writes, one a result and one row an answer, read again as the very result that it was.

What columns can tell stands in them, for whoever asks the file questions. The rest of a question is JSON in the column
`scorehouse.rest`, and what belongs to the whole result is in the file's own metadata. pyarrow comes with the extra
`parquet`; nothing is lost without it but these files.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import msgspec
from pydantic import ValidationError

from shared.formats.harness import ExportedRun, Finding, HarnessRun, NotReadable, ReadOptions
from shared.formats.json_reading import Unreadable
from shared.formats.leftovers import join_questions, read_members, restore, write_members, write_text
from shared.formats.tree import File, Tree
from shared.submission import Envelope, learn

NAME = "scorehouse_parquet"
HEADER_KEY = b"scorehouse.export"
REST = "scorehouse.rest"
METADATA = "metadata."
TEXTS = ("question_id", "status", "answer", "target", "content_hash")
COUNTS = ("attempt", "input_tokens", "output_tokens")
AMOUNTS = ("score", "latency_ms", "cost_usd")
FILLED = ("status", "attempt")
"""Columns that have a value also where the question leaves it out."""
BATCH_ROWS = 8192
_MAGIC = b"PAR1"
_FOOTER_MAX_BYTES = 256 * 1024 * 1024


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """What the file's metadata has, as JSON."""

    envelope: dict[str, Any]
    data: str
    """JSON text of all data where it has no questions; else an object of what it has besides them."""
    rows: int | None
    """None where the data has no questions."""
    whole: Sequence[str] = ()
    """Columns of doubles whose whole numbers were written without a point."""
    absent: Sequence[str] = ()
    """Columns of FILLED that no question has."""


learn(Header)


def told(row: Mapping[str, Any], header: Header) -> dict[str, bytes]:
    """What the columns of a row say of the question: the JSON text of each of its values."""
    members: dict[str, bytes] = {}
    metadata: dict[str, bytes] = {}
    for column, value in row.items():
        if value is None or column == REST:
            continue
        if column.startswith(METADATA):
            metadata[column.removeprefix(METADATA)] = _literal(value, whole=column in header.whole)
        elif column in _COLUMNS and column not in header.absent:
            members[column] = _literal(value, whole=column in header.whole)
    return members | ({"metadata": write_members(metadata)} if metadata else {})


_COLUMNS = frozenset((*TEXTS, *COUNTS, *AMOUNTS))


def _literal(value: str | bool | int | float, *, whole: bool) -> bytes:
    if isinstance(value, str):
        return write_text(value)
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float) and whole and value.is_integer() and abs(value) < 2**53:
        return b"%d" % int(value)
    return repr(value).encode()


class ScorehouseParquet:
    """Reads what `scorehouse export --format parquet` wrote."""

    name = NAME
    title = "Scorehouse's Parquet"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """Parquet files whose own metadata is ours."""
        for file in tree.values():
            if file.name.lower().endswith(".parquet") and HEADER_KEY in _footer(file):
                yield Finding(NAME, (file,))

    def read(self, finding: Finding, _options: ReadOptions) -> Sequence[HarnessRun | ExportedRun]:
        """The result that the file was written from. NotReadable without pyarrow, or if it was changed."""
        [file] = finding.files
        if find_spec("pyarrow") is None:
            raise NotReadable(f"{file.path}: Parquet is read with pyarrow: pip install 'scorehouse[parquet]'")
        import pyarrow  # noqa: PLC0415 - large, and needed for nothing else
        from pyarrow import parquet  # noqa: PLC0415

        try:
            with parquet.ParquetFile(file.location) as opened:
                header = msgspec.json.decode(opened.schema_arrow.metadata[HEADER_KEY], type=Header)
            envelope = Envelope.model_validate(header.envelope)
            besides = header.data.encode()
            members = {} if header.rows is None else read_members(besides)
        except (pyarrow.ArrowException, OSError, KeyError, msgspec.DecodeError, ValidationError) as error:
            raise NotReadable(f"{file.path}: is not as Scorehouse writes Parquet: {error}") from None
        if header.rows is None:
            return [ExportedRun(envelope, lambda: iter([besides]))]
        return [ExportedRun(envelope, _Rows(file, header, header.rows, members).data)]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a result."""

    file: File
    header: Header
    count: int
    besides: Mapping[str, bytes]

    def data(self) -> Iterator[bytes]:
        """The text of `data`; Unreadable where a row is missing, or is not as we wrote it."""
        questions = (self._question(number, row) for number, row in enumerate(self._rows()))
        yield from join_questions(questions, self.besides, written=self.count, path=self.file.path)

    def _question(self, number: int, row: Mapping[str, Any]) -> bytes:
        try:
            return write_members(restore(told(row, self.header), row.get(REST)))
        except (msgspec.DecodeError, ValueError) as error:
            place = f"{self.file.path}, row {number + 1:,}"
            raise Unreadable(place, f"is not as it was written: {error}") from None

    def _rows(self) -> Iterator[dict[str, Any]]:
        import pyarrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        try:
            with parquet.ParquetFile(self.file.location) as opened:
                for batch in opened.iter_batches(batch_size=BATCH_ROWS):
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise Unreadable(self.file.path, f"cannot be read as Parquet: {error}") from None


def _footer(file: File) -> bytes:
    """The footer of a Parquet file; nothing if it is none."""
    if file.size < 12:
        return b""
    with file.open() as stream:
        stream.seek(-8, 2)
        size, magic = struct.unpack("<I4s", stream.read(8))
        if magic != _MAGIC or size > min(file.size - 8, _FOOTER_MAX_BYTES):
            return b""
        stream.seek(-8 - size, 2)
        return stream.read(size)


SCOREHOUSE_PARQUET = ScorehouseParquet()

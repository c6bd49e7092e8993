"""What an export holds, read as an import reads it."""

from collections.abc import Iterator
from pathlib import Path

from shared.formats.every_eval_ever import EVERY_EVAL_EVER
from shared.formats.harness import ExportedRun, Format, ReadOptions
from shared.formats.scorehouse_parquet import SCOREHOUSE_PARQUET
from shared.formats.tree import read_tree

READERS: dict[str, Format] = {"every_eval_ever": EVERY_EVAL_EVER, "parquet": SCOREHOUSE_PARQUET}


def files_in(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder whose names match."""
    return [file for file in folder.rglob(pattern) if file.is_file()]


def exported(file_format: str, out: Path) -> Iterator[bytes]:
    """The documents in an export, as an import pushes them."""
    if file_format == "ndjson":
        yield from out.read_bytes().splitlines()
        return
    reader = READERS[file_format]
    for finding in reader.find(read_tree(out)):
        [run] = reader.read(finding, ReadOptions())
        assert isinstance(run, ExportedRun)
        envelope = run.envelope.model_dump_json(exclude_none=True).encode()
        yield envelope.removesuffix(b"}") + b',"data":' + b"".join(run.data()) + b"}"

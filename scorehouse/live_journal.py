"""What of a live push must not be lost, in a file on the disk: a journal for each run.

A journal is lines of JSON that are only ever added: what the run is, its questions as they end, the parts that they are
sent in, and what is to be done at the end. A line counts once it is synced; one that was cut short by a kill does not.
Whoever works on a journal holds its lock, which the kernel lets go of however a process ends: a journal without an
owner is somebody's who was killed, or who could not reach the service, and is taken over by whoever finds it.

API keys never get here.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Literal, Self, TypeAlias

import msgspec

from scorehouse.spool import Spool, lock_file, sync_folder

ENDING = ".live.ndjson"
REJECTED = "rejected"


class Opened(msgspec.Struct, tag="opened", tag_field="line", frozen=True):
    """What the run is: the envelope of its result. The last such line counts."""

    envelope: msgspec.Raw
    total: int
    """How many questions it has, each attempt counted."""


class Ended(msgspec.Struct, tag="ended", tag_field="line", frozen=True):
    """A question that was answered."""

    rank: int
    """Its place among all questions of the run, from 0: that in which the result will have it."""
    question: msgspec.Raw


class Sending(msgspec.Struct, tag="sending", tag_field="line", frozen=True):
    """A part that is about to be sent: the questions from `first` to `last` that ended before this line."""

    number: int
    first: int
    last: int


class Sent(msgspec.Struct, tag="sent", tag_field="line", frozen=True):
    """A part that the service has."""

    number: int


class Close(msgspec.Struct, tag="close", tag_field="line", frozen=True):
    """What is to be done at the end."""

    how: Literal["finish", "import"]
    files: Sequence[str] = ()
    """What is imported in place of the parts, where they are not the same, or are refused."""


class Output(msgspec.Struct, tag="output", tag_field="line", frozen=True):
    """A harness's output that is to be imported: all files in a folder but those that were there before."""

    folder: str
    without: Sequence[str] = ()
    is_ours: bool = False
    """Whether the folder was made for this, and goes when it is imported."""


class Preview(msgspec.Struct, tag="preview", tag_field="line", frozen=True):
    """A live run that shows what is being imported; it is closed when the import is through."""

    result_name: str


Line: TypeAlias = Opened | Ended | Sending | Sent | Close | Output | Preview

_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Journal:
    """One file, locked for this process."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        self.path = path

    @classmethod
    def create(cls, folder: Path, name: str) -> Self | None:
        """The journal of what is called `name`, new or as it was left; None if another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{sha256(name.encode()).hexdigest()[:32]}{ENDING}"
        journal = cls._locked(path, "a+")
        sync_folder(folder)
        return journal

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """A journal that was left; None if another process has it, or if it is gone."""
        try:
            return cls._locked(path, "r+")
        except FileNotFoundError:
            return None

    @classmethod
    def _locked(cls, path: Path, mode: str) -> Self | None:
        file = FileIO(path, mode)
        if not lock_file(file.fileno()):
            file.close()
            return None
        if os.fstat(file.fileno()).st_nlink == 0:  # done with between the opening and the lock
            file.close()
            return None if mode == "r+" else cls._locked(path, mode)
        return cls(file, path)

    def read(self) -> Iterator[Line]:
        """All whole lines. What a kill left of another is cut off: nothing may be added behind it."""
        self._file.seek(0)
        at = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            for line in lines:
                try:
                    decoded = _DECODER.decode(line) if line.endswith(b"\n") else None
                except msgspec.DecodeError:
                    decoded = None
                if decoded is None:
                    break
                at += len(line)
                yield decoded
        self._file.truncate(at)
        self._file.seek(0, os.SEEK_END)

    def add(self, lines: Iterable[Line], *, is_durable: bool = True) -> None:
        """Write lines; on return they are safe on the disk, unless that is not needed. OSError if they are not."""
        if self._file.closed:
            raise OSError(f"the journal {self.path} is closed")
        self._file.seek(0, os.SEEK_END)
        at = self._file.tell()
        held = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            written = 0
            while written < len(held):
                written += self._file.write(held[written:]) or 0
            if is_durable:
                os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):  # a disk that is full: half a line would hide all that follow it
                self._file.truncate(at)
            raise

    def close(self) -> None:
        """Let go of it; whoever comes next may go on with it."""
        self._file.close()

    def remove(self) -> None:
        """All of it is done."""
        self.path.unlink(missing_ok=True)
        self.close()

    def reject(self, reason: str) -> Path:
        """Put it aside, with the reason beside it; where it lies then."""
        folder = self.path.parent / REJECTED
        folder.mkdir(exist_ok=True)
        to = folder / self.path.name
        _reason_of(to).write_text(reason + "\n", encoding="utf-8")
        self.path.replace(to)
        self.close()
        return to


def journal_folder(spool: Spool) -> Path:
    """Where the journals of what goes to the service of this spool are."""
    return spool.folder / "live"


def journals(spool: Spool) -> list[Path]:
    """The journals that are there, whether somebody works on them or not, oldest first."""
    folder = journal_folder(spool)
    found = []
    for path in folder.glob(f"*{ENDING}") if folder.exists() else ():
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def rejected_journals(spool: Spool) -> list[Path]:
    """Those that the service refused."""
    return sorted((journal_folder(spool) / REJECTED).glob(f"*{ENDING}"))


def why_rejected(journal: Path) -> str:
    """What the service said of a journal that it refused."""
    try:
        return _reason_of(journal).read_text(encoding="utf-8").strip()
    except OSError:
        return "its reason cannot be read"


def _reason_of(journal: Path) -> Path:
    return journal.with_suffix(".reason.txt")

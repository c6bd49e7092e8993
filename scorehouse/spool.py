"""A folder where documents wait while the service is away. It knows nothing of the network; the client sends them.

Its files are the documents themselves, as they would have been sent: `<kind>-<SHA-256>.json`, and those that the
service refused lie in `rejected/`, each with its problem beside it. Nothing else is needed to go on after a kill at
any moment: a file counts once it is whole on the disk and has its name, it goes only after the service has it, and
sending one twice is answered 'unchanged'. Several processes may share a spool. API keys never get here.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from urllib.parse import quote

import httpx

from scorehouse.calls import ScorehouseError
from scorehouse.documents import KEPT_BYTES, Content, FilePart
from shared.results import BatchLine, ResultKind, StoreStatus

_NAME = re.compile(rf"({'|'.join(ResultKind)})-([0-9a-f]{{64}})\.json")
_UNFINISHED = ".unfinished-"
_ABANDONED_S = 24 * 3600
"""Age after which a half-written file has no writer any more."""


class SpoolError(ScorehouseError):
    """The spool's folder cannot be used; the message says why. What was to be added is not in it."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A document that waits in a spool, and why it was not stored."""

    file: Path
    reason: ScorehouseError


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document in a spool."""

    file: Path
    kind: ResultKind
    size_bytes: int
    since: float
    """Unix time at which it was added."""

    def content(self) -> Content:
        """What to send; SpoolError if it cannot be read."""
        if self.size_bytes > KEPT_BYTES:
            return FilePart(self.file, 0, self.size_bytes)
        with _told(self.file):
            return self.file.read_bytes()


@dataclass(slots=True)
class Flushed:
    """What became of the documents that waited."""

    stored: int = 0
    unchanged: int = 0
    rejected: list[Path] = field(default_factory=list)
    """Where the refused documents lie now; each has its problem beside it, in `<name>.problem.json`."""
    waiting: int = 0
    """Documents that wait still."""
    reason: ScorehouseError | None = None
    """Why they do, if it was tried."""
    taken: bool = False
    """Another process is sending what waits here, so nothing was done."""


class Spool:
    """The documents that wait in `folder`, which is made when it is needed. One spool belongs to one results service.

    spool = Spool(Path("spool"))
    with Scorehouse() as house:
        house.flush(spool)                       # what an earlier run left
        house.push_or_spool(document, spool)     # stored, or here on the disk
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rejected_folder = folder / "rejected"

    def add(self, kind: ResultKind, content: Content) -> Path:
        """Copy a document in; where it lies when it is safe on the disk. SpoolError if it is not.

        The same bytes are kept once, however often they are added.
        """
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with _written(self.folder) as (unfinished, write):
                digest = sha256()
                for block in [content] if isinstance(content, bytes) else content.blocks():
                    digest.update(block)
                    write(block)
            file = self.folder / f"{kind}-{digest.hexdigest()}.json"
            if file.exists():  # with its age, which says whose turn it is
                unfinished.unlink()
            else:
                unfinished.replace(file)
            sync_folder(self.folder)
            return file

    def waiting(self) -> list[Waiting]:
        """What waits, oldest first."""
        found = []
        with _told(self.folder):
            for file in self.folder.iterdir() if self.folder.exists() else ():
                if name := _NAME.fullmatch(file.name):
                    with suppress(FileNotFoundError):  # sent by another process at this moment
                        state = file.stat()
                        found.append(Waiting(file, ResultKind(name[1]), state.st_size, state.st_mtime))
        return sorted(found, key=lambda item: (item.since, item.file.name))

    def rejected(self) -> list[Path]:
        """The documents that the service refused."""
        with _told(self.folder):
            folder = self.rejected_folder
            found = folder.iterdir() if folder.exists() else ()
            return sorted(file for file in found if _NAME.fullmatch(file.name))

    @contextmanager
    def flushing(self) -> Iterator[list[Waiting] | None]:
        """What waits, for this process alone to send; None where another one is at it.

        Two at once would do no harm, but the same work twice. The kernel lets go of the lock however a process ends.
        """
        if not self.folder.exists():
            yield []
            return
        with _told(self.folder), (self.folder / ".lock").open("ab") as lock:
            if not lock_file(lock.fileno()):
                yield None
                return
            self._remove_abandoned()
            yield self.waiting()

    def settle(self, item: Waiting, line: BatchLine, flushed: Flushed) -> None:
        """Take a document out as its answer says, and count it."""
        with _told(self.folder):
            match line.status:
                case StoreStatus.CREATED | StoreStatus.UNCHANGED:
                    item.file.unlink(missing_ok=True)
                    flushed.stored += line.status is StoreStatus.CREATED
                    flushed.unchanged += line.status is StoreStatus.UNCHANGED
                case StoreStatus.CONFLICT | StoreStatus.REFUSED:
                    flushed.rejected.append(self._reject(item, line))
                case StoreStatus.FAILED:
                    flushed.reason = ScorehouseError(line.problem.detail, line.problem) if line.problem else None

    def _reject(self, item: Waiting, line: BatchLine) -> Path:
        """The problem goes first: killed in between, the document still waits and is refused once more."""
        self.rejected_folder.mkdir(exist_ok=True)
        rejected = self.rejected_folder / item.file.name
        with _written(self.rejected_folder) as (unfinished, write):
            write(line.problem.model_dump_json(indent=2, exclude_none=True).encode() if line.problem else b"{}")
        unfinished.replace(problem_of(rejected))
        item.file.replace(rejected)
        sync_folder(self.rejected_folder)
        sync_folder(self.folder)
        return rejected

    def _remove_abandoned(self) -> None:
        for file in self.folder.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _ABANDONED_S:
                    file.unlink()


def problem_of(rejected: Path) -> Path:
    """Where the problem of a rejected document stands."""
    return rejected.with_suffix(".problem.json")


def state_folder() -> Path:
    """Where the command keeps what must outlive it."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "scorehouse"


def default_spool(results_url: str) -> Spool:
    """The spool that `scorehouse push --spool` uses for the service at this address.

    It is in SCOREHOUSE_SPOOL_DIR, else where programs keep their state (XDG_STATE_HOME), in a folder a service: what
    waits for one must not go to another. A password in the address does not show in it.
    """
    url = httpx.URL(results_url)
    place = os.environ.get("SCOREHOUSE_SPOOL_DIR")
    root = Path(place) if place else state_folder() / "spool"
    return Spool(root / quote(url.netloc.decode() + url.path.rstrip("/"), safe="").replace("%3A", "_"))


def lock_file(descriptor: int) -> bool:
    """Take the lock of an open file, until that is closed; False where another has it."""
    if sys.platform == "win32":
        return True
    import fcntl  # noqa: PLC0415 - Windows has none

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolError(
            f"cannot use the spool {folder}: {error.strerror or error}; "
            "--spool-dir or SCOREHOUSE_SPOOL_DIR chooses another"
        ) from error


@contextmanager
def _written(folder: Path) -> Iterator[tuple[Path, Callable[[bytes], int]]]:
    """A new file that is whole on the disk at the end of the context; gone if that fails."""
    descriptor, name = mkstemp(prefix=_UNFINISHED, dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Path(name), file.write
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make names durable: a file that is safe under no name is lost all the same."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

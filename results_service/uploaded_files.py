"""Files that come as a request's body: parts of a form, or one file by itself; kept in a folder until they are read."""

import asyncio
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from hashlib import file_digest, sha256
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import BinaryIO

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from shared.formats.archives import ArchiveRefused, UnpackLimits, is_archive, safe_path, unpack
from shared.formats.tree import File, Tree
from shared.problems import Fault, StoreUnavailable, TooLarge, UnsafeArchive, invalid

IMPORTERS = ThreadPoolExecutor(2, thread_name_prefix="importer")
"""Few, for reading holds the interpreter."""
_BLOCK_BYTES = 1024 * 1024
_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";,]+)"?', re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImportLimits:
    """What one import may be."""

    max_bytes: int
    max_files: int


@dataclass(frozen=True, slots=True)
class UploadedFiles:
    """What came, archives unpacked."""

    tree: Tree
    digests: dict[str, str]
    """SHA-256 of each file by its path in the tree."""


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """A folder that goes with everything in it. StoreUnavailable where the disk for temporary files is full."""
    folder = Path(await asyncio.to_thread(mkdtemp, prefix="scorehouse-"))
    try:
        yield folder
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        raise StoreUnavailable("there is no room for temporary files; try again later, or send less") from error
    finally:
        await asyncio.to_thread(rmtree, folder, ignore_errors=True)


async def receive_files(
    blocks: AsyncIterator[bytes], content_type: str, filename: str | None, folder: Path, limits: ImportLimits
) -> UploadedFiles:
    """The files of a body, in `folder`. InvalidRequest, TooLarge or UnsafeArchive says what is wrong."""
    loop = asyncio.get_running_loop()
    boundary = _BOUNDARY.match(content_type)
    if content_type.lower().startswith("multipart/") and boundary is None:
        raise invalid(Fault(place="Content-Type", detail="must be multipart/form-data with a boundary"))
    with _Receiver(folder, limits, boundary[1] if boundary else None, filename) as receiver:
        held = bytearray()
        async for block in blocks:
            held += block
            if len(held) >= _BLOCK_BYTES:
                await loop.run_in_executor(IMPORTERS, receiver.feed, bytes(held))
                held.clear()
        await loop.run_in_executor(IMPORTERS, receiver.finish, bytes(held))
    return await loop.run_in_executor(IMPORTERS, _unpacked, receiver.files, receiver.digests, folder, limits)


class _Receiver:
    """Writes files while they come. Not for the event loop."""

    def __init__(self, folder: Path, limits: ImportLimits, boundary: str | None, filename: str | None) -> None:
        self.files: list[File] = []
        self.digests: dict[str, str] = {}
        self._folder = folder / "received"
        self._folder.mkdir()
        self._limits = limits
        self._parser = PushMultipartParser(boundary, max_segment_count=limits.max_files) if boundary else None
        self._open: BinaryIO | None = None
        self._path = ""
        self._digest = sha256()
        self._size = 0
        if self._parser is None:
            self._begin(filename or "upload")

    def __enter__(self) -> "_Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the body."""
        if self._parser is None:
            self._write(block)
            return
        try:
            for event in self._parser.parse(block):
                if event is None:
                    self._end()
                elif isinstance(event, MultipartSegment):
                    self._begin_part(event)
                else:
                    self._write(event)
        except ParserLimitReached as error:
            if len(self.files) < self._limits.max_files:  # it has limits for headers, too
                raise invalid(Fault(place="body", detail=f"is no form that is read: {error}")) from None
            raise _too_many(self._limits) from None
        except MultipartError as error:
            raise invalid(Fault(place="body", detail=f"is no multipart form: {error}")) from None

    def finish(self, block: bytes) -> None:
        """Take the last bytes."""
        if block:
            self.feed(block)
        if self._parser is None:
            self._end()
            if not self._size:
                raise invalid(Fault(place="body", detail="is empty; send files as a multipart form, or an archive"))
            return
        try:
            self._parser.close()
        except MultipartError:
            detail = "ends in the middle of the form; send it again, whole"
            raise invalid(Fault(place="body", detail=detail)) from None
        if not self.files:
            raise invalid(Fault(place="body", detail="has no files: its parts need a filename"))

    def _begin_part(self, part: MultipartSegment) -> None:
        if part.filename is None:
            detail = "is no file, for it has no filename; options such as dry_run go into the address"
            raise invalid(Fault(place=f"form field {part.name or ''!r}", detail=detail))
        self._begin(part.filename)

    def _begin(self, name: str) -> None:
        try:
            self._path = safe_path(name)
        except ValueError as error:
            raise invalid(Fault(place="filename", detail=f"{name[:200]!r} {error}")) from None
        if self._path in self.digests:
            raise invalid(Fault(place="filename", detail=f"{self._path!r} comes twice; put it into folders: a/x, b/x"))
        # Numbered, for names may differ in what a file system takes for the same.
        self._open = (self._folder / str(len(self.files))).open("xb")
        self._digest = sha256()
        self._size = 0

    def _write(self, block: bytes) -> None:
        if self._open is not None:
            self._open.write(block)
        self._digest.update(block)
        self._size += len(block)

    def _end(self) -> None:
        if self._open is None:
            return
        self._open.close()
        self.files.append(File(self._path, Path(self._open.name), self._size))
        self.digests[self._path] = self._digest.hexdigest()
        self._open = None


def _unpacked(files: list[File], digests: dict[str, str], folder: Path, limits: ImportLimits) -> UploadedFiles:
    """The files, and those in archives among them in the archives' place."""
    plain: list[File] = []
    left = UnpackLimits(max_bytes=limits.max_bytes, max_files=limits.max_files)
    for number, file in enumerate(files):
        if not is_archive(file.head(), file.name):
            plain.append(file)
            continue
        try:
            members = unpack(file, folder / f"unpacked-{number}", left)
        except ArchiveRefused as error:
            raise UnsafeArchive(f"{file.path}: {error}") from None
        prefix = f"{file.path}/" if len(files) > 1 else ""
        for member in members:
            inside = File(prefix + member.path, member.location, member.size)
            plain.append(inside)
            with inside.location.open("rb") as stream:
                digests[inside.path] = file_digest(stream, "sha256").hexdigest()
        size = sum(member.size for member in members)
        left = UnpackLimits(max_bytes=left.max_bytes - size, max_files=left.max_files - len(members))
    if len(plain) > limits.max_files:
        raise _too_many(limits)
    return UploadedFiles(Tree(plain), digests)


def _too_many(limits: ImportLimits) -> TooLarge:
    return TooLarge(
        f"an import may have at most {limits.max_files:,} files (setting MAX_IMPORT_FILES); send it in several"
    )

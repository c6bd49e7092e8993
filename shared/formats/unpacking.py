"""What an archive may hold, whatever kind it is, and where what it holds is written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from shared.compression import Decoder
from shared.formats.tree import File
from shared.names import check_characters

NAME_MAX_BYTES = 1000
RATIO_FREE_BYTES = 64 * 1024 * 1024
"""Bytes that any archive may unpack to before the ratio is judged: small logs may well be the same line many times."""

_BLOCK_BYTES = 16 * 1024
"""Read at a time: of many tiny frames each copies what follows it in the block."""
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may become."""

    max_bytes: int = 4 * 1024**3
    max_files: int = 10_000
    """Members of any kind, folders among them."""
    max_ratio: float = 200
    """Times its own size, beyond the first 64 MiB."""


class ArchiveRefused(Exception):
    """An archive that is not unpacked, in whole. `member` is None where it is about no single one."""

    def __init__(self, member: str | None, reason: str) -> None:
        shown = None if member is None else repr(member if len(member) <= 200 else f"{member[:200]}…")
        super().__init__(reason if shown is None else f"{shown} {reason}")
        self.member = member
        self.reason = reason


def safe_path(name: str) -> str:
    """`name` as a path in a tree: relative, `/` between folders, no `.` parts. ValueError says why it cannot be one."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("has a name that is not UTF-8") from None
    if size > NAME_MAX_BYTES:
        raise ValueError(f"has a name of {size:,} bytes; {NAME_MAX_BYTES:,} are allowed")
    if name.startswith("/") or _DRIVE.match(name):
        raise ValueError("has an absolute path; it must be a relative one")
    if "\\" in name:
        raise ValueError("has a backslash in its name; write '/' between folders")
    path = PurePosixPath(name)
    if ".." in path.parts:
        raise ValueError("leads out of its folder by '..'")
    if not path.parts:
        raise ValueError("has no name")
    try:
        return check_characters(str(path))
    except ValueError as error:
        raise ValueError(f"has a name that {error}") from None


class Unpacking:
    """What was unpacked so far, kept within the limits. Each of its methods may raise ArchiveRefused."""

    def __init__(self, folder: Path, limits: UnpackLimits, archive_bytes: int) -> None:
        self.files: list[File] = []
        self.limits = limits
        self._folder = folder
        self._archive_bytes = archive_bytes
        self._paths: set[str] = set()
        self._members = 0
        self._decoded = 0
        self._member: str | None = None

    def begin(self, name: str, *, is_folder: bool) -> str | None:
        """The path of the next member; None if it is not to be kept."""
        self._member = name
        self._members += 1
        if self._members > self.limits.max_files:
            raise ArchiveRefused(name, f"is one member too many: {self.limits.max_files:,} are allowed")
        if is_folder and name in (".", "./"):
            return None
        try:
            path = safe_path(name)
        except ValueError as error:
            raise ArchiveRefused(name, str(error)) from None
        if is_folder:
            return None
        if path in self._paths:
            raise ArchiveRefused(name, "is there twice")
        self._paths.add(path)
        return None if any(part.startswith(".") for part in path.split("/")) else path

    def count(self, size: int) -> None:
        """Take note of `size` bytes that were decoded."""
        self._decoded += size
        if self._decoded > self.limits.max_bytes:
            raise ArchiveRefused(self._member, f"is beyond the {self.limits.max_bytes:,} bytes that may be unpacked")
        if self._decoded > RATIO_FREE_BYTES and self._decoded > self.limits.max_ratio * self._archive_bytes:
            times = f"{self.limits.max_ratio:g} times the archive's size"
            raise ArchiveRefused(
                self._member, f"is beyond {times}, which is all that may be unpacked; send it as it is"
            )

    def keep(self, path: str, pieces: Iterator[bytes]) -> None:
        """Write a file."""
        location = self._folder / str(len(self.files))
        with location.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            size = file.tell()
        self.files.append(File(path, location, size))


def blocks(stream: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """What is left of a stream, or the next `size` bytes of it if it has so many."""
    left = size
    while left != 0 and (block := stream.read(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))):
        left = None if left is None else left - len(block)
        yield block


def decoded(encoded: Iterator[bytes], decoder: Decoder) -> Iterator[bytes]:
    """The content of these blocks. CompressionError where they are damaged; whether they are all is not looked at."""
    for block in encoded:
        yield from decoder.decode(block)

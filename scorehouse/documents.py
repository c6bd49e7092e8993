"""Finds the documents in files and folders and hands them on one at a time, as the very bytes that stand there.

A `.json` file holds one document or an array of them, `.ndjson` and `.jsonl` hold one a line, and `.gz` or `.zst` any
of these. Of a large document only the place is kept; it is read again when it is sent. So memory stays small, however
large a file or a document is.
"""

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shared.compression import ZstdDamaged, open_zstd

_BLOCK_BYTES = 1 << 16
KEPT_BYTES = 4 << 20
"""Documents up to here are kept in memory until they are sent; of larger ones, only where they stand."""
_LINES = (".ndjson", ".jsonl")
EXPECTED = "a .json, .ndjson or .jsonl file, or one of these with .gz or .zst"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A large document: where its bytes stand, unpacked if the file is a `.gz` or `.zst`."""

    file: Path
    start: int
    length: int | None = None
    """None: all to the end of the file."""

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, block by block; one of UNREADABLE where the file cannot be read any more."""
        left = self.length
        with self.file.open("rb") as packed, unpacked(packed, self.file) as plain:
            plain.seek(self.start)
            while left != 0 and (block := plain.read(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))):
                left = None if left is None else left - len(block)
                yield block
        if left:
            raise OSError(f"{self.file} became shorter while it was read")


Content = bytes | FilePart
"""What is sent: bytes, or where they stand."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: where it begins (`runs.ndjson:3`), and its content."""

    place: str
    body: Content
    file_bytes: int
    """How much of the file was read for it, as it lies on the disk; for progress."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or the rest of one, that could not be read."""

    place: str
    reason: str


def find_files(paths: Iterable[Path], without: Set[Path] = frozenset()) -> Iterator[Path | Unreadable]:
    """The files to push, each once: those named, and in folders, sorted, those with a known ending.

    Files `without` (resolved) are left out: others have seen to them.

    What is hidden (its name begins with a dot) is left out of folders: checkpoints and half-written files stand there.
    Links to folders are not followed; one that leads to what is not pushed otherwise is told.
    """
    seen: set[Path] = set()
    for path in paths:
        found: Iterable[Path | Unreadable] = _walk(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - never raises
        for file in found:
            if isinstance(file, Unreadable):
                yield file
            elif without and file.resolve() in without:
                continue
            elif fault := _fault(file):
                yield Unreadable(str(file), fault)
            elif (key := file.resolve()) not in seen:
                seen.add(key)
                yield file


def _fault(file: Path) -> str | None:
    """Why this cannot be pushed, as far as can be told without opening it: to open a pipe may take for ever."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return "there is no such file or folder"
    except OSError as error:  # no permission, a loop of links, a name that is too long
        return error.strerror or str(error)
    if _kind(file) is None:
        return f"its name does not end as expected: {EXPECTED}"
    return None if stat.S_ISREG(mode) else "it is not a regular file"


def _walk(folder: Path) -> Iterator[Path | Unreadable]:
    failures: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=failures.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if fault := _link_out_of(folder, Path(parent, name)):
                yield fault
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and _kind(file) is not None:
                yield file
        while failures:
            failure = failures.pop()
            yield Unreadable(str(failure.filename), failure.strerror or str(failure))
    for failure in failures:
        yield Unreadable(str(failure.filename), failure.strerror or str(failure))


def _link_out_of(folder: Path, link: Path) -> Unreadable | None:
    """What to tell of a link to a folder: links are not followed, and only what is pushed anyway may be passed by."""
    if not link.is_symlink():
        return None
    root, target = folder.resolve(), Path(os.path.realpath(link))  # which never raises
    if root.is_relative_to(target):
        return None  # a loop
    if target.is_relative_to(root) and not any(part.startswith(".") for part in target.relative_to(root).parts):
        return None
    return Unreadable(str(link), f"links to folders are not followed; push {target} by its name")


def has_known_ending(file: Path) -> bool:
    """Whether the name is one of a file of documents."""
    return _kind(file) is not None


def _kind(file: Path) -> str | None:
    name = file.name.lower().removesuffix(".gz").removesuffix(".zst")
    return next((ending for ending in (".json", *_LINES) if name.endswith(ending)), None)


def read_documents(file: Path) -> Iterator[Document | Unreadable]:
    """The documents of one file in their order; an Unreadable ends it early."""
    place = str(file)
    try:
        with file.open("rb") as packed, unpacked(packed, file) as plain:
            read_before = 0
            for place, found in (_lines if _kind(file) in _LINES else _whole_or_array)(plain, str(file)):
                read_now = packed.tell()
                body = found if isinstance(found, bytes) else FilePart(file, found.start, found.length)
                yield Document(place, body, read_now - read_before)
                read_before = read_now
    except UNREADABLE as error:
        reason = why_unreadable(error)
        yield Unreadable(str(file), f"{reason} (after {place})" if place != str(file) else reason)


UNREADABLE = (OSError, EOFError, zlib.error, ZstdDamaged)
"""What reading a file may raise: also a `.gz` or `.zst` that is cut off or damaged."""


def why_unreadable(error: BaseException) -> str:
    """One of UNREADABLE in words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def unpacked(packed: BinaryIO, file: Path) -> BinaryIO:
    """What an open file holds, by the end of its name; itself where it is not packed."""
    match file.suffix.lower():
        case ".gz":
            return cast("BinaryIO", gzip.GzipFile(fileobj=packed))  # typeshed knows it as a raw stream only
        case ".zst":
            return open_zstd(packed)
        case _:
            return packed


@dataclass(frozen=True, slots=True)
class Span:
    """Where a large document stands in its unpacked file; a length of None is all to the end."""

    start: int
    length: int | None


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes | Span]]:
    at = number = 0
    while line := stream.readline(KEPT_BYTES):
        number += 1
        start, at = at, at + len(line)
        if len(line) < KEPT_BYTES or line.endswith(b"\n"):
            if body := line.strip():
                yield f"{name}:{number}", body
            continue
        while line and not line.endswith(b"\n"):  # too long to be kept: only its end is looked for
            line = stream.readline(_BLOCK_BYTES)
            at += len(line)
        yield f"{name}:{number}", Span(start, at - start - line.endswith(b"\n"))


def _whole_or_array(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes | Span]]:
    start = b""
    while not start.strip():
        block = stream.read(_BLOCK_BYTES)
        if not block:
            return
        start += block
    if start.lstrip().startswith(b"["):
        yield from split_array(_blocks(start, stream), name)
        return
    whole = start + stream.read(KEPT_BYTES)
    if stream.read(1):
        stream.seek(0, os.SEEK_END)  # to tell that all of the file is this document; a .gz is checked to its end
        yield f"{name}:1", Span(len(whole) - len(whole.lstrip()), None)
    else:
        yield f"{name}:1", whole.strip()


def _blocks(first: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield first
    while block := stream.read(_BLOCK_BYTES):
        yield block


_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')


class _Piece:
    """What was read of an element so far: all its bytes while they are few, then only how many they are."""

    def __init__(self, start: int, line: int) -> None:
        self._start = start
        self._line = line
        self._kept = bytearray()
        self._newlines = 0
        self.length = 0
        self.is_blank = True

    def add(self, block: bytes) -> None:
        if self.length < KEPT_BYTES:
            self._kept += block
        self.length += len(block)
        self._newlines += block.count(b"\n")
        self.is_blank = self.is_blank and not block.strip()

    def body(self) -> bytes | Span:
        if self.length < KEPT_BYTES:
            return bytes(self._kept).strip()
        blank = len(self._kept) - len(self._kept.lstrip())
        return Span(self._start + blank, self.length - blank)

    def first_line(self) -> int:
        return self._line + self._kept[: len(self._kept) - len(self._kept.lstrip())].count(b"\n")

    def next(self) -> "_Piece":
        """The element after this one and a comma."""
        return _Piece(self._start + self.length + 1, self._line + self._newlines)


def split_array(blocks: Iterable[bytes], name: str) -> Iterator[tuple[str, bytes | Span]]:
    """The elements of a JSON array as their own bytes, each with the line it begins on and its number.

    Only brackets, commas and strings are looked at. What is no valid JSON comes out as pieces that the service refuses
    with their place; a missing end, and anything after the end, comes out as a piece too: nothing is dropped silently.
    """
    number = depth = 0
    piece = _Piece(0, 1)
    in_string = escaped = closed = False
    for block in blocks:
        at, escaped = int(escaped), False
        kept_to = 0
        while match := (_INSIDE if in_string else _OUTSIDE).search(block, at):
            mark, at = match[0], match.end()
            if in_string:
                in_string = mark != b'"'
                if mark == b"\\":
                    escaped = at == len(block)
                    at += 1
            elif mark == b'"':
                in_string = True
            elif mark in b"[{" and (depth or closed):
                depth += 1
            elif depth > 1 or closed:
                depth -= mark in b"]}"
            else:
                piece.add(block[kept_to : at - 1])
                if depth:
                    closed = mark != b","
                    if number or not piece.is_blank or not closed:
                        number += 1
                        yield f"{name}:{piece.first_line()} (document {number})", piece.body()
                depth = 1
                piece = piece.next()
                kept_to = at
        piece.add(block[kept_to:])
    if not piece.is_blank or not closed:
        yield f"{name}:{piece.first_line()} (after document {number})", piece.body() or b"["

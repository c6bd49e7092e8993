"""Finds the documents in files and folders and hands them on one at a time, as the very bytes that stand there.

A `.json` file holds one document or an array of them, `.ndjson` and `.jsonl` hold one a line, `.gz` any of these.
At most one document and one block of a file are in memory, however large the file is.
"""

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

_BLOCK_BYTES = 1 << 16
_LINES = (".ndjson", ".jsonl")
EXPECTED = "a .json, .ndjson or .jsonl file, or one of these with .gz"


@dataclass(frozen=True, slots=True)
class Document:
    """One document: where it begins (`runs.ndjson:3`), and its bytes."""

    place: str
    body: bytes
    file_bytes: int
    """How much of the file was read for it, as it lies on the disk; for progress."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or the rest of one, that could not be read."""

    place: str
    reason: str


def find_files(paths: Iterable[Path]) -> Iterator[Path | Unreadable]:
    """The files to push, each once: those named, and in folders, sorted, those with a known ending.

    What is hidden (its name begins with a dot) is left out of folders: checkpoints and half-written files stand there.
    """
    seen: set[Path] = set()
    for path in paths:
        found: Iterable[Path | Unreadable] = _walk(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - never raises
        for file in found:
            if isinstance(file, Unreadable):
                yield file
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
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and _kind(file) is not None:
                yield file
        while failures:
            failure = failures.pop()
            yield Unreadable(str(failure.filename), failure.strerror or str(failure))
    for failure in failures:
        yield Unreadable(str(failure.filename), failure.strerror or str(failure))


def _kind(file: Path) -> str | None:
    name = file.name.lower().removesuffix(".gz")
    return next((ending for ending in (".json", *_LINES) if name.endswith(ending)), None)


def read_documents(file: Path) -> Iterator[Document | Unreadable]:
    """The documents of one file in their order; an Unreadable ends it early."""
    place = str(file)
    try:
        with file.open("rb") as packed, _unpacked(packed, file) as plain:
            read_before = 0
            for place, body in (_lines if _kind(file) in _LINES else _whole_or_array)(plain, str(file)):
                read_now = packed.tell()
                yield Document(place, body, read_now - read_before)
                read_before = read_now
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        yield Unreadable(str(file), f"{reason} (after {place})" if place != str(file) else reason)


def _unpacked(packed: BinaryIO, file: Path) -> BinaryIO:
    if not file.name.lower().endswith(".gz"):
        return packed
    return cast("BinaryIO", gzip.GzipFile(fileobj=packed))  # typeshed knows it as a raw stream only


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(stream, 1):
        body = line.strip()
        if body:
            yield f"{name}:{number}", body


def _whole_or_array(stream: BinaryIO, name: str) -> Iterator[tuple[str, bytes]]:
    start = b""
    while not start.strip():
        block = stream.read(_BLOCK_BYTES)
        if not block:
            return
        start += block
    if start.lstrip().startswith(b"["):
        yield from split_array(_blocks(start, stream), name)
    else:
        yield f"{name}:1", (start + stream.read()).strip()


def _blocks(first: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield first
    while block := stream.read(_BLOCK_BYTES):
        yield block


_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')


def split_array(blocks: Iterable[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """The elements of a JSON array as their own bytes, each with the line it begins on and its number.

    Only brackets, commas and strings are looked at. What is no valid JSON comes out as pieces that the service refuses
    with their place; a missing end, and anything after the end, comes out as a piece too: nothing is dropped silently.
    """
    line = 1
    number = depth = 0
    piece = bytearray()
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
                piece += block[kept_to : at - 1]
                if depth:
                    closed = mark != b","
                    if number or piece.strip() or not closed:
                        number += 1
                        yield f"{name}:{_first_line(line, piece)} (document {number})", bytes(piece).strip()
                depth = 1
                line += piece.count(b"\n")
                piece.clear()
                kept_to = at
        piece += block[kept_to:]
    if piece.strip() or not closed:
        yield f"{name}:{_first_line(line, piece)} (after document {number})", bytes(piece).strip() or b"["


def _first_line(line: int, piece: bytearray) -> int:
    return line + piece[: len(piece) - len(piece.lstrip())].count(b"\n")

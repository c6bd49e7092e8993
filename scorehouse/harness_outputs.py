"""Finds what harnesses wrote among files and folders, by content, and what else lies there."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from scorehouse.documents import UNREADABLE, Unreadable, has_known_ending, unpacked
from shared.formats.archives import is_archive
from shared.formats.known import find_all
from shared.formats.tree import File, Tree

_ARCHIVE_NAME = re.compile(r"\.(?:zip|tar|tgz|tzst|tar\.gz|tar\.zst)$", re.IGNORECASE)
_LOOKED_AT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """What is sent as one import: the output of one run of a harness, or an archive as it is."""

    format: str | None
    """None of an archive: the service looks into it."""
    files: Sequence[File]
    is_named: bool = True
    """Whether the user named it; an archive that merely lies in a folder may hold anything."""

    @property
    def place(self) -> str:
        """Where its first file lies."""
        return str(self.files[0].location)

    @property
    def bytes(self) -> int:
        """What is sent."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under some paths."""

    outputs: Sequence[FoundOutput] = ()
    others: Sequence[File] = ()
    """Files that belong to none of them."""
    unreadable: Sequence[Unreadable] = ()
    """Files that could not be looked at."""


def find_outputs(paths: Iterable[Path], only: str | None = None) -> Found:
    """What of harnesses lies under `paths`; with `only`, of that format and in archives.

    Hidden names are left out of folders. Links to files are followed, to folders they are not; a file that several
    names lead to is there once. OSError if the disk fails.
    """
    roots = _outermost(paths)
    named = {os.path.realpath(root) for root in roots}
    files, unreadable = _files_under(roots)
    while True:
        try:
            return _sorted_out(Tree(files), only, named, unreadable)
        except OSError as error:
            # Readers look into every file, and one that is gone or closed to us must not keep the others from us.
            left = [file for file in files if str(file.location) != str(error.filename)]
            if len(left) == len(files):
                raise
            files = left
            if not isinstance(error, FileNotFoundError):
                unreadable.append(Unreadable(str(error.filename), error.strerror or str(error)))


def sizes_and_times(folder: Path) -> dict[str, tuple[int, int]]:
    """The size and the time of the last change (ns) of each file that `find_outputs` would look at, by its place."""
    found = {}
    for location in _walk(folder):
        with suppress(OSError):
            state = location.stat()
            if stat.S_ISREG(state.st_mode):
                found[str(location)] = (state.st_size, state.st_mtime_ns)
    return found


def is_document(file: File) -> bool:
    """Whether a file looks like documents in Scorehouse's own form: the envelope stands before the data or after it.

    True also of one that cannot be read, for whoever reads documents will say so.
    """
    if not has_known_ending(file.location):
        return False
    try:
        with file.open() as packed, unpacked(packed, file.location) as stream:
            seen = _ends(stream, file.size) if stream is packed else _ends_unpacked(stream)
    except UNREADABLE:
        return True
    return b'"benchmark_name"' in seen and b'"run_id"' in seen


def _ends(stream: BinaryIO, size: int) -> bytes:
    beginning = stream.read(_LOOKED_AT_BYTES)
    stream.seek(max(0, size - _LOOKED_AT_BYTES))
    return beginning + stream.read()


def _ends_unpacked(stream: BinaryIO) -> bytes:
    beginning = before = end = stream.read(_LOOKED_AT_BYTES)
    while block := stream.read(_LOOKED_AT_BYTES):
        before, end = end, block
    return beginning + before + end


def _sorted_out(tree: Tree, only: str | None, named: set[str], unreadable: Sequence[Unreadable]) -> Found:
    findings = find_all(tree, only)
    outputs = [FoundOutput(finding.format, finding.files) for finding in findings]
    taken = {file.path for output in outputs for file in output.files}
    others = []
    for path, file in tree.items():
        if path in taken:
            continue
        is_named = os.path.realpath(file.location) in named
        # Checkpoints and packages are archives too; in a folder, only what is called one is sent.
        if (is_named or _ARCHIVE_NAME.search(file.name)) and is_archive(file.head(), file.name):
            outputs.append(FoundOutput(None, [file], is_named))
        else:
            others.append(file)
    return Found(outputs, others, unreadable)


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """The paths, each once, without those that lie in others."""
    real = {Path(os.path.realpath(path)): path for path in reversed(list(paths))}
    return [path for place, path in reversed(real.items()) if not any(parent in real for parent in place.parents)]


def _files_under(roots: Sequence[Path]) -> tuple[list[File], list[Unreadable]]:
    """The files, under paths that begin with the names of their folders: these may say when a run began."""
    prefixes = _Prefixes()
    real: dict[str, File] = {}
    links: dict[str, File] = {}
    unreadable = []
    for root in roots:
        is_folder = root.is_dir()
        folder = root if is_folder else root.parent
        prefix = prefixes.of(folder)
        for location in _walk(root) if is_folder else [root]:
            place = os.path.realpath(location)
            try:
                state = location.stat()
            except OSError as error:
                if location.is_symlink():
                    unreadable.append(Unreadable(str(location), error.strerror or str(error)))
                continue
            if not stat.S_ISREG(state.st_mode):
                continue
            if not os.access(location, os.R_OK):
                unreadable.append(Unreadable(str(location), "no permission to read it"))
                continue
            path = f"{prefix}/{location.relative_to(folder).as_posix()}"
            into = links if location.is_symlink() else real
            into.setdefault(place, File(path, location, state.st_size))
    return list((links | real).values()), unreadable


def _walk(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(parent, name)


class _Prefixes:
    """What the paths in folders begin with: the folder's name, after a number where another has the same."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def of(self, folder: Path) -> str:
        place = os.path.realpath(folder)
        if place not in self._of:
            name = os.path.basename(place) or "root"  # noqa: PTH119 - `place` is text
            first_parts = {prefix.split("/")[0] for prefix in self._of.values()}
            number = 2
            while str(number) in first_parts:
                number += 1
            self._of[place] = name if name not in first_parts else f"{number}/{name}"
        return self._of[place]

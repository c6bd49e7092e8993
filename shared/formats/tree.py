"""The files that an import looks at: those of a folder, by their paths in it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class File:
    """One file."""

    path: str
    """Where it lies in the tree, with `/` between folders whatever the system; what messages call it."""
    location: Path
    """Where it can be opened."""
    size: int
    """Bytes."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def folder(self) -> str:
        """The path of the folder that it lies in; "" for the tree's own."""
        parent = str(PurePosixPath(self.path).parent)
        return "" if parent == "." else parent

    def open(self) -> BinaryIO:
        """Its bytes, from the first on; seekable. OSError if it is gone."""
        return self.location.open("rb")

    def head(self, size: int = 4096) -> bytes:
        """Its first bytes, to tell by them what it is."""
        with self.open() as stream:
            return stream.read(size)


class Tree(Mapping[str, File]):
    """Files by path, in the order of their paths."""

    def __init__(self, files: Iterable[File]) -> None:
        self._files = {file.path: file for file in sorted(files, key=lambda file: file.path)}

    def __getitem__(self, path: str) -> File:
        return self._files[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def within(self, folder: str) -> list[File]:
        """The files in a folder and in those below it."""
        return [file for path, file in self._files.items() if not folder or path.startswith(f"{folder}/")]

    def beside(self, file: File) -> list[File]:
        """The files in the folder that a file lies in, itself among them, without those in folders below."""
        return [other for other in self.within(file.folder) if other.folder == file.folder]


def read_tree(*roots: Path) -> Tree:
    """The files under folders, and files named by themselves; links are not followed, hidden names are left out.

    Where there are several, paths begin with the folder's own name.
    """
    files: list[File] = []
    for root in roots:
        prefix = f"{root.resolve().name}/" if len(roots) > 1 else ""
        if root.is_file():
            files.append(File(root.name, root, root.stat().st_size))
            continue
        for location in root.rglob("*"):
            inside = location.relative_to(root)
            if any(part.startswith(".") for part in inside.parts) or location.is_symlink() or not location.is_file():
                continue
            files.append(File(prefix + inside.as_posix(), location, location.stat().st_size))
    return Tree(files)

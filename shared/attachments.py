"""Wire models of the files that are kept with raw inputs, and what type of content a file's name stands for."""

import mimetypes
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

_TYPES = mimetypes.MimeTypes()
"""Python's own, not the machine's, so that every instance says the same."""
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
UNKNOWN_TYPE = "application/octet-stream"


class FileSummary(BaseModel):
    """What is told of a file that is kept with a raw input."""

    model_config = ConfigDict(frozen=True)

    path: str
    """With `/` between folders; unique among the raw input's files."""
    bytes: int
    sha256: str
    media_type: str
    """By the end of its name."""


class FileList(BaseModel):
    """The files of a raw input, by their paths."""

    model_config = ConfigDict(frozen=True)

    items: list[FileSummary]


def media_type_of(path: str) -> str:
    """The media type that the end of a name stands for: `application/octet-stream` where it says nothing."""
    # Only the end: the library takes a name for a URL, and a few begin like one.
    found, compressed = _TYPES.guess_type(f"file{PurePosixPath(path).suffix.lower()}")
    return (_COMPRESSED.get(compressed) if compressed else found) or UNKNOWN_TYPE

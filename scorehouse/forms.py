"""Files as a multipart form (RFC 7578), sent from where they lie: none is ever in memory as a whole."""

import re
import stat
from collections.abc import Callable, Iterator, Sequence
from secrets import token_hex

from shared.compression import compress_stream
from shared.formats.tree import File

_BLOCK_BYTES = 1 << 18
_COMPRESSED_FROM_BYTES = 1 << 16
"""Less than this is sent before a compressor is set up."""
_PACKED = (b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"BZh", b"\xfd7zXZ")
"""How files begin that hold compressed data: zip, gzip, zstd, Parquet, bzip2, xz."""
_WRITTEN_AS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32)},
    ord("\\"): 0x2216,
    127: 0x2421,
    ord('"'): "%22",
}
"""Control characters and backslashes, which no name may have, as what pictures them; quotes as browsers write them."""

_DRIVE = re.compile("[A-Za-z]:")

OnRead = Callable[[int], None]
"""Told how many bytes of the files were read so far; from 0 on again when they are sent again."""


class FileForm:
    """A request body of files with their paths. It can be sent as often as need be."""

    def __init__(self, files: Sequence[File], *, plain: bool = False, on_read: OnRead = lambda _: None) -> None:
        boundary = token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.is_compressed = not plain and _is_worth_compressing(files)
        """Whether `blocks` are zstd."""
        self._files = files
        self._parts = [(_head(boundary, file), file) for file in files]
        self._end = f"--{boundary}--\r\n".encode()
        self._sizes: list[int] | None = None
        self._on_read = on_read

    def uncompressed(self) -> "FileForm":
        """The same, for a service that does not take it compressed."""
        return FileForm(self._files, plain=True, on_read=self._on_read)

    @property
    def length(self) -> int | None:
        """Bytes of the body, measured now and kept to by the `blocks` that are read next; None if they are compressed.

        OSError if a file is gone.
        """
        if self.is_compressed:
            return None
        self._sizes = self._measured()
        return sum(len(head) + size + 2 for (head, _), size in zip(self._parts, self._sizes, strict=True)) + len(
            self._end
        )

    def blocks(self) -> Iterator[bytes]:
        """The body, block by block; OSError where a file cannot be read, or is not as long any more as it was."""
        return compress_stream(self._plain_blocks()) if self.is_compressed else self._plain_blocks()

    def _plain_blocks(self) -> Iterator[bytes]:
        # Harnesses write on while files are sent: of each is sent what it was at the beginning.
        sizes = self._measured() if self._sizes is None else self._sizes
        read = 0
        self._on_read(read)
        for (head, file), size in zip(self._parts, sizes, strict=True):
            yield head
            left = size
            with file.open() as stream:
                while left and (block := stream.read(min(left, _BLOCK_BYTES))):
                    left -= len(block)
                    read += len(block)
                    yield block
                    self._on_read(read)
            if left:
                raise OSError(f"{file.location} became shorter while it was read")
            yield b"\r\n"
        yield self._end

    def _measured(self) -> list[int]:
        states = [file.location.stat() for _, file in self._parts]
        for state, (_, file) in zip(states, self._parts, strict=True):
            if not stat.S_ISREG(state.st_mode):
                raise OSError(f"{file.location} is not a regular file any more")
        return [state.st_size for state in states]


def _is_worth_compressing(files: Sequence[File]) -> bool:
    """Whether most of it is text, and enough to matter."""
    if sum(file.size for file in files) < _COMPRESSED_FROM_BYTES:
        return False
    packed = 0
    for file in files:
        try:
            packed += file.size if file.head(8).startswith(_PACKED) else 0
        except OSError:
            continue  # whoever sends it will hear of it
    return 2 * packed < sum(file.size for file in files)


def _head(boundary: str, file: File) -> bytes:
    # Bytes of names that are no UTF-8 come from the system as halves of surrogate pairs.
    letters = (f"%{ord(letter) & 0xFF:02X}" if _is_odd(letter) else letter for letter in file.path)
    name = "".join(letters).translate(_WRITTEN_AS)
    if _DRIVE.match(name):  # no path of another system
        name = f"./{name}"
    disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()


def _is_odd(letter: str) -> bool:
    return "\x80" <= letter <= "\x9f" or "\udc80" <= letter <= "\udcff"

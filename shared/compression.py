"""zstd and gzip, for what is stored and what is sent: whole values, and streams decoded in bounded memory.

The one place that names a zstd library: the standard library's from Python 3.14 on, before that its backport.
"""

import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 64 * 1024
"""Most that a decoder yields at a time. A larger buffer takes longer to make than a small body to decode."""
WINDOW_LOG_MAX = 23
"""8 MiB: the largest window that RFC 9659 lets zstd ask of whoever reads it from HTTP."""

_REUSED_BYTES = 128 * 1024
"""Above, setting a compressor up costs nothing beside using it, and each thread would keep megabytes of tables."""


class CompressionError(ValueError):
    """What should be compressed data is not, is damaged, or holds more than it may."""


def open_zstd(packed: BinaryIO) -> BinaryIO:
    """What a file of zstd frames holds, as a file to be read; ZstdDamaged or EOFError where it breaks off."""
    return cast("BinaryIO", zstd.ZstdFile(packed))


ZstdDamaged = zstd.ZstdError


class _Compressors(threading.local):
    """A compressor a thread: setting one up takes longer than compressing a small result (6.5 against 3.7 µs)."""

    def __init__(self) -> None:
        self.of_level: dict[int, zstd.ZstdCompressor] = {}

    def get(self, level: int) -> zstd.ZstdCompressor:
        compressor = self.of_level.get(level)
        if compressor is None:
            compressor = self.of_level[level] = zstd.ZstdCompressor(level=level)
        return compressor


_compressors = _Compressors()


def compress(data: bytes, level: int = 3) -> bytes:
    """`data` as one zstd frame, which tells its size."""
    compressor = _compressors.get(level) if len(data) <= _REUSED_BYTES else zstd.ZstdCompressor(level=level)
    return compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def compress_stream(blocks: Iterable[bytes], level: int = 1) -> Iterator[bytes]:
    """The blocks together as one zstd frame, in pieces as they come."""
    compressor = zstd.ZstdCompressor(level=level)
    for block in blocks:
        if piece := compressor.compress(block):
            yield piece
    yield compressor.flush()


def decompress(data: bytes, max_bytes: int) -> bytes:
    """What the one zstd frame `data` holds.

    CompressionError if it is not such a frame, if it is cut off, or if it holds more than `max_bytes`; no more memory
    than that is ever taken for it.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        content = decompressor.decompress(data, max_bytes + 1)  # one over, so that the end is seen and passing it too
    except zstd.ZstdError as error:
        raise CompressionError(f"not zstd, or damaged: {error}") from None
    if len(content) > max_bytes:
        raise CompressionError(f"holds more than {max_bytes:,} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise CompressionError("cut off" if not decompressor.eof else "something follows the zstd frame")
    return content


class Decoder(Protocol):
    """Decodes a stream block by block."""

    def decode(self, block: bytes) -> Iterator[bytes]:
        """The content of the next block, in pieces of at most PIECE_BYTES, each made when it is asked for.

        Take all of them before the next block. CompressionError where the stream is damaged.
        """

    def is_complete(self) -> bool:
        """Whether the stream may end here: after a whole frame, and not before the first."""


class ZstdDecoder:
    """zstd frames in a row, with windows of at most 8 MiB."""

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None
        self._frames = 0

    def decode(self, block: bytes) -> Iterator[bytes]:
        """As Decoder says."""
        while block:
            if self._frame is None:
                self._frame = zstd.ZstdDecompressor(
                    options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
                )
            frame = self._frame
            while True:
                try:
                    piece = frame.decompress(block, PIECE_BYTES)
                except zstd.ZstdError:
                    raise CompressionError("not zstd, damaged, or with a window over 8 MiB") from None
                block = b""
                if piece:
                    yield piece
                if frame.eof or frame.needs_input:
                    break
            if frame.eof:
                block, self._frame = frame.unused_data, None
                self._frames += 1

    def is_complete(self) -> bool:
        """As Decoder says."""
        return self._frame is None and self._frames > 0


class GzipDecoder:
    """gzip members in a row; zeros between and after them are padding, as gzip itself has it."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._members = 0

    def decode(self, block: bytes) -> Iterator[bytes]:
        """As Decoder says."""
        while block:
            if self._member is None:
                block = block.lstrip(b"\0") if self._members else block
                if not block:
                    return
                self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            member = self._member
            while True:
                try:
                    piece = member.decompress(block, PIECE_BYTES)
                except zlib.error:
                    raise CompressionError("not gzip, or damaged") from None
                block = member.unconsumed_tail
                if piece:
                    yield piece
                # zlib holds back what had no room, also where it has taken all of the input.
                if member.eof or (not block and len(piece) < PIECE_BYTES):
                    break
            if member.eof:
                block, self._member = member.unused_data, None
                self._members += 1

    def is_complete(self) -> bool:
        """As Decoder says."""
        return self._member is None and self._members > 0

"""zstd frames put together without compressing anything again. Pure. The format is RFC 8878, section 3.

Frames in a row are legal zstd too, but not every reader expects them: python-zstandard stops after the first one and
says nothing, httpx and urllib3 fail if a piece from the network ends just where a frame does. So the head and the tail
of a document go into the frame of its data, as blocks that are not compressed: those change nothing of what the blocks
after them refer to.
"""

from dataclasses import dataclass

_MAGIC = bytes.fromhex("28b52ffd")
_RLE = 1
_BLOCK_MAX = 128 * 1024
_ONE_SEGMENT_8_BYTE_SIZE = b"\xe0"


@dataclass(frozen=True, slots=True)
class _Header:
    length: int
    content_bytes: int
    has_checksum: bool


def splice(prefix: bytes, frame: bytes, suffix: bytes) -> bytes:
    """One frame of `prefix`, the content of `frame` and `suffix`.

    ValueError if `frame` is not one whole frame that tells the size of its content and needs no dictionary.
    """
    header = _read_header(frame)
    size = len(prefix) + header.content_bytes + len(suffix)
    last, end = _find_last_block(frame, header.length)
    if end + (4 if header.has_checksum else 0) != len(frame):
        raise ValueError("something follows the zstd frame, or it is cut off")
    blocks = bytearray(memoryview(frame)[header.length : end])
    if suffix:
        blocks[last - header.length] &= 0xFE  # not the last block any more
    before, after = _raw_blocks(prefix), _raw_blocks(suffix, ends=True)
    return b"".join((_MAGIC, _ONE_SEGMENT_8_BYTE_SIZE, size.to_bytes(8, "little"), before, blocks, after))


def _read_header(frame: bytes) -> _Header:
    if frame[:4] != _MAGIC or len(frame) < 6:
        raise ValueError("not a zstd frame")
    descriptor = frame[4]
    size_flag, one_segment, dictionary_flag = descriptor >> 6, descriptor >> 5 & 1, descriptor & 3
    if dictionary_flag or not (size_flag or one_segment):
        raise ValueError("a zstd frame that needs a dictionary, or does not tell its size")
    start = 5 if one_segment else 6  # a window descriptor between
    length = start + (1 << size_flag)
    content = int.from_bytes(frame[start:length], "little") + (256 if size_flag == 1 else 0)
    return _Header(length, content, bool(descriptor >> 2 & 1))


def _find_last_block(frame: bytes, start: int) -> tuple[int, int]:
    """Where the last block begins and ends."""
    position = start
    while position + 3 <= len(frame):
        block = int.from_bytes(frame[position : position + 3], "little")
        end = position + 3 + (1 if block >> 1 & 3 == _RLE else block >> 3)
        if block & 1:
            return position, end
        position = end
    raise ValueError("the zstd frame is cut off")


def _raw_blocks(content: bytes, *, ends: bool = False) -> bytes:
    pieces = [content[start : start + _BLOCK_MAX] for start in range(0, len(content), _BLOCK_MAX)]
    return b"".join(
        (len(piece) << 3 | (ends and number == len(pieces))).to_bytes(3, "little") + piece
        for number, piece in enumerate(pieces, start=1)
    )

"""The members of a tar, read as a stream. `tarfile` reads their headers; it is not left to follow them, for it takes
extended headers of any size into memory.
"""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from shared.compression import Decoder
from shared.formats.unpacking import ArchiveRefused, Unpacking, blocks, decoded

HEADER_BYTES = 512
_EXTENDED_MAX = 64 * 1024
"""Bytes of what one extended header may say."""
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_REFUSED = {
    tarfile.SYMTYPE: "is a link",
    tarfile.LNKTYPE: "is a link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a pipe",
    tarfile.GNUTYPE_SPARSE: "is packed as a sparse file",
}


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar."""
    try:
        tarfile.TarInfo.frombuf(head[:HEADER_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class TarStream:
    """The bytes of a tar in their order, decoded and counted. ArchiveRefused, or CompressionError, ends it."""

    def __init__(self, stream: BinaryIO, decoder: Decoder | None, unpacking: Unpacking) -> None:
        self._pieces = blocks(stream) if decoder is None else decoded(blocks(stream), decoder)
        self._decoder = decoder
        self._unpacking = unpacking
        self._held = b""

    def has_more(self) -> bool:
        """Whether there is another byte."""
        if not self._held:
            self._held = next(self._pieces, b"")
            self._unpacking.count(len(self._held))
        return bool(self._held)

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        while size:
            if not self.has_more():
                raise ArchiveRefused(None, "ends in the middle; send it again, whole")
            piece, self._held = self._held[:size], self._held[size:]
            size -= len(piece)
            yield piece

    def read(self, size: int) -> bytes:
        """The same in one."""
        return b"".join(self.pieces(size))

    def finish(self) -> None:
        """Read what follows the members: it ends with a checksum."""
        while self.has_more():
            self._held = b""
        if self._decoder is not None and not self._decoder.is_complete():
            raise ArchiveRefused(None, "ends in the middle; send it again, whole")


def unpack_tar(stream: TarStream, unpacking: Unpacking) -> None:
    """Unpack all members. ArchiveRefused at the first that may not be; CompressionError where it is damaged."""
    long_name: str | None = None
    records: dict[str, str] = {}
    while stream.has_more():
        block = stream.read(HEADER_BYTES)
        if not block.strip(b"\0"):
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ArchiveRefused(None, f"is damaged, or no tar: {error}") from None
        if info.type in _EXTENDED:
            said = _read_extended(stream, info)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = said.rstrip(b"\0").decode(errors="surrogateescape")
            elif info.type in _PAX:
                records = _pax_records(said, info.name)
            continue
        name = records.get("path") or long_name or info.name
        path = unpacking.begin(name, is_folder=info.isdir())
        size = _size(info, records, name)
        content = stream.pieces(size)
        if path is not None:
            unpacking.keep(path, content)
        for _ in content:  # of what is not kept
            pass
        stream.read(-size % HEADER_BYTES)
        long_name, records = None, {}
    stream.finish()


def _read_extended(stream: TarStream, info: tarfile.TarInfo) -> bytes:
    if not 0 <= info.size <= _EXTENDED_MAX:
        raise ArchiveRefused(info.name, f"has a header of {info.size:,} bytes; {_EXTENDED_MAX:,} are allowed")
    said = stream.read(info.size)
    stream.read(-info.size % HEADER_BYTES)
    return said


def _size(info: tarfile.TarInfo, records: dict[str, str], name: str) -> int:
    """The bytes of a member's content; ArchiveRefused if it is not one that may be unpacked."""
    if info.isdir():
        return 0
    if info.type not in _FILES or any(key.startswith("GNU.sparse.") for key in records):
        told = _REFUSED.get(info.type, "is packed as a sparse file" if info.type in _FILES else "is of an unknown kind")
        raise ArchiveRefused(name, f"{told}; only plain files and folders are allowed")
    stated = records.get("size", str(info.size))
    if not (stated.isascii() and stated.isdecimal() and len(stated) < 20):
        raise ArchiveRefused(name, f"has a size that is none: {stated[:20]!r}")
    return int(stated)


def _pax_records(said: bytes, name: str) -> dict[str, str]:
    """What an extended header says: records of their length, a space, a key, `=`, a value, a line's end."""
    records: dict[str, str] = {}
    position = 0
    while position < len(said) and said[position]:
        digits, space, _ = said[position : position + 8].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = said[position + len(digits) + 1 : position + length]
        if not record.endswith(b"\n") or position + length > len(said):
            raise ArchiveRefused(name, "has a header that is damaged")
        key, _, value = record[:-1].partition(b"=")
        records[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
        position += length
    return records

"""The members of a zip. `zipfile` reads the directory; it does not decode, for it decodes zstd without a bound."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

from shared.compression import CompressionError, GzipDecoder, ZstdDecoder
from shared.formats.unpacking import NAME_MAX_BYTES, ArchiveRefused, Unpacking, UnpackLimits, blocks, decoded

_MEMBER, _DIRECTORY_ENTRY, _DIRECTORY_END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_HEADER = struct.Struct("<4s22xHH")
_ENTRY_MAX = 46 + NAME_MAX_BYTES + 256
_END_MAX = 128 * 1024
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_ZSTD = 93
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member, as the directory has it."""

    info: zipfile.ZipInfo
    name: str
    raw_name: bytes
    end: int
    """Where the next member begins."""


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so is a zip."""
    return head.startswith((_MEMBER, _DIRECTORY_END))


def begins_log(head: bytes) -> bool:
    """Whether a zip that begins so is an Inspect log: what it starts with is written first."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return name == b"header.json" or name.startswith(b"_journal/")


def is_log(members: Sequence[ZipMember]) -> bool:
    """Whether these are the members of an Inspect log, finished or still being written."""
    names = {member.name for member in members}
    return "_journal/start.json" in names or (
        "header.json" in names and any(name.startswith("samples/") for name in names)
    )


class _Directory(BufferedReader):
    """A zip for `zipfile`, which takes its directory at once: refused if that is larger than the members need."""

    def __init__(self, location: Path, max_files: int) -> None:
        super().__init__(FileIO(location))
        self._max_files = max_files

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _END_MAX + self._max_files * _ENTRY_MAX:
            raise ArchiveRefused(None, f"has a directory of {size:,} bytes; {self._max_files:,} members are allowed")
        data = super().read(size)
        if (members := data.count(_DIRECTORY_ENTRY)) > self._max_files:
            raise ArchiveRefused(None, f"has {members:,} members; {self._max_files:,} are allowed")
        return data


def read_directory(location: Path, limits: UnpackLimits) -> list[ZipMember]:
    """The members in the order in which they lie. ArchiveRefused if they are too many, or cannot be read."""
    with _Directory(location, limits.max_files) as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except UnicodeDecodeError:
            raise ArchiveRefused(None, "has a member whose name is not UTF-8, though it says so") from None
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error, OverflowError) as error:
            raise ArchiveRefused(None, f"is cut off, damaged or no zip: {error}") from None
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in infos[1:]), archive.start_dir]
    members = []
    for info, end in zip(infos, ends, strict=False):
        raw_name = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
        name = raw_name.decode(errors="surrogateescape")  # many write UTF-8 without saying so
        members.append(ZipMember(info, name, raw_name, end))
    return members


def unpack_zip(stream: BinaryIO, members: Sequence[ZipMember], unpacking: Unpacking) -> None:
    """Unpack all of them. ArchiveRefused at the first that may not be."""
    for member in members:
        info = member.info
        is_folder = member.name.endswith("/")
        path = unpacking.begin(member.name, is_folder=is_folder)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveRefused(member.name, "is a link or a device; only files and folders are allowed")
        if info.flag_bits & _ENCRYPTED:
            raise ArchiveRefused(member.name, "is encrypted; pack it without a password")
        if path is not None:
            _seek_content(stream, member)
            unpacking.keep(path, _checked_content(stream, member, unpacking))


def _seek_content(stream: BinaryIO, member: ZipMember) -> None:
    stream.seek(max(member.info.header_offset, 0))
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MEMBER):
        raise ArchiveRefused(member.name, "is not where the archive's directory says")
    _, name_bytes, extra_bytes = _HEADER.unpack(header)
    if stream.read(name_bytes) != member.raw_name:
        raise ArchiveRefused(member.name, "has another name at its place than in the archive's directory")
    stream.seek(extra_bytes, 1)
    # Members that share bytes make bombs of quadratic size.
    if stream.tell() + member.info.compress_size > member.end:
        raise ArchiveRefused(member.name, "overlaps the next member")


def _checked_content(stream: BinaryIO, member: ZipMember, unpacking: Unpacking) -> Iterator[bytes]:
    checksum = size = 0
    for piece in _content(blocks(stream, member.info.compress_size), member):
        unpacking.count(len(piece))
        checksum = zlib.crc32(piece, checksum)
        size += len(piece)
        yield piece
    if (checksum, size) != (member.info.CRC, member.info.file_size):
        raise ArchiveRefused(member.name, "is damaged: its size or checksum is not what the archive says")


def _content(encoded: Iterator[bytes], member: ZipMember) -> Iterator[bytes]:
    info = member.info
    try:
        match info.compress_type:
            case zipfile.ZIP_STORED:
                yield from encoded
            case zipfile.ZIP_DEFLATED:  # which is gzip without its head and tail
                decoder = GzipDecoder()
                yield from decoder.decode(_GZIP_HEAD)
                yield from decoded(encoded, decoder)
                yield from decoder.decode(struct.pack("<LL", info.CRC, info.file_size & 0xFFFFFFFF))
            case method if method == _ZSTD:
                yield from decoded(encoded, ZstdDecoder())
            case method:
                reason = f"is compressed by method {method}; deflate, zstd and stored are read"
                raise ArchiveRefused(member.name, reason)
    except CompressionError as error:
        told = str(error) if info.compress_type == _ZSTD else "damaged: its content is not what the archive says"
        raise ArchiveRefused(member.name, f"is {told}") from None

"""Unpacks archives that strangers send (zip, tar, tar.gz, tar.zst) in flat memory; of one that is refused, nothing.

Members are written under numbers, so no name of theirs ever meets a file system; their names are only what the tree
says. Sizes are counted while decoding, whatever headers claim.
"""

import re
import shutil
from io import BufferedReader, FileIO
from pathlib import Path

from shared.compression import CompressionError, Decoder, GzipDecoder, ZstdDecoder
from shared.formats.tar_members import HEADER_BYTES, TarStream, is_tar, unpack_tar
from shared.formats.tree import File
from shared.formats.unpacking import ArchiveRefused, Unpacking, UnpackLimits, safe_path
from shared.formats.zip_members import begins_log, is_log, is_zip, read_directory, unpack_zip

__all__ = ["ArchiveRefused", "UnpackLimits", "is_archive", "safe_path", "unpack"]

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_TAR_NAME = re.compile(r"\.(?:tar\.gz|tgz|tar\.zst|tzst)$", re.IGNORECASE)


def is_archive(head: bytes, name: str) -> bool:
    """Whether a file is an archive to unpack, by its first bytes (4 KiB of them).

    Inspect's logs are zips, but files. The name decides where the bytes do not: a tar.zst may show nothing of itself
    before 128 KiB.
    """
    if is_zip(head):
        return not (name.lower().endswith(".eval") or begins_log(head))
    decoder = _decoder(head)
    if decoder is None:
        return is_tar(head)
    try:
        first = b"".join(decoder.decode(head))
    except CompressionError:
        return False
    return is_tar(first) if len(first) >= HEADER_BYTES else bool(_TAR_NAME.search(name))


def unpack(archive: File | Path, folder: Path, limits: UnpackLimits) -> list[File]:
    """The files in an archive, in the order in which they lie there; their content is in `folder`, which is made.

    Hidden names are left out, as `read_tree` does, and so are times, owners and executable bits. Nested archives stay
    files; a zip that turns out to be an Inspect log is returned itself. ArchiveRefused, and no `folder`, if a member is
    not a plain file or folder with a plain name, is encrypted or damaged, or passes a limit.
    """
    file = archive if isinstance(archive, File) else File(archive.name, archive, archive.stat().st_size)
    folder.mkdir()
    unpacking = Unpacking(folder, limits, file.size)
    try:
        with BufferedReader(FileIO(file.location)) as stream:
            head = stream.peek(4)
            if not is_zip(head):
                unpack_tar(TarStream(stream, _decoder(head), unpacking), unpacking)
                return unpacking.files
            members = read_directory(file.location, limits)
            if is_log(members):
                return [File(file.name, file.location, file.size)]
            unpack_zip(stream, members, unpacking)
            return unpacking.files
    except BaseException as error:
        shutil.rmtree(folder)
        if isinstance(error, CompressionError):
            raise ArchiveRefused(None, f"is {error}") from None
        raise


def _decoder(head: bytes) -> Decoder | None:
    if head.startswith(_GZIP):
        return GzipDecoder()
    return ZstdDecoder() if head.startswith(_ZSTD) else None

"""Archives: what is unpacked, and everything that is refused with its reason and leaves nothing behind."""

import gzip
import io
import random
import stat
import struct
import subprocess
import sys
import tarfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.compression import compress
from shared.formats import unpacking
from shared.formats.archives import ArchiveRefused, UnpackLimits, is_archive, safe_path, unpack
from shared.formats.tree import File

FILES = {
    "results.json": b'{"accuracy": 0.5}',
    "samples/0001.jsonl": b'{"id": 1}\n' * 20_000,
    "deep/" * 60 + "name": b"longer than a header has room for",
    "samples/noise": random.Random(7).randbytes(300_000),
    "결과/empty": b"",
}
LIMITS = UnpackLimits(max_bytes=2_000_000, max_files=20)
_ZIP_ZSTD = 93


def zip_entry(name: bytes, content: bytes, **header: Any) -> tuple[bytes, Callable[[int], bytes]]:
    """A member as a zip has it, and its entry in the directory by where it lies; `header` changes what they say."""
    said: dict[str, Any] = {
        "method": 0,
        "flags": 0x800,
        "crc": zlib.crc32(content),
        "packed": len(content),
        "size": len(content),
        "mode": stat.S_IFREG | 0o644,
        "data": content,
        "local_name": name,
        "extra": b"",
    } | header
    fields = (said["flags"], said["method"], 0, 0x21, said["crc"], said["packed"], said["size"])
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 63, *fields, len(said["local_name"]), len(said["extra"]))
    central = struct.pack("<4s6H3L5H", b"PK\1\2", 0x33F, 63, *fields, len(name), 0, 0, 0, 0)
    after = struct.pack("<L", said["mode"] << 16)
    return (
        local + said["local_name"] + said["extra"] + said["data"],
        lambda place: central + after + struct.pack("<L", place) + name,
    )


def make_zip(*members: tuple[bytes, Callable[[int], bytes]], places: Iterable[int] | None = None) -> bytes:
    """A zip of `zip_entry`s, which the directory says to be at `places`."""
    lies = list(places) if places is not None else list(accumulate((len(local) for local, _ in members), initial=0))
    body = b"".join(local for local, _ in members)
    directory = b"".join(central(place) for (_, central), place in zip(members, lies, strict=False))
    count = min(len(members), 0xFFFF)
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as the standard library writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def zstd_zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip whose members are zstd."""
    entries = []
    for name, content in files.items():
        packed = compress(content)
        entries.append(zip_entry(name.encode(), content, method=_ZIP_ZSTD, data=packed, packed=len(packed)))
    return make_zip(*entries)


def tarred(files: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar as the standard library writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of headers as they are."""
    body = b"".join(info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512) for info, content in members)
    return body + bytes(1024)


def member(name: str, content: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One of them."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


ARCHIVES: dict[str, bytes] = {
    "stored.zip": zipped(FILES, zipfile.ZIP_STORED),
    "deflated.zip": zipped(FILES),
    "zstd.zip": zstd_zipped(FILES),
    "pax.tar": tarred(FILES),
    "gnu.tar": tarred(FILES, tarfile.GNU_FORMAT),
    "a.tar.gz": gzip.compress(tarred(FILES)),
    "a.tar.zst": compress(tarred(FILES)),
    "two-frames.tar.zst": compress(tarred(FILES)[:7000]) + compress(tarred(FILES)[7000:]),
}


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Unpacks bytes; path → content. A refusal leaves no folder."""

    def run(content: bytes, limits: UnpackLimits = LIMITS, name: str = "archive") -> dict[str, bytes]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        file = place / name
        file.write_bytes(content)
        try:
            files = unpack(File(f"in/{name}", file, len(content)), place / "unpacked", limits)
        except BaseException:
            assert list(place.iterdir()) == [file], "a refused archive leaves nothing"
            raise
        assert all(found.location.stat().st_size == found.size for found in files)
        assert all(found.location.parent == place / "unpacked" or found.location == file for found in files)
        return {found.path: found.location.read_bytes() for found in files}

    return run


Unpacked = Callable[..., dict[str, bytes]]


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_known_by_their_content_and_unpacked_in_their_order(unpacked: Unpacked, name: str) -> None:
    assert is_archive(ARCHIVES[name][:4096], name)
    if "zst" not in name:
        assert is_archive(ARCHIVES[name][:4096], "renamed.bin")
    found = unpacked(ARCHIVES[name])
    assert found == FILES
    assert list(found) == list(FILES)


def test_a_path_will_do(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVES["deflated.zip"])
    assert len(unpack(tmp_path / "a.zip", tmp_path / "to", LIMITS)) == 5


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"", "empty.zip"),
        (b'{"results": 1}' + b" " * 600, "results.json"),
        (gzip.compress(b'{"id": 1}\n' * 500, mtime=0), "samples.jsonl.gz"),
        (compress(b'{"id": 1}\n' * 500), "samples.jsonl.zst"),
        (b"\x1f\x8bnot gzip", "a.tar.gz"),
        (b"PAR1" + bytes(1000), "details.parquet"),
        (bytes(4096), "zeros.tar"),
        (zipped({"_journal/start.json": b"{}"}), "renamed.zip"),
        (zipped({"header.json": b"{}"}), "renamed.zip"),
        (zipped({"samples/1_epoch_1.json": b"{}"}), "2025_log.EVAL"),
    ],
)
def test_other_files_are_none(head: bytes, name: str) -> None:
    assert not is_archive(head[:4096], name)


@pytest.mark.parametrize("names", [("samples/a.json", "header.json"), ("samples/a.json", "_journal/start.json")])
def test_an_inspect_log_stays_a_file_however_it_begins(unpacked: Unpacked, names: tuple[str, ...]) -> None:
    log = zipped(dict.fromkeys(names, b"{}"))
    assert unpacked(log, name="log.zip") == {"log.zip": log}


def test_an_archive_in_an_archive_stays_a_file(unpacked: Unpacked) -> None:
    inner = ARCHIVES["deflated.zip"]
    assert unpacked(zipped({"inner.zip": inner})) == {"inner.zip": inner}


def test_folders_and_hidden_names_are_left_out(unpacked: Unpacked) -> None:
    files = {"a/": b"", "a/.DS_Store": b"x", "__MACOSX/._b": b"x", ".git/config": b"x", "./b": b"1"}
    assert unpacked(zipped(files)) == {"b": b"1"}
    folder = member("./", type=tarfile.DIRTYPE)
    both = tar_of(
        folder, member("./a", type=tarfile.DIRTYPE), folder, member("./a/.x", b"hid" * 999), member("./b", b"1")
    )
    assert unpacked(both) == {"b": b"1"}


def linked(name: bytes, kind: int) -> bytes:
    return make_zip(zip_entry(name, b"target", mode=kind | 0o777))


def pax(records: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """An extended header."""
    return member("header", records, type=tarfile.XHDTYPE)


def packed(content: bytes, **header: Any) -> bytes:
    """A zip with one deflated member "x"."""
    encoder = zlib.compressobj(wbits=-15)
    data = encoder.compress(content) + encoder.flush()
    return make_zip(zip_entry(b"x", content, **{"method": 8, "data": data, "packed": len(data)} | header))


BAD_NAMES: dict[str, tuple[bytes, str]] = {
    "up": (b"../x", "leads out of its folder by"),
    "up later": (b"a/../../x", "leads out"),
    "up and back": (b"a/../x", "leads out"),
    "absolute": (b"/etc/x", "has an absolute path"),
    "drive": (b"C:/x", "absolute"),
    "drive, relative": (b"c:x", "absolute"),
    "backslash": (b"..\\x", "backslash"),
    "too long": (b"x" * 1001, r"has a name of 1,00\d bytes; 1,000 are allowed"),
    "too long in UTF-8": ("é".encode() * 501, r"has a name of 1,00\d bytes"),
    "control character": (b"a\nb", "control characters"),
    "not UTF-8": (b"caf\xe9", "not UTF-8"),
}


@pytest.mark.parametrize("fault", BAD_NAMES)
def test_names_that_no_member_may_have(unpacked: Unpacked, fault: str) -> None:
    name, told = BAD_NAMES[fault]
    for flags in (0, 0x800):
        if fault != "not UTF-8" or not flags:
            with pytest.raises(ArchiveRefused, match=told):
                unpacked(make_zip(zip_entry(b"good", b"1"), zip_entry(name, b"1", flags=flags)))
    with pytest.raises(ArchiveRefused, match=told):
        unpacked(
            tar_of(member("good", b"1"), member(name.decode(errors="surrogateescape"), b"1", type=tarfile.REGTYPE))
        )
    text = name.decode(errors="surrogateescape")
    with pytest.raises(ValueError, match=told):
        safe_path(text)
    with pytest.raises(ArchiveRefused, match=told):
        unpacked(make_zip(zip_entry(name + b"/", b"", flags=0)))


@pytest.mark.parametrize("name", ["a", "a b/c.json", "결과/ü", "ab:c", "..a/b..", "x" * 1000, "~/x", "%2e%2e/x"])
def test_names_that_are_plain(unpacked: Unpacked, name: str) -> None:
    assert safe_path(name) == name
    assert safe_path(f"./{name[:990]}//") == name[:990]
    hidden = name.startswith(".")
    assert unpacked(zipped({name: b"1"})) == ({} if hidden else {name: b"1"})
    assert unpacked(tarred({name: b"1"})) == ({} if hidden else {name: b"1"})


@given(st.text())
def test_a_safe_path_stays_in_its_folder(name: str) -> None:
    try:
        path = safe_path(name)
    except ValueError:
        return
    assert path
    assert safe_path(path) == path
    assert not {"", ".", ".."} & set(path.split("/"))


REFUSED: dict[str, tuple[bytes, str]] = {
    "zip: symbolic link": (linked(b"link", stat.S_IFLNK), "'link' is a link or a device"),
    "zip: device": (linked(b"dev", stat.S_IFCHR), "'dev' is a link or a device"),
    "zip: pipe": (linked(b"pipe", stat.S_IFIFO), "is a link or a device"),
    "zip: out of its folder": (make_zip(zip_entry(b"../x", b"1")), r"^'\.\./x' leads out"),
    "zip: twice": (make_zip(zip_entry(b"x", b"1"), zip_entry(b"./x", b"2")), "'./x' is there twice"),
    "zip: encrypted": (packed(b"1", flags=0x801), "'x' is encrypted"),
    "zip: strongly encrypted": (packed(b"1", flags=0x841), "is encrypted"),
    "zip: another method": (
        make_zip(zip_entry(b"x", b"1", method=12)),
        "'x' is compressed by method 12; deflate, zstd",
    ),
    "zip: bad UTF-8": (make_zip(zip_entry(b"caf\xe9", b"1")), "not UTF-8, though it says so"),
    "zip: other name at its place": (make_zip(zip_entry(b"x", b"1", local_name=b"y")), "'x' has another name"),
    "zip: not at its place": (make_zip(zip_entry(b"x", b"1"), places=[3]), "'x' is not where"),
    "zip: wrong checksum": (make_zip(zip_entry(b"x", b"1", crc=5)), "'x' is damaged"),
    "zip: wrong size": (make_zip(zip_entry(b"x", b"1", size=5)), "'x' is damaged"),
    "zip: deflated, wrong checksum": (packed(b"12", crc=5), "'x' is damaged"),
    "zip: deflated, less than it says": (packed(b"12", size=5), "'x' is damaged"),
    "zip: deflated, damaged": (packed(b"12", data=b"\xff" * 9, packed=9), "'x' is damaged"),
    "zip: zstd, damaged": (make_zip(zip_entry(b"x", b"1", method=_ZIP_ZSTD)), "'x' is not zstd, damaged"),
    "zip: cut off": (ARCHIVES["deflated.zip"][:-30], "cut off"),
    "zip: without its end": (ARCHIVES["deflated.zip"][:900], "cut off"),
    "zip: overlapping": (
        make_zip(zip_entry(b"x", b"1" * 100), zip_entry(b"x", b"1" * 100), places=[0, 0]),
        "'x' overlaps the next member",
    ),
    "zip: overlapping in what is beside the name": (
        make_zip(
            zip_entry(b"a", b"", packed=90, size=90, extra=bytes(4) * 4, data=b""),
            zip_entry(b"b", b"1" * 90),
        ),
        "'a' overlaps the next member",
    ),
    "zip: beyond its own end": (make_zip(zip_entry(b"x", b"1", packed=10**9, size=10**9)), "'x' overlaps"),
    "tar: symbolic link": (tar_of(member("link", type=tarfile.SYMTYPE, linkname="/etc")), "'link' is a link"),
    "tar: hard link": (tar_of(member("link", type=tarfile.LNKTYPE, linkname="x")), "'link' is a link"),
    "tar: device": (tar_of(member("dev", type=tarfile.BLKTYPE)), "'dev' is a device"),
    "tar: pipe": (tar_of(member("pipe", type=tarfile.FIFOTYPE)), "'pipe' is a pipe"),
    "tar: sparse": (tar_of(member("holes", type=tarfile.GNUTYPE_SPARSE)), "'holes' is packed as a sparse file"),
    "tar: sparse, the newer way": (tar_of(pax(b"22 GNU.sparse.major=1\n"), member("holes", b"1")), "sparse file"),
    "tar: unknown kind": (tar_of(member("odd", type=b"Q")), "'odd' is of an unknown kind"),
    "tar: twice": (tar_of(member("x", b"1"), member("./x", b"2")), "'./x' is there twice"),
    "tar: cut off in a file": (tarred(FILES)[:5000], "ends in the middle"),
    "tar: cut off in a header": (tarred(FILES)[:700], "ends in the middle"),
    "tar: damaged header": (
        tar_of(member("x", b"1" * 512), member("y", b"1")).replace(b"y\0\0", b"z\0\0", 1),
        "damaged",
    ),
    "tar: huge header": (
        tar_of(member("long", b"", type=tarfile.XHDTYPE, size=2**33)),
        "has a header of 8,589,934,592",
    ),
    "tar: huge name": (tar_of(member("long", b"x" * 99_999, type=tarfile.GNUTYPE_LONGNAME)), "65,536 are allowed"),
    "tar: negative size": (tar_of(member("x", size=-1)), "'x' has a size that is none: '-1'"),
    "tar: size that is none": (tar_of(pax(b"12 size=1e3\n"), member("x", b"1")), "has a size that is none: '1e3'"),
    "tar: damaged extended header": (tar_of(pax(b"99 path=x\n"), member("x", b"1")), "header that is damaged"),
    "tar: extended header of nothing": (tar_of(pax(b"0 path=x\n"), member("x", b"1")), "header that is damaged"),
    "tar: name out of its folder in an extended header": (tar_of(pax(b"15 path=../out\n"), member("x")), "leads out"),
    "tar: name not UTF-8 in an extended header": (tar_of(pax(b"10 path=\xff\n"), member("x")), "not UTF-8"),
    "tar.gz: cut off": (ARCHIVES["a.tar.gz"][:-4], "ends in the middle"),
    "tar.gz: wrong checksum": (ARCHIVES["a.tar.gz"][:-8] + bytes(8), "not gzip, or damaged"),
    "tar.zst: cut off": (ARCHIVES["a.tar.zst"][:-4], "ends in the middle"),
    "tar.zst: damaged": (ARCHIVES["a.tar.zst"][:-9] + b"\xff" * 9, "not zstd, damaged"),
    "neither": (b"text", "ends in the middle"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_refused(unpacked: Unpacked, fault: str) -> None:
    content, told = REFUSED[fault]
    with pytest.raises(ArchiveRefused, match=told):
        unpacked(content)


@pytest.mark.parametrize("name", ARCHIVES)
def test_limits_are_kept_to_the_byte_and_the_member(unpacked: Unpacked, name: str) -> None:
    content = ARCHIVES[name]
    whole = sum(map(len, FILES.values()))
    whole = len(tarred(FILES)) if "tar" in name else whole
    whole = len(tarred(FILES, tarfile.GNU_FORMAT)) if name == "gnu.tar" else whole
    assert unpacked(content, UnpackLimits(max_bytes=whole, max_files=5)) == FILES
    with pytest.raises(ArchiveRefused, match=f"is beyond the {whole - 1:,} bytes that may be unpacked"):
        unpacked(content, UnpackLimits(max_bytes=whole - 1, max_files=5))
    with pytest.raises(ArchiveRefused, match=r"5 members; 4 are|one member too many: 4 are allowed"):
        unpacked(content, UnpackLimits(max_bytes=whole, max_files=4))


@pytest.mark.parametrize(
    "make", [zipped, zstd_zipped, lambda files: gzip.compress(tarred(files)), lambda files: compress(tarred(files))]
)
def test_what_unpacks_to_many_times_its_size(
    unpacked: Unpacked, monkeypatch: pytest.MonkeyPatch, make: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    monkeypatch.setattr(unpacking, "RATIO_FREE_BYTES", 1_000_000)
    limits = UnpackLimits(max_bytes=10**9, max_files=10, max_ratio=20)
    assert len(unpacked(make({"small": bytes(900_000)}), limits)) == 1
    with pytest.raises(ArchiveRefused, match="'bomb' is beyond 20 times the archive's size"):
        unpacked(make({"small": b"1", "bomb": bytes(5_000_000)}), limits)
    assert len(unpacked(make({"noise": random.Random(1).randbytes(2_000_000)}), limits)) == 1


def many(count: int, kind: str) -> bytes:
    """An archive of tiny files."""
    names = [f"{number:06}" for number in range(count)]
    if kind == "zip":
        return make_zip(*(zip_entry(name.encode(), b"") for name in names))
    return gzip.compress(tar_of(*(member(name) for name in names)), 1)


@pytest.mark.parametrize(
    ("kind", "told"), [("zip", "100,000 members; 10,000 are"), ("tar", "'010000' is one member too many")]
)
def test_a_hundred_thousand_tiny_files(unpacked: Unpacked, kind: str, told: str) -> None:
    with pytest.raises(ArchiveRefused, match=told):
        unpacked(many(100_000, kind), UnpackLimits())


def test_a_directory_that_is_larger_than_its_members_need_is_not_read(unpacked: Unpacked) -> None:
    archive = zipped({"x": b"1"})
    padded = archive[:-22] + bytes(200_000) + archive[-22:]
    position = len(padded) - 22 + 12
    size = int.from_bytes(padded[position : position + 4], "little") + 200_000
    with pytest.raises(ArchiveRefused, match=r"has a directory of 200,\d+ bytes; 20 members"):
        unpacked(padded[:position] + struct.pack("<L", size) + padded[position + 4 :])


def test_modes_and_times_are_not_kept(unpacked: Unpacked, tmp_path: Path) -> None:
    unpacked(tar_of(member("run.sh", b"#!/bin/sh", mode=0o6777, mtime=0, uid=0)))
    (file,) = (tmp_path / "0" / "unpacked").iterdir()
    told = file.stat()
    assert not told.st_mode & (stat.S_IXUSR | stat.S_ISUID | stat.S_IXOTH)
    assert told.st_mtime > 1_000_000_000


def test_what_is_there_already_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "mine").touch()
    with pytest.raises(FileExistsError):
        unpack(tmp_path / "a.zip", tmp_path / "to", LIMITS)
    assert (tmp_path / "to" / "mine").exists()


MEASURE = """
    import resource, sys
    from pathlib import Path
    from shared.formats.archives import UnpackLimits, unpack, ArchiveRefused
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        unpack(Path(sys.argv[1]), Path(sys.argv[2]), UnpackLimits(max_ratio=10**9))
    except ArchiveRefused:
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def zstd_bomb(size: int) -> bytes:
    """A zip with one zstd member: a few bytes for each 128 KiB of it."""
    content = compress(bytes(size))
    return make_zip(zip_entry(b"x", b"", crc=0, method=_ZIP_ZSTD, data=content, packed=len(content), size=size))


@pytest.mark.parametrize(
    "make",
    [
        lambda: zstd_bomb(150_000_000),
        lambda: compress(tarred({"x": bytes(150_000_000)})),
        lambda: gzip.compress(tar_of(member("long", bytes(150_000_000), type=tarfile.GNUTYPE_LONGNAME)), 1),
        lambda: many(100_000, "zip"),
        lambda: make_zip(zip_entry(b"x", b"1"), *(zip_entry(b"", b"") for _ in range(60_000))),
    ],
    ids=["zstd in a zip", "zstd of a tar", "long name", "many members", "nameless members"],
)
def test_memory_stays_flat(tmp_path: Path, make: Callable[[], bytes]) -> None:
    (tmp_path / "archive").write_bytes(make())
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), str(tmp_path / "archive"), str(tmp_path / "to")]
    grown_kib = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert grown_kib < 30_000

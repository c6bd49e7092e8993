"""Files as a form: what the service reads is what lay there, whatever its name and whoever writes to it meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from results_service.uploaded_files import ImportLimits, UploadedFiles, receive_files
from scorehouse.forms import FileForm
from shared.compression import ZstdDecoder
from shared.formats.tree import File

LIMITS = ImportLimits(max_bytes=1 << 30, max_files=1000)
TEXT = b'{"doc_id": 1, "acc": 1.0}\n' * 10_000


def write(folder: Path, name: str, content: bytes, path: str | None = None) -> File:
    location = folder / name
    location.write_bytes(content)
    return File(path or name, location, len(content))


def plain(form: FileForm) -> bytes:
    """The body as a service reads it."""
    body = b"".join(form.blocks())
    return b"".join(ZstdDecoder().decode(body)) if form.is_compressed else body


def received(form: FileForm, folder: Path) -> dict[str, bytes]:
    async def blocks() -> AsyncIterator[bytes]:
        yield plain(form)

    async def receive() -> UploadedFiles:
        return await receive_files(blocks(), form.content_type, None, folder, LIMITS)

    folder.mkdir()
    return {path: file.location.read_bytes() for path, file in asyncio.run(receive()).tree.items()}


@pytest.mark.parametrize("content", [b"", b"--", b"\r\n--x\r\n", b"a" * 300_000, TEXT])
def test_the_service_reads_the_files_as_they_are(tmp_path: Path, content: bytes) -> None:
    form = FileForm([write(tmp_path, "a", content, "x/a.jsonl"), write(tmp_path, "b", b"2", "x/b")])
    assert received(form, tmp_path / "there") == {"x/a.jsonl": content, "x/b": b"2"}


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ('a "b" % c;d=é/雪.json', None),
        ("a:b=c,d/e f.json", None),
        ("a\\b", "a∖b"),
        ("a\nb\r\t\x1b[31m\x7f", "a␊b␍␉␛[31m␡"),
        ("a\x85b", "a%85b"),
        ("a\udcffb", "a%FFb"),
    ],
)
def test_every_name_of_a_file_can_be_sent(tmp_path: Path, path: str, read: str | None) -> None:
    form = FileForm([write(tmp_path, "a", b"1", path)])
    assert list(received(form, tmp_path / "there")) == [read or path]


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_file_that_grows_is_sent_as_it_was_when_it_began(tmp_path: Path, is_plain: bool) -> None:
    file = write(tmp_path, "a", TEXT)
    form = FileForm([file], plain=is_plain)
    with file.location.open("ab") as more:  # since it was found: all of it is sent
        more.write(b"2\n")
    length = form.length
    blocks = form.blocks()
    first = next(blocks)
    with file.location.open("ab") as more:
        more.write(b"3\n")
    body = first + b"".join(blocks)
    assert length == (len(body) if is_plain else None)
    unpacked = body if is_plain else b"".join(ZstdDecoder().decode(body))
    assert (b"2\n\r\n--" in unpacked, b"3\n" in unpacked) == (True, False)


def test_a_form_that_is_sent_again_has_what_is_there_then(tmp_path: Path) -> None:
    file = write(tmp_path, "a", b"1")
    form = FileForm([file])
    assert form.length == len(plain(form))
    file.location.write_bytes(b"22")
    assert form.length == len(plain(form))
    assert b"\r\n\r\n22\r\n" in plain(form)


def test_a_file_that_shrinks_or_goes_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, "a", b"1" * 600_000)
    form = FileForm([file], plain=True)
    blocks = form.blocks()
    next(blocks)
    file.location.write_bytes(b"1")
    with pytest.raises(OSError, match="became shorter"):
        list(blocks)
    file.location.unlink()
    with pytest.raises(FileNotFoundError):
        list(form.blocks())
    with pytest.raises(FileNotFoundError):
        _ = form.length
    file.location.mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        _ = form.length


@pytest.mark.parametrize(
    ("contents", "is_compressed"),
    [
        ([TEXT], True),
        ([b"PAR1" + TEXT], False),
        ([b"PK\x03\x04" + TEXT, b"{}"], False),
        ([b"PK\x03\x04", TEXT], True),
        ([b"{}"], False),
        ([], False),
    ],
)
def test_what_is_large_and_not_packed_is_compressed(
    tmp_path: Path, contents: Iterable[bytes], is_compressed: bool
) -> None:
    files = [write(tmp_path, str(number), content) for number, content in enumerate(contents)]
    form = FileForm(files)
    assert form.is_compressed is is_compressed
    assert (form.length is None) is is_compressed
    assert not form.uncompressed().is_compressed
    if is_compressed:
        assert len(b"".join(form.blocks())) < len(TEXT) / 10


def test_it_tells_how_much_is_read_and_begins_anew_when_sent_again(tmp_path: Path) -> None:
    told: list[int] = []
    form = FileForm([write(tmp_path, "a", b"1" * 600_000), write(tmp_path, "b", b"22")], on_read=told.append)
    for one in (form, form.uncompressed()):
        list(one.blocks())
        assert (told[0], told[-1]) == (0, 600_002)
        assert told == sorted(told)
        assert len(told) == 5
        told.clear()

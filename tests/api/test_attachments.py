"""Files kept with raw inputs: stored once, listed, downloaded whole and in parts, and compared."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from email.message import Message
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol
from urllib.parse import quote

import httpx
import pytest

from results_service import abandoned_uploads, attachments
from results_service.abandoned_uploads import AbandonedUploads
from results_service.attachments import AttachedFile, Attachments
from results_service.blobs import CHUNK_BYTES
from results_service.documents import stored_id
from scorehouse import AsyncScorehouse, Scorehouse, ScorehouseError
from shared.attachments import FileSummary
from shared.keys import digest_of
from shared.problems import Problem, ResultConflict
from tests.api.conftest import serve
from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"
FILES = f"/raw_input/{NAME}/files"
LARGE = random.Random(4).randbytes(CHUNK_BYTES * 2 + 12_345)


class Keep(Protocol):
    """Stores files and attaches them to the raw input NAME."""

    async def __call__(self, files: dict[str, bytes], name: str = NAME) -> Sequence[AttachedFile]:
        """What was attached."""


@pytest.fixture
async def keep(results: ResultsUnderTest, make_result: MakeResult, tmp_path: Path) -> Keep:
    """The same, for the raw input that this pushes first."""
    pushed = await results.client.post("/raw_input", json=make_result(data={"log": "as files"}))
    assert pushed.status_code == 201, pushed.text

    async def keep(files: dict[str, bytes], name: str = NAME) -> Sequence[AttachedFile]:
        attached = []
        folder = Path(mkdtemp(dir=tmp_path))  # for several may do this at once
        for number, (path, content) in enumerate(files.items()):
            file = folder / str(number)
            file.write_bytes(content)
            attached.append(AttachedFile(path, sha256(content).hexdigest(), len(content)))
            await kept(results).store_files([(file, attached[-1])])
        await kept(results).attach(stored_id(name), attached)
        return attached

    return keep


def kept(results: ResultsUnderTest) -> Attachments:
    found: Attachments = results.app.state.attachments
    return found


async def test_files_are_listed_by_path_and_come_back_byte_for_byte(results: ResultsUnderTest, keep: Keep) -> None:
    files = {"run/results.json": b'{"acc": 1}', "a/log.eval": LARGE, "empty.txt": b"", "samples.jsonl.gz": b"\x1f\x8b"}
    await keep(files)
    listed = (await results.client.get(FILES)).json()["items"]
    assert [item["path"] for item in listed] == sorted(files)
    for item in listed:
        content = files[item["path"]]
        assert (item["bytes"], item["sha256"]) == (len(content), sha256(content).hexdigest())
        answer = await results.client.get(f"{FILES}/{item['path']}")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"] == item["media_type"]
        assert answer.headers["etag"] == f'"{item["sha256"]}"'
        assert answer.headers["content-length"] == str(len(content))
    types = {item["path"]: item["media_type"] for item in listed}
    assert types == {
        "a/log.eval": "application/octet-stream",
        "empty.txt": "text/plain",
        "run/results.json": "application/json",
        "samples.jsonl.gz": "application/gzip",
    }


async def test_the_time_in_the_name_may_be_spelled_any_way(results: ResultsUnderTest, keep: Keep) -> None:
    await keep({"a": b"1"})
    name = "2024-01-01T13:00:00.0+01:00-mmlu-run-1"
    assert (await results.client.get(f"/raw_input/{quote(name)}/files/a")).content == b"1"
    assert len((await results.client.get(f"/raw_input/{quote(name)}/files")).json()["items"]) == 1


async def test_what_is_not_there_is_not_found(results: ResultsUnderTest, keep: Keep, make_result: MakeResult) -> None:
    assert (await results.client.get(FILES)).json() == {"items": []}, "pushed as a document"
    await keep({"a/b": b"1"})
    await results.client.post("/standardized_output", json=make_result(run_id="other"))
    for path, told in {
        f"{FILES}/b": f"has no file 'b'; GET {FILES} lists",
        f"{FILES}/a": "has no file 'a'",
        f"{FILES}/a/b/": "has no file",
        f"{FILES}/": "has no file",
        f"{FILES}/{'x' * 5000}": "has no file 'xxx",
        "/raw_input/nobody/files": "no raw_input is called",
        "/raw_input/nobody/files/a": "no raw_input is called",
        "/raw_input/2024-01-01T12:00:00Z-mmlu-other/files": "there is one under /standardized_output",
    }.items():
        answer = await results.client.get(path)
        assert answer.status_code == 404, path
        assert told in answer.json()["detail"]
        assert len(answer.json()["detail"]) < 600


@pytest.mark.parametrize(
    "name",
    [
        "plain.json",
        "a b.txt",
        "naïve 결과.zip",
        'quo"te\\d.txt',
        "semi;colon=1.txt",
        "per%41cent.txt",
        "question?#.txt",
    ],
)
async def test_any_name_is_safe_in_the_headers(results: ResultsUnderTest, keep: Keep, name: str) -> None:
    await keep({f"in/{name}": b"x"})
    answer = await results.client.get(f"{FILES}/in/{quote(name)}")
    assert answer.content == b"x", answer.text
    told = Message()
    told["Content-Disposition"] = answer.headers["content-disposition"]
    assert told.get_content_disposition() == "attachment"
    assert answer.headers["content-disposition"].endswith(f"; filename*=UTF-8''{quote(name, safe='')}")
    assert answer.headers["content-disposition"].isascii()
    assert answer.headers["content-disposition"].count('"') == 2


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "run.xhtml", "x.js"])
async def test_nothing_is_shown_by_a_browser(results: ResultsUnderTest, keep: Keep, name: str) -> None:
    await keep({name: b"<script>alert(1)</script>"})
    headers = (await results.client.get(f"{FILES}/{name}")).headers
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"


async def test_who_has_it_is_not_sent_it_again(results: ResultsUnderTest, keep: Keep) -> None:
    (file,) = await keep({"a": b"1"})
    answer = await results.client.get(f"{FILES}/a", headers={"If-None-Match": f'"{file.sha256}"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert (await results.client.get(f"{FILES}/a", headers={"If-None-Match": '"other"'})).status_code == 200
    head = await results.client.head(f"{FILES}/a")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "1")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, len(LARGE)),
        (f"bytes={CHUNK_BYTES - 3}-{CHUNK_BYTES + 3}", CHUNK_BYTES - 3, CHUNK_BYTES + 4),
        (f"bytes={CHUNK_BYTES}-{CHUNK_BYTES}", CHUNK_BYTES, CHUNK_BYTES + 1),
        (f"bytes={CHUNK_BYTES * 2}-", CHUNK_BYTES * 2, len(LARGE)),
        (f"bytes={len(LARGE) - 1}-", len(LARGE) - 1, len(LARGE)),
        ("bytes=-7", len(LARGE) - 7, len(LARGE)),
        (f"bytes=-{len(LARGE) * 3}", 0, len(LARGE)),
        (f"bytes=9-{len(LARGE) * 3}", 9, len(LARGE)),
    ],
)
async def test_a_part_of_it_can_be_asked_for(
    results: ResultsUnderTest, keep: Keep, asked: str, start: int, stop: int
) -> None:
    await keep({"a.zip": LARGE})
    answer = await results.client.get(f"{FILES}/a.zip", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == LARGE[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(LARGE)}"
    assert answer.headers["content-length"] == str(stop - start)


async def test_ranges_that_are_not_served(results: ResultsUnderTest, keep: Keep) -> None:
    (file, _) = await keep({"a": b"0123456789", "empty": b""})
    for headers in (
        {"Range": "bytes=1-2,4-5"},
        {"Range": "bytes=5-2"},
        {"Range": "bytes=-"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=1-2", "If-Range": '"other"'},
    ):
        answer = await results.client.get(f"{FILES}/a", headers=headers)
        assert (answer.status_code, answer.content) == (200, b"0123456789"), headers
    same = await results.client.get(f"{FILES}/a", headers={"Range": "bytes=1-2", "If-Range": f'"{file.sha256}"'})
    assert (same.status_code, same.content) == (206, b"12")
    for path, asked, size in (("a", "bytes=10-", 10), ("a", "bytes=-0", 10), ("empty", "bytes=0-", 0)):
        answer = await results.client.get(f"{FILES}/{path}", headers={"Range": asked})
        assert answer.status_code == 416, answer.text
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.json()["type"] == "urn:scorehouse:problem:range-not-satisfiable"


async def test_reading_needs_its_scope(start_results: StartResults, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    scopes = ("results:write", "results:read")
    keys.write_text(
        "".join(f'[[keys]]\nid = "{name}"\nsha256 = "{digest_of(name)}"\nscopes = ["{name}"]\n' for name in scopes)
    )
    async with start_results(auth="keys", api_keys_file=keys) as running:
        for where in (FILES, f"{FILES}/a"):
            assert (await running.client.get(where)).status_code == 401
            for scope, expected in zip(scopes, (403, 404), strict=True):
                answer = await running.client.get(where, headers={"Authorization": f"Bearer {scope}"})
                assert answer.status_code == expected, answer.text


async def test_the_same_bytes_are_stored_once(results: ResultsUnderTest, keep: Keep, make_result: MakeResult) -> None:
    await keep({"a": LARGE, "b": LARGE})
    assert results.stored()["blobs"] == 3
    await results.client.post("/raw_input", json=make_result(run_id="again"))
    await keep({"c": LARGE}, "2024-01-01T12:00:00Z-mmlu-again")
    assert (results.stored()["blobs"], results.stored()["attachments"]) == (3, 3)


async def test_attaching_again_changes_nothing_and_other_files_are_refused(
    results: ResultsUnderTest, keep: Keep
) -> None:
    await keep({"a": b"1", "b": b"2"})
    before = list(results.database.attachments.find())
    await keep({"b": b"2", "a": b"1"})
    others: list[dict[str, bytes]] = [
        {"a": b"1", "b": b"3"},
        {"a": b"1"},
        {"a": b"1", "b": b"2", "c": b""},
        {"A": b"1", "b": b"2"},
    ]
    for other in others:
        with pytest.raises(ResultConflict, match="stored with other files"):
            await keep(other)
    assert list(results.database.attachments.find()) == before


async def test_what_a_crash_left_is_completed(results: ResultsUnderTest, keep: Keep) -> None:
    await keep({"a": LARGE, "b": b"2", "c": b"3"})
    whole = sorted(results.database.attachments.find(), key=str)
    digest = sha256(LARGE).hexdigest()
    results.database.blobs.delete_one({"_id": f"{digest}/1"})
    results.database.attachments.delete_one({"path": "b"})
    await keep({"a": LARGE, "b": b"2", "c": b"3"})
    assert sorted(results.database.attachments.find(), key=str) == whole
    assert (await results.client.get(f"{FILES}/a")).content == LARGE


async def test_two_who_store_and_attach_the_same_at_once_both_succeed(results: ResultsUnderTest, keep: Keep) -> None:
    await asyncio.gather(*(keep({"a": LARGE, "b": b"2"}) for _ in range(4)))
    assert results.stored()["attachments"] == 2
    assert (await results.client.get(f"{FILES}/a")).content == LARGE


async def test_a_file_that_is_not_what_its_digest_says_leaves_nothing(
    results: ResultsUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "changed"
    file.write_bytes(LARGE)
    for digest, size in ((sha256(b"other").hexdigest(), len(LARGE)), (sha256(LARGE).hexdigest(), len(LARGE) + 1)):
        with pytest.raises(Problem, match="was changed while"):
            await kept(results).store_files([(file, AttachedFile(file.name, digest, size))])
    assert results.stored() == {}


async def test_nothing_sweeps_files_away(
    results: ResultsUnderTest, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoned_uploads, "UPLOAD_MAX_AGE", timedelta(days=-1))
    results.database.blobs.insert_one({"_id": "u-20200101T000000-abandoned/0", "zstd": b""})
    await keep({"a": LARGE})
    await AbandonedUploads(results.app.state.mongo).remove()
    assert results.database.blobs.count_documents({}) == 3, "the upload is gone, the file is there"


async def comparison(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    response = await client.post("/reconciliation", json={"repair": True})
    return [json.loads(line) for line in response.text.splitlines()]


async def test_the_comparison_tells_of_files_that_lack_chunks(
    results: ResultsUnderTest, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "_IDS_MOST", 2)
    await keep({"a/whole": b"1", "b/large": LARGE, "c/same": LARGE, "empty": b""})
    lines = await comparison(results.client)
    assert lines[-1]["report"]["differences"] == 0
    assert (lines[-2]["phase"], lines[-2]["done"], lines[-2]["total"]) == ("files", 4, 4)
    results.database.blobs.delete_one({"_id": f"{sha256(LARGE).hexdigest()}/1"})
    results.database.blobs.delete_one({"_id": f"{sha256(b'1').hexdigest()}/0"})
    report = (await comparison(results.client))[-1]["report"]
    assert [(finding["reason"], finding["found"]) for finding in report["findings"]] == [("file-damaged", 3)]
    assert {(first["result_name"], first["detail"]) for first in report["first"]} == {
        (NAME, "a/whole lacks 1 of its 1 chunks"),
        (NAME, "b/large lacks 1 of its 3 chunks"),
        (NAME, "c/same lacks 1 of its 3 chunks"),
    }
    answer = await results.client.get(f"{FILES}/a/whole")
    assert answer.status_code == 500
    await keep({"a/whole": b"1", "b/large": LARGE, "c/same": LARGE, "empty": b""})
    assert (await comparison(results.client))[-1]["report"]["differences"] == 0, "the next step that it names helps"


async def test_the_clients_list_and_download(
    start_results: StartResults, make_result: MakeResult, tmp_path: Path
) -> None:
    async with start_results() as running, serve(running.app) as url, AsyncScorehouse(url) as house:
        # Served anew, so it has its own connection to the store.
        await house.push_raw(json.dumps(make_result(data=[])).encode())
        (tmp_path / "file").write_bytes(LARGE)
        file = AttachedFile("in/결과.zip", sha256(LARGE).hexdigest(), len(LARGE))
        await kept(running).store_files([(tmp_path / "file", file)])
        await kept(running).attach(stored_id(NAME), [file])
        told = [FileSummary(path=file.path, bytes=file.bytes, sha256=file.sha256, media_type="application/zip")]
        assert await house.list_files(NAME) == told
        await house.download_file(NAME, file.path, tmp_path / "awaited")
        assert (tmp_path / "awaited").read_bytes() == LARGE

        def block() -> None:
            with Scorehouse(url) as blocking:
                assert blocking.list_files(NAME) == told
                blocking.download_file(NAME, file.path, tmp_path / "blocked")
                with pytest.raises(ScorehouseError, match="has no file 'other'"):
                    blocking.download_file(NAME, "other", tmp_path / "other")

        await asyncio.to_thread(block)
        assert (tmp_path / "blocked").read_bytes() == LARGE
        assert not (tmp_path / "other").exists()

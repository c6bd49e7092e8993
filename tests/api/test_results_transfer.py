"""How single results travel: entity tags, HEAD, zstd as it is stored; and names that are none."""

import asyncio
import json
import random
import subprocess
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from results_service.blobs import CHUNK_BYTES
from results_service.reading import ResultReader
from shared.compression import ZstdDecoder, decompress
from shared.results import ResultKind
from tests.api.conftest import serve

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"
PATH = f"/raw_input/{NAME}"
CHANCE = random.Random(0)

SIZES = {
    "inside its envelope": 300,
    "in a chunk of its own": 100_000,
    "a full chunk": CHUNK_BYTES,
    "a chunk and a byte": CHUNK_BYTES + 1,
    "several chunks": 2 * CHUNK_BYTES + 1000,
}


def some_json(size: int) -> bytes:
    """A JSON array of exactly that many bytes, which does not compress much."""
    text = CHANCE.randbytes(size // 2).hex()[: size - 4]
    return b'["' + text.encode().ljust(size - 4, b"x") + b'"]'


async def push(results: "ResultsUnderTest", make_result: MakeResult, data: bytes) -> None:
    """Push a raw input with these bytes of data."""
    body = json.dumps(make_result(data=None)).encode().removesuffix(b"}") + b', "data": ' + data + b"}"
    answer = await results.client.post("/raw_input", content=body)
    assert answer.status_code == 201, answer.text


async def raw(results: "ResultsUnderTest", path: str = PATH, **headers: str) -> tuple[httpx.Response, bytes]:
    """An answer, and its body as it travelled."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with results.client.stream("GET", path, headers={"Accept-Encoding": "identity"} | names) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_the_same_bytes_compressed_or_not(
    results: "ResultsUnderTest", make_result: MakeResult, size: int
) -> None:
    data = some_json(size)
    await push(results, make_result, data)
    plain, body = await raw(results)
    packed, frames = await raw(results, Accept_Encoding="gzip, zstd")

    assert body.endswith(b',"data":' + data + b"}")
    assert plain.headers["content-length"] == str(len(body))
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "zstd"
    assert packed.headers.get("content-length") == (str(len(frames)) if size <= CHUNK_BYTES else None)
    decoder = ZstdDecoder()
    assert b"".join(decoder.decode(frames)) == body
    assert decoder.is_complete()
    if size <= CHUNK_BYTES:
        assert decompress(frames, len(body)) == body  # one frame, as readers expect that stop after the first
    assert len(frames) < len(body) * 0.6 or size < 1000


async def test_no_piece_ends_with_a_frame(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    """httpx and urllib3 fail where one from the network does."""
    await push(results, make_result, some_json(2 * CHUNK_BYTES + 1000))
    reader: ResultReader = results.app.state.reader
    stored = await reader.result(ResultKind.RAW, NAME, with_data=True)
    decoder = ZstdDecoder()
    ends = []
    async for piece in reader.frames(stored):
        assert [*decoder.decode(piece)]
        ends.append(decoder.is_complete())
    assert ends == [False, False, True]


@pytest.mark.parametrize("size", [300, 2 * CHUNK_BYTES + 1000])
async def test_clients_of_other_people(start_results: "StartResults", make_result: MakeResult, size: int) -> None:
    async with start_results() as running, serve(running.app) as url:
        data = some_json(size)
        await push(running, make_result, data)
        async with httpx.AsyncClient(base_url=url) as client:
            plain = await client.get(PATH, headers={"Accept-Encoding": "identity"})
        curl = ["curl", "--silent", "--fail", "--header", "Accept-Encoding: zstd", "--compressed", url + PATH]
        process = await _run(curl)
    assert plain.content.endswith(data + b"}")
    assert process == plain.content


async def _run(command: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


@pytest.mark.parametrize(
    ("header", "compressed"),
    [
        ("zstd", True),
        ("gzip, deflate, br, zstd", True),
        ("ZSTD;q=0.5", True),
        ("identity;q=0.5, zstd;q=0.5", True),
        ("identity;q=0, *", True),
        ("", False),
        ("*", False),
        ("gzip", False),
        ("zstd;q=0", False),
        ("zstd;q=0.000, gzip", False),
        ("identity, zstd;q=0.9", False),
        ("zstd;q=high", False),
        ("identity;q=0", False),
        (",;=,q=,", False),
    ],
)
async def test_who_is_sent_zstd(
    results: "ResultsUnderTest", make_result: MakeResult, header: str, compressed: bool
) -> None:
    await push(results, make_result, b"[1, 2]")
    answer, _ = await raw(results, Accept_Encoding=header)
    assert answer.status_code == 200
    assert ("content-encoding" in answer.headers) is compressed
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_tag_is_of_what_is_sent(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await push(results, make_result, b"[1, 2]")
    plain, _ = await raw(results)
    again, _ = await raw(results, "/raw_input/2024-01-01T21:00:00+09:00-mmlu-run-1")
    packed, _ = await raw(results, Accept_Encoding="zstd")
    correction = {"author": "ada", "reason": "the wrong split"}
    await results.client.post(f"{PATH}/invalidation", json=correction)
    invalidated, _ = await raw(results)
    await results.client.post(f"{PATH}/restoration", json=correction)
    restored, _ = await raw(results)

    tags = [answer.headers["etag"] for answer in (plain, again, packed, invalidated, restored)]
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)
    assert tags[0] == tags[1]
    assert len(set(tags)) == 4
    assert json.loads((await raw(results))[1])["history"][-1]["action"] == "restored"


@pytest.mark.parametrize("encoding", ["identity", "zstd"])
async def test_what_a_caller_has_is_not_sent_again(
    results: "ResultsUnderTest", make_result: MakeResult, encoding: str
) -> None:
    await push(results, make_result, some_json(100_000))
    tag = (await raw(results, Accept_Encoding=encoding))[0].headers["etag"]
    results.database["blobs"].drop()  # what is not read cannot be missed
    for known in (tag, f"W/{tag}", f'"other", {tag}', f'"a,b" ,W/"c",{tag}', "*"):
        answer, body = await raw(results, Accept_Encoding=encoding, If_None_Match=known)
        assert (answer.status_code, body) == (304, b"")
        assert (answer.headers["etag"], answer.headers["vary"]) == (tag, "Accept-Encoding")
        assert "content-type" not in answer.headers
    other = "zstd" if encoding == "identity" else "identity"
    assert (await raw(results, Accept_Encoding=other, If_None_Match=tag))[0].status_code == 500


@pytest.mark.parametrize("unknown", ['"other"', "W/", "nonsense", '"', ""])
async def test_what_a_caller_has_not_is_sent(
    results: "ResultsUnderTest", make_result: MakeResult, unknown: str
) -> None:
    await push(results, make_result, b"[1, 2]")
    answer, body = await raw(results, If_None_Match=unknown)
    assert (answer.status_code, json.loads(body)["data"]) == (200, [1, 2])
    absent, _ = await raw(results, "/raw_input/none", If_None_Match="*")
    assert absent.status_code == 404


@pytest.mark.parametrize("path", ["/raw_input", "/standardized_output", "/benchmarks", "/models", "/sources"])
async def test_lists_have_tags_too(results: "ResultsUnderTest", make_result: MakeResult, path: str) -> None:
    parameters = {} if path == "/standardized_output" else {"limit": "2"}
    first = await results.client.get(path, params=parameters)
    same = await results.client.get(path, params=parameters, headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    for kind in ("raw_input", "standardized_output"):
        await results.client.post(f"/{kind}", json=make_result())
    changed = await results.client.get(path, params=parameters, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    "path", ["/raw_input", "/raw_input?limit=1&total=true", PATH, "/benchmarks", "/models?kind=raw_input", "/sources"]
)
async def test_head_is_get_without_the_body(results: "ResultsUnderTest", make_result: MakeResult, path: str) -> None:
    await push(results, make_result, some_json(100_000))
    for encoding in ("identity", "zstd"):
        headers = {"Accept-Encoding": encoding}
        whole = await results.client.get(path, headers=headers)
        head = await results.client.head(path, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        # How long it is compressed is not known without reading it.
        unknown = {"x-request-id"} | ({"content-length"} if encoding == "zstd" and path == PATH else set())
        assert {name: value for name, value in whole.headers.items() if name not in unknown} == {
            name: value for name, value in head.headers.items() if name not in unknown
        }
        known = await results.client.head(path, headers=headers | {"If-None-Match": whole.headers["etag"]})
        assert known.status_code == 304
    assert (await results.client.head("/raw_input/none")).status_code == 404


ODD_NAMES = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "a%0d%0aSet-Cookie:%20a=b",
    "a%00b",
    "a" * 10_000,
    "%ED%A0%80",
    "%FF%FE",
    "$where",
    "%7B%22$gt%22:%22%22%7D",
    "!",
    "!x",
    "2024-01-01T12:00:00-mmlu-run-1",
    "2024-01-01T12:00:00Z",
    "2024-01-01T12:00:00Z-",
    "2024-99-01T12:00:00Z-mmlu-run-1",
    f"{NAME}%00",
    f"{NAME}%20",
    NAME.lower(),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: name[:40])
async def test_names_that_are_none(results: "ResultsUnderTest", make_result: MakeResult, name: str) -> None:
    await push(results, make_result, b"[1, 2]")
    for kind in ("raw_input", "standardized_output"):
        answer = await results.client.get(f"/{kind}/{name}")
        found = name == NAME.lower() and kind == "raw_input"  # the time's letters may be small
        assert answer.status_code == (200 if found else 404), answer.text
        if not found:
            assert answer.json()["type"] == "urn:scorehouse:problem:not-found"
            assert len(answer.json()["detail"]) < (1000 if len(name) < 1000 else 11_000)
        assert "set-cookie" not in answer.headers


async def test_large_data_is_whole_or_broken_off(start_results: "StartResults", make_result: MakeResult) -> None:
    """A chunk that is gone is a problem as long as it can be, and afterwards never looks like an answer."""
    async with start_results() as running, serve(running.app) as url:
        data = some_json(2 * CHUNK_BYTES + 1000)
        await push(running, make_result, data)
        blob = running.database["raw_input"].find_one({})["blob"]  # type: ignore[index]
        running.database["blobs"].delete_one({"_id": f"{blob}/1"})
        async with httpx.AsyncClient(base_url=url) as client:
            for encoding in ("identity", "zstd"):
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    await client.get(PATH, headers={"Accept-Encoding": encoding})
            running.database["blobs"].delete_one({"_id": f"{blob}/0"})
            for encoding in ("identity", "zstd"):
                answer = await client.get(PATH, headers={"Accept-Encoding": encoding})
                assert (answer.status_code, answer.json()["type"]) == (500, "urn:scorehouse:problem:internal")
        assert sha256(data).hexdigest() == blob or blob.startswith("u-")

"""Bodies of more than 4 MiB, which are stored while they arrive: what is wrong shows late, and leaves nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from shared.compression import ZstdDecoder
from shared.problems import StoreUnavailable

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"
IDENTITY = {"Accept-Encoding": "identity"}
MIB = 1024 * 1024


def questions(count: int, **last: Any) -> bytes:
    rows = [
        {"question_id": f"q{number}", "score": 1.0, "answer": "x" * 1000, "metadata": {"subject": "law"}}
        for number in range(count)
    ]
    rows[-1] |= last
    return json.dumps({"questions": rows}).encode()


LARGE = questions(6000)


def body_of(document: dict[str, Any], data: bytes, *, data_first: bool = False) -> bytes:
    rest = json.dumps({key: value for key, value in document.items() if key != "data"}).encode()[1:-1]
    return b'{"data":' + data + b"," + rest + b"}" if data_first else b"{" + rest + b',"data":' + data + b"}"


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


@pytest.mark.parametrize("data_first", [False, True])
@pytest.mark.parametrize("kind", ["raw_input", "standardized_output"])
async def test_what_comes_back_is_what_went_in(
    results: "ResultsUnderTest", make_result: MakeResult, kind: str, data_first: bool
) -> None:
    odd = b'{"n": ' + b"1234567890" * 600 + b', "x":1.0,"y":1, "\\u00e9": "\xc3\xa9", "": [1e2 ,-0], ' + LARGE[1:]
    first = await results.client.post(f"/{kind}", content=in_pieces(body_of(make_result(), odd, data_first=data_first)))
    kept = await results.client.get(f"/{kind}/{NAME}", headers=IDENTITY)

    assert (first.status_code, first.json()["questions"]) == (201, 6000 if kind == "standardized_output" else 0)
    packed = await results.client.get(f"/{kind}/{NAME}", headers={"Accept-Encoding": "zstd"})
    # httpx decodes zstd only where a package is installed that this project does not need.
    unpacked = b"".join(ZstdDecoder().decode(packed.content)) if packed.content[:1] != b"{" else packed.content
    # Not compared in the assertions themselves: to show how megabytes differ would take minutes.
    ends_as_sent, is_same = kept.content.endswith(b',"data":' + odd + b"}"), unpacked == kept.content
    assert (ends_as_sent, is_same) == (True, True)
    assert int(kept.headers["content-length"]) == len(kept.content)
    assert packed.headers["content-encoding"] == "zstd"


async def test_pushed_again_and_changed(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    path = "/standardized_output"
    await results.client.post(path, content=body_of(make_result(), LARGE))
    before = results.stored()
    again = await results.client.post(path, content=body_of(make_result(), LARGE, data_first=True))
    changed = await results.client.post(path, content=body_of(make_result(), questions(6000, score=0)))
    small = await results.client.post(path, json=make_result())

    assert [answer.status_code for answer in (again, changed, small)] == [200, 409, 409]
    assert "/invalidation" in changed.json()["detail"]
    assert results.stored() == before


@pytest.mark.parametrize(
    ("data", "data_first", "status", "place"),
    [
        (LARGE[:-2] + b",]}", False, 400, "line 1 column"),
        (LARGE[:-1] + b',"x":NaN}', True, 400, "line 1 column"),
        (questions(6000, score=7), False, 422, "data.questions[5999].score"),
        (questions(6000, score=7), True, 422, "data.questions[5999].score"),
        (questions(6000, question_id="q0"), False, 422, "data.questions[5999]"),
        (questions(6000, metadata={"subject": 3}), True, 422, "data.questions[5999].metadata.subject"),
        (b'"' + LARGE.replace(b'"', b'\\"')[:-1] + b'"', False, 422, "line 1 column"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    results: "ResultsUnderTest", make_result: MakeResult, data: bytes, data_first: bool, status: int, place: str
) -> None:
    body = body_of(make_result(), data, data_first=data_first)
    refused = await results.client.post("/standardized_output", content=in_pieces(body))
    assert refused.status_code == status, refused.text
    assert place in refused.text
    assert results.stored() == {}


async def test_who_leaves_in_the_middle_leaves_nothing(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    body = body_of(make_result(), LARGE)
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for start in range(0, 6_000_000, 500_000):
        messages.put_nowait({"type": "http.request", "body": body[start : start + 500_000], "more_body": True})
    messages.put_nowait({"type": "http.disconnect"})
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/raw_input", "raw_path": b"/raw_input", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"test"), (b"transfer-encoding", b"chunked")], "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 80),
    }  # fmt: skip

    async def send(message: Any) -> None:
        pytest.fail(f"nobody is there to hear {message}")

    await results.app(scope, messages.get, send)
    assert results.stored() == {}


async def test_what_a_crash_left_of_uploads_is_removed_after_a_day(
    start_results: "StartResults", make_result: MakeResult
) -> None:
    async with start_results() as results:
        await results.client.post("/raw_input", content=body_of(make_result(), LARGE))
        chunks = results.database["blobs"]
        [stored] = {document["_id"].partition("/")[0] for document in chunks.find({}, {"_id": 1})}
        kept = chunks.count_documents({})
        old, young = (
            f"u-{datetime.now(UTC) - timedelta(hours=hours):%Y%m%dT%H%M%S}-0123456789abcdef" for hours in (25, 23)
        )
        aged = f"u-20250101T000000-{stored.rpartition('-')[2]}"  # the stored one, as it is called a year later
        for number, document in enumerate(chunks.find().sort("_id").to_list()):
            chunks.insert_one({**document, "_id": f"{aged}/{number}"})
        chunks.delete_many({"_id": {"$regex": f"^{stored}/"}})
        results.database["raw_input"].update_one({}, {"$set": {"blob": aged}})
        chunks.insert_many([{"_id": f"{blob}/{number}", "zstd": b""} for blob in (old, young) for number in (0, 1)])
        chunks.insert_one({"_id": f"{old}-cut/7", "zstd": b""})  # removed before, but for a chunk that came late
    async with start_results() as results:
        async with asyncio.timeout(10):
            while results.database["blobs"].count_documents({}) > kept + 2:
                await asyncio.sleep(0.02)
        blobs = {document["_id"].partition("/")[0] for document in results.database["blobs"].find({}, {"_id": 1})}
        assert blobs == {aged, young}
        read = await results.client.get(f"/raw_input/{NAME}", headers=IDENTITY)
        assert read.content.endswith(LARGE + b"}")


async def test_equal_uploads_at_once(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    bodies = [body_of(make_result(), LARGE)] * 3 + [body_of(make_result(run_id="run-2"), LARGE)]
    answers = await asyncio.gather(
        *(results.client.post("/standardized_output", content=in_pieces(body)) for body in bodies)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 201, 201]
    for run_id in ("run-1", "run-2"):
        kept = await results.client.get(f"/standardized_output/2024-01-01T12:00:00Z-mmlu-{run_id}", headers=IDENTITY)
        assert kept.content.endswith(LARGE + b"}")
    assert results.stored() == {"standardized_output": 2, "feed": 2, "blobs": 4}


@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB, 8 * MIB + 1])
async def test_data_that_ends_with_a_chunk(results: "ResultsUnderTest", make_result: MakeResult, size: int) -> None:
    data = b'{"text":"' + token_hex(size // 2).encode()[: size - 11] + b'"}'
    assert (await results.client.post("/raw_input", content=in_pieces(body_of(make_result(), data)))).status_code == 201
    assert results.stored()["blobs"] == -(-len(data) // (4 * MIB))
    kept = await results.client.get(f"/raw_input/{NAME}", headers=IDENTITY)
    assert (len(data), kept.content.endswith(b',"data":' + data + b"}")) == (size, True)


async def test_little_data_in_a_large_body(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    body = body_of(make_result(), b" " * 5 * MIB + b"{}")
    answers = [await results.client.post("/raw_input", content=body) for _ in range(2)]
    small = await results.client.post("/raw_input", json=make_result(data={}))
    assert [answer.status_code for answer in (*answers, small)] == [201, 200, 200]
    assert (await results.client.get(f"/raw_input/{NAME}", headers=IDENTITY)).content.endswith(b',"data":{}}')
    assert results.stored() == {"raw_input": 1, "blobs": 1}


async def test_a_refusal_is_told_though_its_data_cannot_be_removed(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise StoreUnavailable("away")

    path = "/standardized_output"
    await results.client.post(path, content=body_of(make_result(), LARGE))
    monkeypatch.setattr("results_service.blobs.delete_upload", fail)
    bodies = [body_of(make_result(), data) for data in (LARGE, questions(6000, score=0.5), questions(6000, score=7))]
    answers = [await results.client.post(path, content=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [200, 409, 422]


async def test_data_that_was_removed_meanwhile_is_not_acknowledged(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        body = body_of(make_result(), LARGE)
        yield body[:5_000_000]
        while not (removed := results.database["blobs"].delete_many({}).deleted_count):
            await asyncio.sleep(0.01)
        assert removed == 1
        yield body[5_000_000:]

    answer = await results.client.post("/raw_input", content=slowly())
    assert answer.status_code == 503
    assert results.stored() == {}


async def test_a_large_body_over_the_limit_is_refused(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results(max_body_bytes=5_000_000) as results:
        with_length = await results.client.post("/raw_input", content=body_of(make_result(), LARGE))
        without = await results.client.post("/raw_input", content=in_pieces(body_of(make_result(), LARGE)))
        assert (with_length.status_code, without.status_code) == (413, 413)
        assert results.stored() == {}

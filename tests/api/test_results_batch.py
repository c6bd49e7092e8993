"""Batches: a line out for each line in, in order, while the body is still coming."""

import asyncio
import gzip
import json
from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from results_service.intake import NewResult
from shared.results import StoreStatus

if TYPE_CHECKING:
    from tests.conftest import Mongod, ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
PATH = "/standardized_output/batch"
MIB = 1024 * 1024


def lines(*documents: dict[str, Any] | bytes) -> bytes:
    return b"\n".join(item if isinstance(item, bytes) else json.dumps(item).encode() for item in documents)


def answers(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


class Conversation:
    """A request of which the test sends the body, and reads the answer, piece by piece."""

    def __init__(self, results: "ResultsUnderTest") -> None:
        self.to_service: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.from_service: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = asyncio.Event()
        """Whether the caller reads what it is sent."""
        self.reads.set()
        headers = [(b"host", b"test"), (b"transfer-encoding", b"chunked")]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": PATH, "raw_path": PATH.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": ("192.0.2.1", 1), "server": ("192.0.2.2", 80),
        }  # fmt: skip
        self.served = asyncio.create_task(results.app(scope, self.to_service.get, self._send))

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        await self.from_service.put(message)

    def say(self, block: bytes, *, more: bool = True) -> None:
        self.to_service.put_nowait({"type": "http.request", "body": block, "more_body": more})

    async def hear(self) -> list[dict[str, Any]]:
        """The next piece of the answer."""
        async with asyncio.timeout(10):
            while True:
                message = await self.from_service.get()
                if message.get("body"):
                    return answers(message["body"])


async def test_each_line_is_answered_in_order(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    await results.client.post("/standardized_output", json=make_result(run_id="old"))
    body = lines(
        make_result(run_id="a"),
        make_result(run_id="old"),
        b"  ",
        make_result(run_id="old", source="elsewhere"),
        make_result(run_id="b", data={"questions": [{"question_id": "q", "score": 9}]}),
        b'{"run_id": NaN}',
        make_result(run_id="a"),
        make_result(run_id="c"),
    )
    answer = await results.client.post(PATH, content=body)
    told = answers(answer.content)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [(line["line"], line["status"]) for line in told] == [
        (1, "created"), (2, "unchanged"), (4, "conflict"), (5, "refused"), (6, "refused"), (7, "unchanged"),
        (8, "created"),
    ]  # fmt: skip
    assert told[0] | {"sha256": ""} == {
        "line": 1, "status": "created", "result_name": "2024-01-01T12:00:00Z-mmlu-a", "unchanged": False, "sha256": "",
        "questions": 2, "warnings": [],
    }  # fmt: skip
    assert told[2]["result_name"] == "2024-01-01T12:00:00Z-mmlu-old"
    assert told[2]["problem"]["type"] == "urn:scorehouse:problem:result-conflict"
    assert told[3]["problem"]["faults"][0]["place"] == "data.questions[0].score"
    assert told[4]["problem"]["type"] == "urn:scorehouse:problem:malformed-json"
    assert results.stored() == {"standardized_output": 3, "feed": 3}


async def test_data_is_kept_as_in_a_push_by_itself(results: "ResultsUnderTest") -> None:
    document = (
        b'{"run_id":"r","benchmark_name":"b","timestamp":"2024-01-01T12:00:00Z","model_id":"m","source":"s",'
        b'"data":{"n": 123456789012345678901234567890, "x":1.0,  "y":1e2}}'
    )
    for kind in ("raw_input", "standardized_output"):
        answer = await results.client.post(f"/{kind}/batch", content=document + b"\r\n")
        assert [line["status"] for line in answers(answer.content)] == ["created"]
        stored = await results.client.get(f"/{kind}/2024-01-01T12:00:00Z-b-r")
        assert b'"data":{"n": 123456789012345678901234567890, "x":1.0,  "y":1e2}}' in stored.content


@pytest.mark.parametrize("kind", ["raw_input", "standardized_output"])
@pytest.mark.parametrize("size", [4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB])
async def test_a_long_line_is_kept_as_in_a_push_by_itself(
    results: "ResultsUnderTest", make_result: MakeResult, kind: str, size: int
) -> None:
    data = b'{"text":"' + token_hex(size // 2).encode()[: size - 11] + b'"}'
    rest = json.dumps(make_result(data=None)).encode()
    body = lines(make_result(run_id="before"), rest[:-1] + b',"data":' + data + b"}", make_result(run_id="after"))
    told = answers((await results.client.post(f"/{kind}/batch", content=body)).content)
    again = answers((await results.client.post(f"/{kind}/batch", content=body)).content)
    kept = await results.client.get(f"/{kind}/{told[1]['result_name']}", headers={"Accept-Encoding": "identity"})

    assert len(data) == size
    assert [line["status"] for line in told] == ["created"] * 3
    assert [line["status"] for line in again] == ["unchanged"] * 3
    assert kept.content.endswith(b',"data":' + data + b"}")


async def test_a_long_line_that_is_refused_leaves_nothing(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    long = make_result(data={"text": "x" * 5 * MIB, "questions": [{"question_id": "q", "score": 9}]})
    told = answers((await results.client.post(PATH, content=lines(long, make_result(run_id="b")))).content)
    assert [line["status"] for line in told] == ["refused", "created"]
    assert told[0]["problem"]["faults"][0]["place"] == "data.questions[0].score"
    assert results.stored() == {"standardized_output": 1, "feed": 1}


async def test_lines_of_one_name_and_other_content(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    texts = [token_hex(5000) for _ in range(3)]  # more than rides in an envelope
    body = lines(make_result(run_id="first"), *(make_result(data={"text": text}) for text in [*texts, texts[0]]))
    body += b"\n"  # or the last line would come in a group of its own, perhaps before the others
    told = answers((await results.client.post(PATH, content=body)).content)
    kept = await results.client.get(f"/standardized_output/{told[1]['result_name']}")

    assert [line["status"] for line in told] == ["created", "created", "conflict", "conflict", "unchanged"]
    assert kept.json()["data"] == {"text": texts[0]}
    assert results.stored() == {"standardized_output": 2, "feed": 2, "blobs": 1}


async def test_an_answer_comes_before_the_next_line_is_sent(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    talk = Conversation(results)
    for number in range(3):
        talk.say(lines(make_result(run_id=f"run-{number}")) + b"\n")
        [told] = await talk.hear()
        assert (told["line"], told["status"]) == (number + 1, "created")
    talk.say(b"", more=False)
    await talk.served


async def test_a_line_may_come_in_any_pieces(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    body = lines(make_result(run_id="a"), make_result(run_id="b"))
    talk = Conversation(results)
    for start in range(0, len(body), 7):
        talk.say(body[start : start + 7])
    talk.say(b"", more=False)
    told = [*await talk.hear(), *await talk.hear()]
    await talk.served
    assert [(line["line"], line["status"]) for line in told] == [(1, "created"), (2, "created")]


async def test_who_sends_all_before_reading_is_not_waited_for(
    results: "ResultsUnderTest", make_result: MakeResult
) -> None:
    talk = Conversation(results)
    talk.reads.clear()
    for number in range(50):
        talk.say(lines(make_result(run_id=f"run-{number}")) + b"\n")
    talk.say(b"", more=False)
    async with asyncio.timeout(10):
        while results.stored().get("feed", 0) < 50:
            await asyncio.sleep(0.01)
    talk.reads.set()
    await talk.served
    assert results.stored() == {"standardized_output": 50, "feed": 50}


async def test_a_body_is_not_read_faster_than_it_is_stored(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, stores = results.app.state.store.put, asyncio.Event()

    async def slow_put(result: NewResult) -> StoreStatus:
        await stores.wait()
        status: StoreStatus = await put(result)
        return status

    monkeypatch.setattr(results.app.state.store, "put", slow_put)
    talk = Conversation(results)
    for number in range(30):
        talk.say(lines(make_result(run_id=f"run-{number}")) + b"\n")
    talk.say(b"", more=False)
    done, _ = await asyncio.wait([talk.served], timeout=0.2)
    assert not done
    assert talk.to_service.qsize() >= 25  # three are being stored, one waits for its turn, one may be on its way
    stores.set()
    await talk.served
    assert results.stored() == {"standardized_output": 30, "feed": 30}


async def test_nothing_more_is_read_for_an_answer_that_broke_off(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: NewResult) -> StoreStatus:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(results.app.state.store, "put", fail)
    talk = Conversation(results)
    talk.say(lines(make_result()) + b"\n")
    while not (reading := [task for task in asyncio.all_tasks() if "_Batch.read" in repr(task)]):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await talk.served  # though the body has not ended
        await asyncio.wait(reading)
    assert results.stored() == {}


async def test_lines_that_are_too_long_do_not_keep_others_out(
    start_results: "StartResults", make_result: MakeResult
) -> None:
    async with start_results(max_line_bytes=2000) as results:
        long = make_result(run_id="long", data={"text": "x" * 200_000})
        answer = await results.client.post(PATH, content=lines(make_result(), long, make_result(run_id="c")))
        told = answers(answer.content)
        assert [line["status"] for line in told] == ["created", "refused", "created"]
        assert told[1]["problem"]["status"] == 413
        assert "MAX_LINE_BYTES" in told[1]["problem"]["detail"]


async def test_a_batch_has_at_most_so_many_lines(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results(max_batch_lines=3) as results:
        documents = [make_result(run_id=f"run-{number}") for number in range(5)]
        whole = await results.client.post(PATH, content=lines(*documents[:3]) + b"\n\n\n")
        assert [line["status"] for line in answers(whole.content)] == ["created"] * 3

        told = answers((await results.client.post(PATH, content=lines(*documents))).content)
        assert [line["status"] for line in told] == ["unchanged"] * 3 + ["refused"]
        assert (told[3]["line"], told[3]["problem"]["status"]) == (4, 413)
        assert results.stored()["standardized_output"] == 3


async def test_an_empty_batch_has_an_empty_answer(results: "ResultsUnderTest") -> None:
    answer = await results.client.post(PATH, content=b"")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_body_that_breaks_off_tells_where(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    headers = {"Content-Encoding": "gzip"}
    answer = await results.client.post(PATH, content=b"no gzip", headers=headers)
    assert answer.status_code == 400

    packed = gzip.compress(lines(*(make_result(run_id=f"run-{number}") for number in range(3000))))
    answer = await results.client.post(PATH, content=packed[:-20], headers=headers)
    told = answers(answer.content)
    assert answer.status_code == 200
    assert {line["status"] for line in told[:-1]} == {"created"}
    assert (told[-1]["line"], told[-1]["problem"]["status"]) == (len(told), 400)
    assert results.stored()["standardized_output"] == len(told) - 1


async def test_lines_fail_while_the_store_is_away(
    start_results: "StartResults", own_mongod: "Mongod", make_result: MakeResult
) -> None:
    async with start_results(mongo_url=own_mongod.url, mongo_timeout_s=1) as results:
        body = lines(*(make_result(run_id=f"run-{number}") for number in range(40)))
        own_mongod.stop()
        told = answers((await results.client.post(PATH, content=body)).content)
        assert [line["status"] for line in told] == ["failed"] * 40
        assert {line["problem"]["status"] for line in told} == {503}
        own_mongod.start()
        told = answers((await results.client.post(PATH, content=body)).content)
        assert [line["status"] for line in told] == ["created"] * 40

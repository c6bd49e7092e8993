"""The feed over HTTP: its order, its waiting, and what a crash left out of it."""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from results_service import feed

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]


async def read_feed(results: "ResultsUnderTest", **parameters: Any) -> list[dict[str, Any]]:
    """The feed's entries."""
    answer = await results.client.get("/feed", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_entries(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    pushed = [
        (await results.client.post("/standardized_output", json=make_result(run_id=f"run {number}"))).json()
        for number in range(5)
    ]
    await results.client.post("/raw_input", json=make_result())

    everything = await read_feed(results)
    assert [entry["seq"] for entry in everything] == [1, 2, 3, 4, 5]
    assert [entry["result_name"] for entry in everything] == [answer["result_name"] for answer in pushed]
    assert everything[0] == {
        "seq": 1,
        "kind": "result",
        "result_name": "2024-01-01T12:00:00Z-mmlu-run 0",
        "sha256": pushed[0]["sha256"],
        "href": "/standardized_output/2024-01-01T12%3A00%3A00Z-mmlu-run%200",
    }
    assert await read_feed(results, after=2, limit=2) == everything[2:4]
    assert await read_feed(results, after=5) == []
    assert await read_feed(results, after=99) == []


async def test_waiting_ends_with_the_entry(results: "ResultsUnderTest", make_result: MakeResult) -> None:
    waiting = asyncio.create_task(read_feed(results, after=0, wait_s=20))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await results.client.post("/standardized_output", json=make_result())
    async with asyncio.timeout(2):
        assert [entry["seq"] for entry in await waiting] == [1]


async def test_waiting_sees_what_another_instance_stores(
    start_results: "StartResults", make_result: MakeResult
) -> None:
    async with start_results() as one, start_results() as other:
        waiting = asyncio.create_task(read_feed(one, after=0, wait_s=20))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        await other.client.post("/standardized_output", json=make_result())
        async with asyncio.timeout(2):
            assert [entry["seq"] for entry in await waiting] == [1]


async def test_waiting_ends_with_its_time_and_with_the_service(results: "ResultsUnderTest") -> None:
    async with asyncio.timeout(5):
        assert await read_feed(results, wait_s=0.2) == []
        waiting = asyncio.create_task(read_feed(results, wait_s=30))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        results.app.state.feed.close()
        assert await waiting == []


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"after": "-1"}, "query.after"),
        ({"after": "x"}, "query.after"),
        ({"limit": "0"}, "query.limit"),
        ({"limit": "10001"}, "query.limit"),
        ({"wait_s": "31"}, "query.wait_s"),
        ({"wait_s": "nan"}, "query.wait_s"),
        ({"since": "1"}, "query.since"),
    ],
)
async def test_feed_refusals(results: "ResultsUnderTest", parameters: dict[str, str], place: str) -> None:
    answer = await results.client.get("/feed", params=parameters)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:scorehouse:problem:invalid-request")
    assert [fault["place"] for fault in answer.json()["faults"]] == [place]


async def forget_entry(results: "ResultsUnderTest") -> None:
    """Leave the store as a crash between the envelope and its acknowledgement does."""
    await results.app.state.store.finish()
    results.database["standardized_output"].update_many({}, {"$set": {"settled": False}})
    results.database["feed"].delete_many({})


async def test_start_enters_what_a_crash_kept_out(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as crashed:
        await crashed.client.post("/standardized_output", json=make_result())
        expected = await read_feed(crashed)
        await forget_entry(crashed)
    for _ in range(2):  # the second start has nothing left to do
        async with start_results() as again:
            assert await read_feed(again) == expected


async def test_start_finds_an_entry_whose_envelope_was_not_settled(
    start_results: "StartResults", make_result: MakeResult
) -> None:
    async with start_results() as crashed:
        for number in range(3):
            await crashed.client.post("/standardized_output", json=make_result(run_id=f"r{number}"))
        expected = await read_feed(crashed)
        await crashed.app.state.store.finish()
        crashed.database["standardized_output"].update_many({}, {"$set": {"settled": False}})
    async with start_results() as again:
        assert await read_feed(again) == expected
        assert again.database["standardized_output"].count_documents({"settled": False}) == 0


async def test_pushing_again_enters_what_a_crash_kept_out(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HEAD_TRUSTED_S", 0)  # the entry that is taken out here never was in after a crash
    await results.client.post("/standardized_output", json=make_result())
    expected = await read_feed(results)
    await forget_entry(results)
    for _ in range(2):
        again = await results.client.post("/standardized_output", json=make_result())
        assert (again.status_code, again.json()["unchanged"]) == (200, True)
        assert await read_feed(results) == expected


async def test_pushing_again_uses_data_that_a_crash_left(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HEAD_TRUSTED_S", 0)
    answers = [sha256(str(number).encode()).hexdigest() for number in range(1000)]  # too much to ride in an envelope
    document = make_result(data={"questions": [], "answers": answers})
    first = (await results.client.post("/standardized_output", json=document)).json()
    results.database["standardized_output"].delete_many({})
    results.database["feed"].delete_many({})
    again = await results.client.post("/standardized_output", json=document)
    kept = await results.client.get(f"/standardized_output/{first['result_name']}")
    assert (again.status_code, kept.status_code, kept.json()["data"]["answers"]) == (201, 200, answers)
    assert results.database["blobs"].count_documents({}) == 1
    assert [entry["seq"] for entry in await read_feed(results)] == [1]

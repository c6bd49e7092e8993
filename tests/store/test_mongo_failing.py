"""MongoDB failing in the middle of writes: nothing is acknowledged that is not safe, and sending it again mends all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from random import Random
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pymongo
import pytest

if TYPE_CHECKING:
    from tests.conftest import Mongod, ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
PATH = "/standardized_output"
COLLECTIONS = ("blobs", "standardized_output", "feed")
LATE = {"code": 64, "errmsg": "waiting for replication timed out"}


@contextmanager
def failing(client: "pymongo.MongoClient[dict[str, Any]]", mode: Any = "alwaysOn", **data: Any) -> Iterator[None]:
    """Commands fail inside the context."""
    client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
    yield
    client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.fixture
def beside(failing_mongod: "Mongod") -> "Iterator[pymongo.MongoClient[dict[str, Any]]]":
    """A client beside the service's."""
    with pymongo.MongoClient[dict[str, Any]](failing_mongod.url) as client:
        yield client


@pytest.fixture
async def service(
    start_results: "StartResults", failing_mongod: "Mongod"
) -> "AsyncIterator[Callable[[], ResultsUnderTest]]":
    """A results service over the mongod that can be made to fail."""
    async with start_results(mongo_url=failing_mongod.url, mongo_timeout_s=2) as running:
        yield lambda: running


def chunked(make_result: MakeResult, **changes: Any) -> dict[str, Any]:
    """A document with more data than rides in an envelope."""
    return make_result(data={"score": 1, "text": token_hex(5000)}, **changes)


async def told_of(results: "ResultsUnderTest") -> list[tuple[int, str]]:
    feed = await results.client.get("/feed", params={"limit": 10_000})
    return [(entry["seq"], entry["result_name"]) for entry in map(json.loads, feed.text.splitlines())]


@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_what_no_majority_has_is_not_acknowledged(
    service: "Callable[[], ResultsUnderTest]",
    beside: "pymongo.MongoClient[dict[str, Any]]",
    make_result: MakeResult,
    mongo_database: str,
    collection: str,
) -> None:
    results, document = service(), chunked(make_result)
    fault = {"failCommands": ["insert"], "namespace": f"{mongo_database}.{collection}", "writeConcernError": LATE}
    with failing(beside, **fault):
        refused = await results.client.post(PATH, json=document)
    again = await results.client.post(PATH, json=document)

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert again.status_code == (201 if collection == "blobs" else 200)
    name = again.json()["result_name"]
    assert await told_of(results) == [(1, name)]
    assert (await results.client.get(f"{PATH}/{name}")).json()["data"] == document["data"]


async def test_an_unchanged_result_that_no_majority_has_is_not_acknowledged(
    service: "Callable[[], ResultsUnderTest]",
    beside: "pymongo.MongoClient[dict[str, Any]]",
    make_result: MakeResult,
    mongo_database: str,
) -> None:
    results = service()
    for path in (PATH, "/raw_input"):
        await results.client.post(path, json=make_result())
        await results.app.state.store.finish()
        namespace = f"{mongo_database}.{path[1:]}"
        with failing(beside, failCommands=["update"], namespace=namespace, writeConcernError=LATE):
            assert (await results.client.post(path, json=make_result())).status_code == 503
        assert (await results.client.post(path, json=make_result())).status_code == 200


async def test_a_reply_that_comes_too_late_leaves_no_gap(
    start_results: "StartResults",
    failing_mongod: "Mongod",
    beside: "pymongo.MongoClient[dict[str, Any]]",
    make_result: MakeResult,
    mongo_database: str,
) -> None:
    async with start_results(mongo_url=failing_mongod.url, mongo_timeout_s=0.5) as results:
        slow = {"failCommands": ["insert"], "namespace": f"{mongo_database}.feed"}
        with failing(beside, blockConnection=True, blockTimeMS=1000, **slow):
            late = await results.client.post(PATH, json=make_result(run_id="late"))
        others = [await results.client.post(PATH, json=make_result(run_id=f"r{number}")) for number in range(3)]
        again = await results.client.post(PATH, json=make_result(run_id="late"))
        assert (late.status_code, again.status_code) == (503, 200)
        assert [other.status_code for other in others] == [201] * 3
        told = await told_of(results)
        assert [seq for seq, _ in told] == [1, 2, 3, 4]
        assert len({name for _, name in told}) == 4


@pytest.mark.parametrize("failing_mongod", [True, False], indirect=True, ids=["replica set", "standalone"])
async def test_many_writers_on_a_store_that_fails_now_and_then(
    start_results: "StartResults",
    failing_mongod: "Mongod",
    beside: "pymongo.MongoClient[dict[str, Any]]",
    make_result: MakeResult,
) -> None:
    chance = Random("failing")
    count = 30
    documents = [
        (chunked(make_result) if number % 3 else make_result()) | {"run_id": f"run-{number}"} for number in range(count)
    ]
    faults: list[dict[str, Any]] = [
        {"failCommands": ["insert"], "writeConcernError": LATE},
        {"failCommands": ["insert"], "closeConnection": True},
        {"failCommands": ["insert"], "errorCode": 50},
        {"failCommands": ["insert", "find", "update"], "errorCode": 189},
        {"failCommands": ["update"], "writeConcernError": LATE},
    ]
    acknowledged: dict[str, list[int]] = {}
    seen: list[int] = []

    async def push(number: int, results: "ResultsUnderTest") -> None:
        document, codes = documents[number], acknowledged.setdefault(documents[number]["run_id"], [])
        while not codes:
            answer = await results.client.post(PATH, json=document)
            assert answer.status_code in (200, 201, 503), answer.text
            if answer.status_code != 503:
                codes.append(answer.status_code)

    async def fail() -> None:
        for _ in range(25):
            with failing(beside, mode={"times": chance.randint(1, 3)}, **chance.choice(faults)):
                await asyncio.sleep(0.02)

    async def follow(results: "ResultsUnderTest") -> None:
        while len(seen) < count:
            answer = await results.client.get(
                "/feed", params={"after": seen[-1] if seen else 0, "wait_s": 1, "limit": 7}
            )
            if answer.status_code == 200:
                seen.extend(json.loads(line)["seq"] for line in answer.text.splitlines())

    async with (
        start_results(mongo_url=failing_mongod.url, mongo_timeout_s=2) as one,
        start_results(mongo_url=failing_mongod.url, mongo_timeout_s=2) as other,
    ):
        async with asyncio.timeout(60):
            following, fails = asyncio.create_task(follow(other)), asyncio.create_task(fail())
            # Each is pushed by two, who may be with the same instance or not.
            await asyncio.gather(
                *(push(number, one) for number in range(count)),
                *(push(number, chance.choice([one, other])) for number in range(count)),
            )
            await asyncio.gather(following, fails)
        told = await told_of(one)
        assert seen == [seq for seq, _ in told] == list(range(1, count + 1))
        assert len({name for _, name in told}) == count
        for document in documents:
            kept = await one.client.get(f"{PATH}/2024-01-01T12:00:00Z-mmlu-{document['run_id']}")
            assert kept.json()["data"] == document["data"]

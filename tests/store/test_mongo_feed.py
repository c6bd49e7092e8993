"""The feed's order with several writers on one database."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr

from results_service.feed import Event, Feed
from results_service.mongo import Mongo, connect
from shared.problems import StoreUnavailable


@pytest.fixture
async def mongo(mongo_url: str, mongo_database: str) -> AsyncIterator[Mongo]:
    async with connect(SecretStr(mongo_url), mongo_database, 5) as connected:
        yield connected


@pytest.fixture
async def feeds(mongo: Mongo) -> list[Feed]:
    """Two instances on one database, as two processes have."""
    pair = [Feed(mongo), Feed(mongo)]
    for feed in pair:
        await feed.prepare()
    return pair


def event(name: str) -> Event:
    return Event.of_result(name, "0" * 64)


async def test_many_writers_leave_no_gap(feeds: list[Feed]) -> None:
    names = [f"r{number}" for number in range(50)]
    # Every event is told twice, once to each instance, and some instances tell several at once.
    tellings = [feeds[0].append([event(name)]) for name in names]
    tellings += [feeds[1].append([event(name) for name in names[start : start + 5]]) for start in range(0, 50, 5)]
    await asyncio.gather(*tellings)

    entries = await feeds[0].read(0, 1000)
    assert [entry.seq for entry in entries] == list(range(1, 51))
    assert sorted(entry.result_name for entry in entries) == sorted(names)


async def test_a_reader_never_sees_a_gap(feeds: list[Feed]) -> None:
    async def write(feed: Feed, writer: int) -> None:
        for number in range(20):
            await feed.append([event(f"{writer}-{number}")])

    async def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < 80:
            seen += [entry.seq for entry in await feeds[1].read(seen[-1] if seen else 0, 7, wait_s=5)]
        return seen

    writers = [write(feeds[writer % 2], writer) for writer in range(4)]
    async with asyncio.timeout(30):
        seen, *_ = await asyncio.gather(follow(), *writers)
    assert seen == list(range(1, 81))


async def test_each_append_is_in_the_feed_when_it_returns(feeds: list[Feed]) -> None:
    async def append_and_look(feed: Feed, name: str) -> None:
        await feed.append([event(name)])
        assert name in {entry.result_name for entry in await feed.read(0, 1000)}

    await asyncio.gather(*(append_and_look(feeds[number % 2], f"r{number}") for number in range(30)))


async def test_writes_that_come_together_are_written_together(
    feeds: list[Feed], mongo_client: "pymongo.MongoClient[dict[str, Any]]", mongo_database: str
) -> None:
    before = mongo_client.admin.command("serverStatus")["opcounters"]["query"]
    await asyncio.gather(*(feeds[0].append([event(f"r{number}")]) for number in range(40)))
    queries = mongo_client.admin.command("serverStatus")["opcounters"]["query"] - before
    assert queries < 10  # each batch asks once for the head; forty appends one by one would ask forty times
    assert len(await feeds[0].read(0, 1000)) == 40


async def test_a_cancelled_writer_takes_nobody_along(feeds: list[Feed]) -> None:
    first = asyncio.create_task(feeds[0].append([event("first")]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(feeds[0].append([event(f"other-{number}")])) for number in range(5)]
    await asyncio.sleep(0)
    others[0].cancel()
    first.cancel()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(result) for result in results[2:]] == [type(None)] * 4
    entries = await feeds[0].read(0, 100)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert {f"other-{number}" for number in range(1, 5)} <= {entry.result_name for entry in entries}


async def test_head(feeds: list[Feed]) -> None:
    assert await feeds[0].head() == 0
    await feeds[1].append([event("a"), event("b")])
    assert await feeds[0].head() == 2


async def test_an_append_wakes_those_who_wait(feeds: list[Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results_service.feed.POLL_S", 30)
    waiting = asyncio.create_task(feeds[0].read(0, 10, wait_s=30))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await feeds[0].append([event("a")])
    async with asyncio.timeout(5):
        assert [entry.seq for entry in await waiting] == [1]


async def test_nobody_waits_for_an_answer_that_nobody_awaits(feeds: list[Feed]) -> None:
    async def gone() -> bool:
        return True

    async with asyncio.timeout(5):
        assert await feeds[0].read(0, 10, wait_s=30, is_gone=gone) == []


async def test_a_failed_write_fails_for_all_who_shared_it() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound but not listening, so whoever connects is refused
        async with connect(SecretStr(f"mongodb://127.0.0.1:{probe.getsockname()[1]}"), "any", 0.5) as mongo:
            feed = Feed(mongo)
            async with asyncio.timeout(3):  # twenty in a row would take ten seconds
                outcomes = await asyncio.gather(
                    *(feed.append([event(f"r{number}")]) for number in range(20)), return_exceptions=True
                )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 20


async def test_events_that_are_in_the_feed_already_leave_no_gap(feeds: list[Feed]) -> None:
    await feeds[0].append([event("a"), event("b")])
    await feeds[1].append([event("c"), event("a"), event("d"), event("c"), event("b"), event("e")])
    await feeds[0].append([event("f")])  # which trusts a head that is another instance's by now
    entries = await feeds[0].read(0, 100)
    assert [(entry.seq, entry.result_name) for entry in entries] == list(enumerate("abcdef", start=1))


async def test_a_feed_that_was_put_back_goes_on_from_there(
    feeds: list[Feed],
    mongo_client: "pymongo.MongoClient[dict[str, Any]]",
    mongo_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("results_service.feed.HEAD_TRUSTED_S", 0)
    await feeds[0].append([event("a"), event("b")])
    mongo_client[mongo_database]["feed"].delete_one({"_id": 2})
    await feeds[0].append([event("c")])
    assert [(entry.seq, entry.result_name) for entry in await feeds[0].read(0, 100)] == [(1, "a"), (2, "c")]


async def test_a_write_that_failed_is_not_taken_for_the_head(
    feeds: list[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    await feeds[0].append([event("a")])
    await feeds[1].append([event("b")])
    asked = feeds[0]._newest_head  # noqa: SLF001 - fails once, in the middle of a write

    async def fail_once() -> int:
        monkeypatch.setattr(feeds[0], "_newest_head", asked)
        raise StoreUnavailable("away")

    monkeypatch.setattr(feeds[0], "_newest_head", fail_once)
    with pytest.raises(StoreUnavailable):
        await feeds[0].append([event("c")])
    await feeds[0].append([event("d"), event("c")])
    assert [entry.seq for entry in await feeds[1].read(0, 100)] == [1, 2, 3, 4]


async def test_an_append_wakes_all_who_wait(feeds: list[Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results_service.feed.POLL_S", 30)
    waiting = [asyncio.create_task(feeds[0].read(0, 10, wait_s=30)) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0.3)
    assert not done
    await feeds[0].append([event("a")])
    async with asyncio.timeout(5):
        assert [[entry.seq for entry in read] for read in await asyncio.gather(*waiting)] == [[1]] * 3

"""What is left between the steps of a write, and who mends it: at start, now and then, beside a busy instance."""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pydantic import SecretStr

from results_service.abandoned_uploads import AbandonedUploads
from results_service.mongo import connect
from results_service.store import ResultStore

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
PATH = "/standardized_output"


async def fed(results: "ResultsUnderTest") -> list[str]:
    feed = await results.client.get("/feed", params={"limit": 10_000})
    return [json.loads(line)["result_name"] for line in feed.text.splitlines()]


def another_store(results: "ResultsUnderTest") -> ResultStore:
    """As another instance has, but for the repairs that the service itself makes."""
    return ResultStore(results.app.state.mongo, results.app.state.feed)


async def test_a_clean_stop_leaves_nothing_to_repair(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as results:
        await asyncio.gather(
            *(results.client.post(PATH, json=make_result(run_id=f"run-{number}")) for number in range(30))
        )
    assert results.database["standardized_output"].count_documents({"settled": True}) == 30


async def test_a_stop_waits_for_what_nobody_waits_for(start_results: "StartResults", make_result: MakeResult) -> None:
    async with start_results() as results:
        pushing = [
            asyncio.create_task(results.client.post(PATH, json=make_result(run_id=f"run-{number}")))
            for number in range(5)
        ]
        while not any(commit._running for commit in results.app.state.store._commits.values()):  # noqa: SLF001
            await asyncio.sleep(0)
        for task in pushing:
            task.cancel()
        await asyncio.gather(*pushing, return_exceptions=True)
    stored = results.database["standardized_output"]
    assert stored.count_documents({}) == stored.count_documents({"settled": True}) > 0
    assert results.database["feed"].count_documents({}) == stored.count_documents({})


async def test_a_start_does_not_wait_for_what_others_are_storing(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = another_store(results)
    await results.client.post(PATH, json=make_result())
    await results.app.state.store.finish()
    envelopes = results.database["standardized_output"]
    [stored] = envelopes.find()
    enter = store._enter  # noqa: SLF001 - between its rounds
    rounds = 0

    async def enter_beside_a_writer(ids: list[str]) -> None:
        nonlocal rounds
        rounds += 1
        assert rounds < 3, "as long as somebody writes it goes on"
        await enter(ids)
        envelopes.insert_one(stored | {"_id": f"{stored['_id']}{rounds}", "settled": False})

    envelopes.update_one({}, {"$set": {"settled": False}})
    monkeypatch.setattr(store, "_enter", enter_beside_a_writer)
    await store.repair()
    assert rounds == 1


async def test_many_unsettled_results_are_all_repaired(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results_service.store._REPAIR_BATCH", 3)
    for number in range(8):
        await results.client.post(PATH, json=make_result(run_id=f"run-{number}"))
    await results.app.state.store.finish()
    expected = await fed(results)
    results.database["feed"].delete_many({})
    results.app.state.feed._written_head = None  # noqa: SLF001 - it is trusted for a second
    results.database["standardized_output"].update_many({}, {"$set": {"settled": False}})
    await results.app.state.store.repair()
    assert sorted(await fed(results)) == sorted(expected)
    assert results.database["standardized_output"].count_documents({"settled": False}) == 0


async def test_what_another_instance_left_is_mended_at_the_second_look(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, envelopes = another_store(results), results.database["standardized_output"]
    await results.client.post(PATH, json=make_result())
    await results.app.state.store.finish()
    looks = 0
    unsettled: list[int] = []
    look = store._fetch_unsettled_ids  # noqa: SLF001 - to count them, and to let one fail

    async def look_again() -> list[str]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("nobody foresaw this")
        ids: list[str] = await look()
        unsettled.append(len(ids))
        return ids

    envelopes.update_one({}, {"$set": {"settled": False}})
    monkeypatch.setattr(store, "_fetch_unsettled_ids", look_again)
    repairing = asyncio.create_task(store.keep_repaired(0.01))
    async with asyncio.timeout(10):
        while looks < 4:
            assert not repairing.done(), repairing
            await asyncio.sleep(0.01)
    repairing.cancel()
    await asyncio.wait([repairing])
    assert repairing.cancelled()
    assert unsettled[:3] == [1, 1, 0]  # what is unsettled at one look only is somebody's work in progress
    assert await fed(results) == ["2024-01-01T12:00:00Z-mmlu-run-1"]


async def test_a_name_that_was_taken_and_is_free_again_is_not_answered(
    results: "ResultsUnderTest", make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_them(_: str, ids: list[str]) -> list[str]:
        return ids  # as before a primary that stepped down took them back

    text = "".join(sha256(str(number).encode()).hexdigest() for number in range(500))  # not to ride in the envelope
    monkeypatch.setattr(results.app.state.store, "_find_stored", all_of_them)
    answer = await results.client.post(PATH, json=make_result(data={"text": text}))
    assert answer.status_code == 503
    assert results.stored() == {}


async def test_each_stored_upload_is_looked_at_once(
    mongo_url: str,
    mongo_database: str,
    mongo_client: "pymongo.MongoClient[dict[str, Any]]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("results_service.blobs._IDS_MOST", 3)
    kept, left = [f"u-20240101T00000{number}-{number}" for number in (0, 2, 4)], "u-20240101T000003-3"
    database = mongo_client[mongo_database]
    for kind, blob in zip(("raw_input", "standardized_output", "raw_input"), kept, strict=True):
        database[kind].insert_one({"blob": blob})
    database["blobs"].insert_many([{"_id": f"{blob}/{number}"} for blob in (*kept, left) for number in range(5)])
    async with connect(SecretStr(mongo_url), mongo_database, 5) as mongo:
        abandoned = AbandonedUploads(mongo)
        await abandoned.remove()
        chunks = [document["_id"] for document in database["blobs"].find()]
        assert sorted(chunks) == [f"{blob}/{number}" for blob in kept for number in range(5)]

        database["blobs"].insert_one({"_id": "u-20240101T000005-5/0"})
        database["raw_input"].delete_many({})  # as no result ever is: what was judged is not looked at again
        await abandoned.remove()
        assert database["blobs"].count_documents({}) == len(chunks)

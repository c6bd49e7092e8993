"""The time limit of reads: who ended a read decides what the caller is told."""

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from pydantic import SecretStr

from results_service.mongo import connect
from results_service.read_time import ReadTime
from shared.problems import TimeLimit

if TYPE_CHECKING:
    from tests.conftest import Mongod, StartResults


async def test_mongodb_ends_what_takes_too_long(
    mongo_url: str, mongo_database: str, mongo_client: "pymongo.MongoClient[dict[str, Any]]"
) -> None:
    mongo_client[mongo_database]["slow"].insert_one({})
    async with connect(SecretStr(mongo_url), mongo_database, 5) as mongo:
        for _ in range(5):  # the driver, given the same limit, would sometimes be first to give up
            reading = ReadTime(mongo, 0.1, "ask for less")
            began = time.monotonic()
            with pytest.raises(TimeLimit, match=r"within 0\.1 s \(setting READ_TIMEOUT_S\); ask for less"):
                async with reading.limited():
                    await mongo.collection("slow").find_one(
                        {"$where": "sleep(3000) || true"}, max_time_ms=reading.left_ms()
                    )
            assert time.monotonic() - began < 2
        with pytest.raises(TimeLimit):
            reading.left_ms()


async def test_a_store_that_hangs_is_away(start_results: "StartResults", own_mongod: "Mongod") -> None:
    with pymongo.MongoClient[dict[str, Any]](own_mongod.url) as client:
        process = int(client.admin.command("serverStatus")["pid"])
    async with start_results(mongo_url=own_mongod.url, mongo_timeout_s=0.5, read_timeout_s=0.5) as running:
        assert (await running.client.get("/raw_input")).status_code == 200
        os.kill(process, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for path in ("/raw_input", "/raw_input/2024-01-01T00:00:00Z-b-r", "/benchmarks"):
                answer = await running.client.get(path)
                assert (answer.status_code, answer.json()["type"]) == (503, "urn:scorehouse:problem:store-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() - began < 3 * 1.5
        finally:
            os.kill(process, signal.SIGCONT)

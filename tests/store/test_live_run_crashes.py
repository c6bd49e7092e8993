"""Live runs while instances are lost at any step: the result is what the acknowledged parts say."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from results_service.mongo import Mongo
from shared.problems import StoreUnavailable

if TYPE_CHECKING:
    import httpx
    import pymongo

    from tests.conftest import ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]
NAME = "2024-01-01T12:00:00Z-mmlu-run-1"
PARTS = 6


@dataclass
class Life:
    """How many more times an instance begins or ends a call of the driver before it is lost."""

    left: int

    def go_on(self) -> None:
        """Raise for ever once it is lost: nothing it does reaches the store any more."""
        if self.left == 0:
            raise StoreUnavailable("this instance is lost")
        self.left -= 1


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> dict[int, Life]:
    """Lives by the id of the Mongo whose they are; others live for ever."""
    lives: dict[int, Life] = {}
    answering = Mongo.answering

    @asynccontextmanager
    async def mortal(self: Mongo, timeout_s: float | None = None) -> AsyncIterator[None]:
        life = lives.get(id(self), Life(-1))
        life.go_on()
        async with answering(self, timeout_s):
            yield
        life.go_on()  # else the call was made, and its answer lost

    monkeypatch.setattr(Mongo, "answering", mortal)
    return lives


class Client:
    """Sends until it is answered, to one instance after the other."""

    def __init__(self, start: "StartResults", stack: AsyncExitStack, lives: dict[int, Life], random: Random) -> None:
        self._start, self._stack, self._lives, self._random = start, stack, lives, random
        self._instance: ResultsUnderTest | None = None
        self.lost = 0

    async def post(self, path: str, body: Any) -> "httpx.Response":
        """POST, again after each loss."""
        while True:
            if self._instance is None:
                self._instance = await self._stack.enter_async_context(self._start())
                self._lives[id(self._instance.app.state.mongo)] = Life(self._random.randrange(1, 60))
            answer = await self._instance.client.post(path, json=body)
            if answer.status_code != 503:
                return answer
            self._instance = None
            self.lost += 1


def part(number: int) -> list[dict[str, Any]]:
    """The questions of a part."""
    return [{"question_id": f"q{number}.{index}", "score": index % 2} for index in range(number % 3 + 1)]


@pytest.mark.parametrize("seed", range(8))
async def test_instances_lost_at_any_step(
    start_results: "StartResults",
    make_result: MakeResult,
    lives: dict[int, Life],
    mongo_client: "pymongo.MongoClient[dict[str, Any]]",
    mongo_database: str,
    seed: int,
) -> None:
    random = Random(seed)
    acknowledged: set[int] = set()

    async def work(client: Client, todo: list[int | None]) -> None:
        await client.post("/live_runs", make_result(data=None))
        for number in todo:
            if number is None:
                assert (await client.post(f"/live_runs/{NAME}/finish", {})).status_code in (200, 409)
                continue
            answer = await client.post(f"/live_runs/{NAME}/parts/{number}", {"questions": part(number)})
            if answer.status_code in (200, 201):
                acknowledged.add(number)
                told = {"event": {"$in": [f"part:{NAME}:{number}", f"result:{NAME}"]}}
                assert mongo_client[mongo_database]["feed"].count_documents(told), "acknowledged, but not in the feed"
            else:
                assert answer.json()["type"].endswith(":live-run-closed"), answer.text

    async with asyncio.timeout(60), AsyncExitStack() as stack:  # a store that is really away is answered 503 for ever
        clients = [Client(start_results, stack, lives, random) for _ in range(2)]
        todos: list[list[int | None]] = []
        for _ in clients:
            todo: list[int | None] = [*range(1, PARTS + 1)]
            random.shuffle(todo)
            todos.append(todo)
        todos[1].insert(random.randrange(1, PARTS + 1), None)
        await asyncio.gather(*(work(client, todo) for client, todo in zip(clients, todos, strict=True)))
        assert sum(client.lost for client in clients), "no instance was lost: nothing was tested"

        last = await stack.enter_async_context(start_results())
        finished = await last.client.post(f"/live_runs/{NAME}/finish")
        assert finished.status_code == 200, finished.text
        result = (await last.client.get(f"/standardized_output/{NAME}")).json()
        numbers = sorted({int(question["question_id"][1:].split(".")[0]) for question in result["data"]["questions"]})
        assert acknowledged <= set(numbers)
        assert result["data"]["questions"] == [question for number in numbers for question in part(number)]
        assert result["sha256"] == finished.json()["sha256"]

        lines = (await last.client.get("/feed")).text.splitlines()
        entries = [json.loads(line) for line in lines]
        assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
        events = [document["event"] for document in last.database["feed"].find()]
        assert len(events) == len(set(events))
        assert [entry["kind"] for entry in entries].count("finished") == 1
        assert last.database["live_runs"].count_documents({"settled": False}) == 0
        assert "live_parts" not in last.stored()

"""Answers over a real store while others write: no reader sees less than was acknowledged before it asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from random import Random

import pytest

from analysis_service.answer_cache import Asked, open_answers
from analysis_service.reader import Reader
from analysis_service.schema import prepare_schema
from shared.registry.load import load_registry
from tests.run_rows import COUNTED, UNCOUNTED, Writer, reads
from tests.store.conftest import OpenStore

REGISTRY = load_registry(None)
INSTANCES, READERS, WRITES = 2, 8, 60


class Counted:
    """How many runs there are."""

    def __init__(self, runs: int, data_version: str) -> None:
        self.runs = runs
        self.data_version = data_version

    def model_dump_json(self) -> str:
        return str(self.runs)


async def count_runs(reader: Reader, benchmark: str) -> Counted:
    async with reader.snapshot() as snapshot:
        return Counted(len(snapshot.runs_of(benchmark).runs), snapshot.data_version([benchmark]))


@pytest.fixture
async def writer(open_store: OpenStore) -> AsyncIterator[Writer]:
    async with open_store() as database:
        await prepare_schema(database, REGISTRY)
        yield Writer(database)


async def test_no_reader_sees_less_than_was_acknowledged_before_it_asked(open_store: OpenStore, writer: Writer) -> None:
    acknowledged = dict.fromkeys((COUNTED, UNCOUNTED), 0)
    is_done = asyncio.Event()
    seen = 0

    async with AsyncExitStack() as stack:
        instances = []
        for _ in range(INSTANCES):
            database = await stack.enter_async_context(open_store(size=2))
            reader = Reader(database, REGISTRY, 1000)
            instances.append((reader, await stack.enter_async_context(open_answers(reader, 100_000))))

        async def read(number: int) -> None:
            nonlocal seen
            random = Random(number)
            while not is_done.is_set():
                reader, answers = random.choice(instances)
                benchmark = random.choice([COUNTED, UNCOUNTED])
                before = acknowledged[benchmark]
                asked = Asked("count", (benchmark,), (benchmark,))
                answer = await answers.fetch(asked, partial(count_runs, reader, benchmark))
                assert int(answer.body) >= before
                seen += 1

        async def write() -> None:
            try:
                for number in range(1, WRITES + 1):
                    benchmark = (COUNTED, UNCOUNTED)[number % 3 == 0]
                    await writer.put(number, benchmark)
                    acknowledged[benchmark] += 1
                    target = seen + READERS  # so that some answers are of the cache
                    while seen < target and not failed():
                        await asyncio.sleep(0)
            finally:
                is_done.set()

        def failed() -> bool:
            return any(task.done() for task in reading)

        reading = [asyncio.create_task(read(number)) for number in range(READERS)]
        await asyncio.gather(write(), *reading)

        for benchmark, runs in acknowledged.items():
            asked = Asked("count", (benchmark,), (benchmark,))
            told = [await answers.fetch(asked, partial(count_runs, reader, benchmark)) for reader, answers in instances]
            assert [int(answer.body) for answer in told] == [runs] * INSTANCES
            assert len({answer.etag for answer in told}) == 1, "instances agree"
        assert all(answers.hits and answers.misses for _, answers in instances)


async def test_a_store_that_went_back_is_noticed_though_nobody_asks(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be beyond the version that is known before anybody does, and would look as if it had just gone on."""
    monkeypatch.setattr("analysis_service.answer_cache.LOOK_EVERY_S", 0.001)
    database = writer.database
    reader = Reader(database, REGISTRY, 1000)

    async def seen(name: str, times: int) -> None:
        async with asyncio.timeout(20):
            while reads(database, name) < times:
                await asyncio.sleep(0.001)

    async with open_answers(reader, 100_000):
        await writer.put(1)
        await seen("runs changed since", 1)
        await writer.set_state(version=0, token=0)
        await seen("all runs", 2)

"""Shared reads: what a read tells is never older than the request, and nobody harms the others."""

import asyncio
from random import Random

import pytest

from analysis_service.shared_reads import SharedReads


class Store:
    """A number that grows, and how often it was read. A read sees it as it begins, and tells it when it may."""

    def __init__(self) -> None:
        self.version = 0
        self.reads = 0
        self.may_tell = asyncio.Event()
        self.began = asyncio.Event()
        self.failure: Exception | None = None

    async def read(self) -> int:
        self.reads += 1
        seen = self.version
        self.began.set()
        await self.may_tell.wait()
        if self.failure is not None:
            raise self.failure
        return seen


async def test_all_who_come_before_a_read_begins_share_it_and_who_come_later_get_the_next() -> None:
    store = Store()
    reads = SharedReads(store.read)
    before = [asyncio.create_task(reads.next()) for _ in range(50)]
    await store.began.wait()
    store.version = 1
    during = [asyncio.create_task(reads.next()) for _ in range(50)]
    await asyncio.sleep(0)
    store.may_tell.set()

    assert set(await asyncio.gather(*before)) == {0}
    assert set(await asyncio.gather(*during)) == {1}
    assert store.reads == 2


async def test_who_goes_away_harms_nobody() -> None:
    store = Store()
    reads = SharedReads(store.read)
    first, second = (asyncio.create_task(reads.next()) for _ in range(2))
    await store.began.wait()
    third, fourth = (asyncio.create_task(reads.next()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    third.cancel()
    store.may_tell.set()

    assert list(await asyncio.gather(second, fourth)) == [0, 0]
    assert store.reads == 2
    assert first.cancelled() and third.cancelled()  # noqa: PT018 - one thing


async def test_an_error_goes_to_those_who_wait_for_it_and_the_next_read_is_new() -> None:
    store = Store()
    reads = SharedReads(store.read)
    failing = [asyncio.create_task(reads.next()) for _ in range(3)]
    await store.began.wait()
    store.failure = OSError("away")
    store.may_tell.set()

    assert [str(error) for error in await asyncio.gather(*failing, return_exceptions=True)] == ["away"] * 3
    store.failure = None
    assert await reads.next() == 0
    assert store.reads == 2


async def test_closing_ends_the_read_and_the_waiting() -> None:
    store = Store()
    reads = SharedReads(store.read)
    first = asyncio.create_task(reads.next())
    await store.began.wait()
    second = asyncio.create_task(reads.next())
    await asyncio.sleep(0)
    await reads.close()

    for waiter in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await waiter
    store.may_tell.set()
    assert await reads.next() == 0, "it may be asked again"


@pytest.mark.parametrize("seed", range(20))
async def test_no_answer_is_older_than_its_request(seed: int) -> None:
    """Writers, readers, slow and failing reads and people who leave, in a random order."""
    random = Random(seed)
    version = 0

    async def pause() -> None:
        for _ in range(random.randrange(6)):
            await asyncio.sleep(0)

    async def read() -> int:
        await pause()
        seen = version
        await pause()
        if random.random() < 0.1:
            raise OSError("away")
        return seen

    reads = SharedReads(read)
    told: list[int] = []

    async def ask() -> None:
        await pause()
        known = version
        try:
            seen = await reads.next()
        except OSError:
            return
        assert seen >= known
        told.append(seen)

    async def write() -> None:
        nonlocal version
        await pause()
        version += 1

    tasks: list[asyncio.Task[None]] = []
    for _ in range(300):
        tasks.append(asyncio.create_task(ask()))
        if random.random() < 0.2:
            await write()
        if random.random() < 0.1:
            random.choice(tasks).cancel()
        await pause()
    done = await asyncio.gather(*tasks, return_exceptions=True)

    assert [error for error in done if error is not None and not isinstance(error, asyncio.CancelledError)] == []
    assert len(told) > 150

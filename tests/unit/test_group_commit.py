"""Group commit: what comes while a write is under way shares the next one."""

import asyncio
import gc
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from results_service.group_commit import GroupCommit


class Store:
    """Remembers the groups it was given; a write lasts until `open` is set."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def write(self, items: Sequence[int]) -> list[str]:
        self.groups.append(list(items))
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return [f"wrote {item}" for item in items]


def commit(store: Store, *, most: int = 100, heaviest: int = 1000, lanes: int = 1) -> GroupCommit[int, str]:
    return GroupCommit(store.write, weight=lambda item: item, heaviest=heaviest, most=most, lanes=lanes)


async def submit_all(group: GroupCommit[int, str], items: Sequence[int]) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(group.submit(item)) for item in items]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


async def test_who_comes_during_a_write_shares_the_next_one() -> None:
    store = Store()
    group = commit(store)
    first = await submit_all(group, [1])
    others = await submit_all(group, [2, 3, 4])
    store.open.set()

    assert await asyncio.gather(*first, *others) == ["wrote 1", "wrote 2", "wrote 3", "wrote 4"]
    assert store.groups == [[1], [2, 3, 4]]


async def submit_one_a_turn(group: GroupCommit[int, str], count: int) -> list[asyncio.Task[str]]:
    """As requests come from many connections: each in a turn of the event loop of its own."""
    tasks = []
    for item in range(count):
        tasks.append(asyncio.create_task(group.submit(item)))
        await asyncio.sleep(0)
    return tasks


async def test_a_burst_is_waited_for_until_it_ends_or_is_enough() -> None:
    store = Store()
    store.open.set()
    group = GroupCommit(store.write, weight=lambda _: 1, heaviest=100, most=100, lanes=1, enough=4)
    await asyncio.gather(*await submit_one_a_turn(group, 3))
    assert store.groups == [[0, 1, 2]]

    store.groups.clear()
    await asyncio.gather(*await submit_one_a_turn(group, 6))
    assert len(store.groups[0]) == 4
    assert sorted(item for items in store.groups for item in items) == [0, 1, 2, 3, 4, 5]


async def test_groups_are_bounded_by_count_and_by_weight() -> None:
    store = Store()
    store.open.set()
    by_count, by_weight = commit(store, most=2), commit(store, heaviest=10)

    await asyncio.gather(*await submit_all(by_count, [1, 2, 3, 4, 5]))
    assert store.groups == [[1, 2], [3, 4], [5]]

    store.groups.clear()
    await asyncio.gather(*await submit_all(by_weight, [6, 4, 1, 50, 3]))
    assert store.groups == [[6, 4], [1], [50], [3]]


async def test_two_lanes_write_at_once_and_no_third() -> None:
    store = Store()
    group = commit(store, most=1, lanes=2)
    tasks = await submit_all(group, [1, 2, 3])
    assert store.groups == [[1], [2]]
    store.open.set()
    await asyncio.gather(*tasks)
    assert sorted(store.groups) == [[1], [2], [3]]


async def test_a_failed_write_fails_for_all_in_it_and_not_for_the_next() -> None:
    store = Store()
    group = commit(store)
    store.failure = RuntimeError("disk")
    store.open.set()
    outcomes = await asyncio.gather(*await submit_all(group, [1, 2]), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["disk", "disk"]

    store.failure = None
    assert await group.submit(3) == "wrote 3"


async def test_a_caller_who_leaves_does_not_take_the_write_along() -> None:
    store = Store()
    group = commit(store)
    first, second = await submit_all(group, [1, 2])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    store.open.set()

    assert await second == "wrote 2"
    assert sorted(item for items in store.groups for item in items) == [1, 2]


async def test_who_comes_just_as_the_last_lane_ends_is_not_forgotten() -> None:
    store = Store()
    store.open.set()
    group = commit(store)
    async with asyncio.timeout(5):
        # Each is submitted by the very step that hears of the one before.
        assert [await group.submit(item) for item in (1, 2, 3)] == ["wrote 1", "wrote 2", "wrote 3"]


async def test_a_write_that_tells_of_too_few_fails_for_all() -> None:
    async def write(items: Sequence[int]) -> list[str]:
        return ["one"]

    group = GroupCommit(write, weight=lambda item: item, heaviest=10, most=10, lanes=1)
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*await submit_all(group, [1, 2]), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
        assert await group.submit(1) == "one"  # the lane goes on


async def test_a_lane_that_is_cancelled_fails_its_group_and_another_takes_its_place() -> None:
    store = Store()
    group = commit(store)
    [caller] = await submit_all(group, [1])
    [lane] = group._running  # noqa: SLF001
    lane.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait([lane])
    assert lane.cancelled()
    store.open.set()
    async with asyncio.timeout(5):
        assert await group.submit(2) == "wrote 2"


async def test_a_lane_does_not_speak_for_the_request_that_opened_it() -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    async def write(items: Sequence[int]) -> list[str]:
        seen.append(request.get())
        return [""] * len(items)

    group = GroupCommit(write, weight=lambda item: item, heaviest=10, most=10)
    request.set("first")
    await group.submit(1)
    assert seen == ["none"]


async def test_finish_waits_for_what_was_submitted() -> None:
    store = Store()
    group = commit(store, most=1)
    tasks = await submit_all(group, [1, 2, 3])
    for task in tasks:
        task.cancel()  # nobody waits for them any more, but they are written all the same
    finishing = asyncio.create_task(group.finish())
    done, _ = await asyncio.wait([finishing], timeout=0.05)
    assert not done
    store.open.set()
    async with asyncio.timeout(5):
        await finishing
    assert store.groups == [[1], [2], [3]]


async def test_a_failure_that_nobody_waits_for_is_not_reported_as_forgotten() -> None:
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    store = Store()
    group = commit(store)
    caller = group.submit(1)
    caller.send(None)  # of a coroutine; a task that is dropped ends as this one does
    caller.close()
    store.failure = RuntimeError("disk")
    store.open.set()
    await group.finish()
    store.failure = None
    gc.collect()
    loop.set_exception_handler(None)
    assert not complaints, len(complaints)

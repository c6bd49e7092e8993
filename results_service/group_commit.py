"""Group commit: whoever comes while writes are under way shares the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


class GroupCommit(Generic[_Item, _Done]):
    """Gathers items of many callers into few writes.

    `write` is given at most `most` items whose weights come to at most `heaviest` (one heavier item goes by itself),
    and returns what became of each. It begins when a turn of the event loop brought nobody new, or `enough` wait: who
    comes in a burst goes in few groups, and the next burst is taken in while they are written. At most `lanes` writes
    are under way. A write that fails fails for everyone in it. A caller who is cancelled only stops waiting: what it
    handed in is written all the same, so a write is never half of what its group was.
    """

    def __init__(
        self,
        write: Callable[[Sequence[_Item]], Awaitable[Sequence[_Done]]],
        *,
        weight: Callable[[_Item], int],
        heaviest: int,
        most: int,
        lanes: int = 3,
        enough: int = 20,
    ) -> None:
        self._write = write
        self._weight = weight
        self._heaviest = heaviest
        self._most = most
        self._lanes = lanes
        self._enough = enough
        self._waiting: deque[tuple[_Item, asyncio.Future[_Done]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: _Item) -> _Done:
        """Write `item`, in company if there is any; what became of it."""
        done: asyncio.Future[_Done] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if len(self._running) < self._lanes:
            # In a context of its own: a lane outlives the request that opened it, and its log lines are not that one's.
            lane = asyncio.create_task(self._work(), context=Context())
            self._running.add(lane)
        return await done

    async def finish(self) -> None:
        """Return when nothing is being written and nothing waits to be."""
        while self._running:
            await asyncio.wait(self._running)

    async def _work(self) -> None:
        lane = asyncio.current_task()
        assert lane is not None  # noqa: S101 - coroutines run in tasks
        try:
            while self._waiting:
                await self._gather()
                if self._waiting:
                    await self._write_group(self._next_group())
        finally:
            # Here and not in a callback of the task, which comes later: who submits in between would wait for ever.
            self._running.discard(lane)

    async def _gather(self) -> None:
        before = -1
        while before < len(self._waiting) < self._enough:
            before = len(self._waiting)
            await asyncio.sleep(0)

    async def _write_group(self, group: Sequence[tuple[_Item, asyncio.Future[_Done]]]) -> None:
        try:
            outcomes = await self._write([item for item, _ in group])
            told = list(zip(group, outcomes, strict=True))
        except BaseException as error:
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
                    done.exception()  # its caller may be gone, and nobody else would look
            if not isinstance(error, Exception):
                raise
        else:
            for (_, done), outcome in told:
                if not done.done():
                    done.set_result(outcome)

    def _next_group(self) -> list[tuple[_Item, asyncio.Future[_Done]]]:
        group = [self._waiting.popleft()]
        weight = self._weight(group[0][0])
        while self._waiting and len(group) < self._most:
            weight += self._weight(self._waiting[0][0])
            if weight > self._heaviest:
                break
            group.append(self._waiting.popleft())
        return group

"""One read for all who wait for it: what it tells is never older than any of their requests."""

import asyncio
from asyncio import sleep
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Generic, TypeVar

_T = TypeVar("_T")


class SharedReads(Generic[_T]):
    """Reads that follow one another, each for whoever asked before it began.

    Whoever asks while one is under way gets the next: the one under way may have read already what changed since.
    """

    def __init__(self, read: Callable[[], Awaitable[_T]]) -> None:
        self._read = read
        self._waiting: list[asyncio.Future[_T]] = []
        self._reading: asyncio.Task[None] | None = None
        # Of nobody's request: the task goes on for as long as anybody asks.
        self._context = copy_context()

    async def next(self) -> _T:
        """What a read tells that begins after this call; or what it raises."""
        waiter: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_on(), context=self._context)
        return await waiter

    async def close(self) -> None:
        """End the read under way; whoever waits is cancelled."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _read_on(self) -> None:
        waiting: list[asyncio.Future[_T]] = []
        try:
            while self._waiting:
                await self._gather()
                waiting, self._waiting = self._waiting, []
                try:
                    told = await self._read()
                except Exception as error:  # noqa: BLE001 - it goes to those who asked
                    for waiter in waiting:
                        if not waiter.done():
                            waiter.set_exception(error)
                else:
                    for waiter in waiting:
                        if not waiter.done():  # those who went away have cancelled theirs
                            waiter.set_result(told)
        finally:
            self._reading = None
            for waiter in (*waiting, *self._waiting):
                waiter.cancel()
            self._waiting = []

    async def _gather(self) -> None:
        """Wait while a burst goes on: of many connections, each turn of the event loop serves some."""
        known = 0
        while known < len(self._waiting):
            known = len(self._waiting)
            await sleep(0)

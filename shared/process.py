"""How a service begins and ends as a process under uvicorn."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.problems import StoreUnavailable

log = structlog.get_logger(__name__)


_T = TypeVar("_T")


class StartFailed(Exception):
    """The service cannot start. The message is a sentence for whoever operates it."""


def share_arenas() -> None:
    """Have all threads allocate from two arenas, where the C library is glibc.

    It gives each of a pool's threads one of its own, and what one of them has freed the others cannot use: where every
    thread decodes some large result at some time, memory grows to several times what is in use.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def tune_interpreter() -> None:
    """Set the interpreter up for a service that answers thousands of requests a second. Call it when all is loaded.

    A driver's threads take the interpreter several times in each call, and by default wait up to 5 ms for it every time
    while the event loop is busy. And what was loaded at the start need not be gone through again and again for garbage:
    by default that stopped everything for tens of milliseconds.
    """
    sys.setswitchinterval(0.00005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class ExitOnFailedStart:
    """Ends the process with a sentence and exit code 1 when the application raises StartFailed at its start.

    Left to themselves, Starlette logs a traceback and uvicorn exits with 3.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        async def send_or_hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                held.append(message)  # Starlette sends its traceback before the exception arrives here
            else:
                await send(message)

        try:
            await self.app(scope, receive, send_or_hold)
        except StartFailed as failure:
            log.critical(str(failure))
            logging.shutdown()
            # uvicorn catches SystemExit too. Nothing is lost: the lifespan has closed what it had opened.
            os._exit(1)
        except BaseException:
            for message in held:
                await send(message)
            raise


async def keep_trying(
    start: Callable[[], Awaitable[_T]], *, store: str, timeout_s: float, stopping: asyncio.Event, pause_s: float = 0.5
) -> _T:
    """What `start()` returns once the store answers; StartFailed, naming `store`, after `timeout_s` or a stop."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await start()
        except StoreUnavailable:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise StartFailed(
                    f"{store} did not answer within {timeout_s:g} s (START_TIMEOUT_S). Is it running, are its address "
                    "and login right? The lines before this one tell what it said. Giving up."
                ) from None
            log.warning("the store does not answer yet; trying again", store=store, seconds_left=round(left))
        try:
            async with asyncio.timeout(min(pause_s, left)):
                await stopping.wait()
        except TimeoutError:
            continue
        raise StartFailed(f"stopped before {store} answered")


@contextmanager
def on_stop_signal(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` on the event loop as soon as SIGINT or SIGTERM arrives, then let uvicorn's handler have it.

    uvicorn ends the lifespan only after the last request is answered, so whoever answers late on purpose (a long poll)
    would otherwise hold up the end. Does nothing outside the main thread, where Python takes no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(notice)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in former:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

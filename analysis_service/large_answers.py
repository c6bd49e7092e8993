"""Places for answers that take much memory while they are made: few such are made at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from analysis_service.reader import Reader
from analysis_service.runs import Run
from shared.problems import PoolExhausted

LARGE_ANSWERS = 1_000_000
"""Answers whose questions are in memory at once: 24 bytes each, and some times as much while they are compared."""

_Answer_co = TypeVar("_Answer_co", covariant=True)


class NeedsPlace(Exception):
    """The answer is so large that it needs a place, and has none yet."""


class _Making(Protocol[_Answer_co]):
    def __call__(self, *, has_place: bool) -> Awaitable[_Answer_co]: ...


async def make_answer(reader: Reader, make: _Making[_Answer_co]) -> _Answer_co:
    """What `make` returns: tried without a place, and begun anew with one if it raises NeedsPlace.

    So whoever waits for a place holds no connection. PoolExhausted if none is free in time.
    """
    try:
        return await make(has_place=False)
    except NeedsPlace:
        pass
    async with _place(reader):
        return await make(has_place=True)


def check_place(runs: Iterable[Run], *, has_place: bool) -> None:
    """NeedsPlace if the questions of all `runs` together take much memory; no read is needed to tell."""
    if not has_place and sum(run.n_answers for run in runs) > LARGE_ANSWERS:
        raise NeedsPlace


@asynccontextmanager
async def _place(reader: Reader) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(reader.plan_timeout_s):
            await reader.large_answers.acquire()
    except TimeoutError:
        raise PoolExhausted(
            "Other answers about this much are being made; try again, or ask for fewer levels, runs or models.",
            retry_after_s=2,
        ) from None
    try:
        yield
    finally:
        reader.large_answers.release()

"""Answers kept in memory by what was asked and the version of the data, so that none is older than its request.

Each request first asks for the data's version now, in a read that it shares with all that came while the one before was
under way. What has the same version has not changed, however long ago it was answered.
"""

import asyncio
from asyncio import sleep
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from sys import getsizeof
from typing import Protocol

import structlog
from starlette.requests import ClientDisconnect

from analysis_service.database import survive_lost_replicas
from analysis_service.reader import Reader, data_version
from shared.entity_tags import entity_tag
from shared.problems import Problem

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
LARGEST_SHARE = 1 / 8
"""Of the cache for one answer; a larger one is not kept, as it would push too many others out."""
_OVERHEAD_BYTES = 600
"""Of an entry beside its texts."""


class Told(Protocol):
    """What a computation tells: a wire model with the version of the data that it is of."""

    @property
    def data_version(self) -> str: ...

    def model_dump_json(self) -> str:
        """The body of the answer."""


Compute = Callable[[], Awaitable[Told]]
Leave = Callable[[], Awaitable[None]]
"""Returns when the caller has gone away: nothing else tells whoever computes for it."""


async def _stay() -> None:
    await asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer depends on beside the data. Equal ones are the same question."""

    kind: str
    """Of request: the name of what computes it."""
    request: tuple[str, ...]
    """All that the caller said, however it was spelled."""
    benchmarks: tuple[str, ...] | None
    """Those whose data the answer is made of; None for all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer as it is sent, and its entity tag."""

    body: bytes
    etag: str
    """Made of the body alone: the same on every instance, whoever computed it, and never another's after a restore."""
    data_version: str


@dataclass(slots=True)
class _Computation:
    task: asyncio.Task[Answer]
    waiters: int = 0


_Key = tuple[Asked, str, int]
"""What was asked, the data's version, and the epoch of the store."""


class AnswerCache:
    """Answers, bounded by bytes; each computed once, however many ask for it at a time."""

    def __init__(self, reader: Reader, max_bytes: int) -> None:
        """With 0 bytes none is kept; simultaneous equal requests are computed once all the same."""
        self.hits = self.misses = self.shared = 0
        self._reader = reader
        self._kept = _Kept(max_bytes)
        self._computing: dict[_Key, _Computation] = {}

    @property
    def evictions(self) -> int:
        """Answers that went to make room."""
        return self._kept.evictions

    @property
    def entries(self) -> int:
        """Answers kept now."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """What they take."""
        return self._kept.bytes

    async def fetch(self, asked: Asked, compute: Compute, leave: Leave = _stay) -> Answer:
        """The answer to `asked` as of now or later, kept or computed; or what `compute` raises, which is not kept.

        ClientDisconnect if the caller leaves before it is computed.
        """
        catalog = await self._reader.current()
        key = (asked, data_version(catalog, self._reader.registry, asked.benchmarks), catalog.epoch)
        kept = self._kept.get(key)
        if kept is not None:
            self.hits += 1
            return kept
        return await self._share(key, compute, leave)

    async def compute(self, compute: Compute, leave: Leave = _stay) -> Answer:
        """The answer as of now or later, computed for this caller alone and not kept; ClientDisconnect as `fetch`."""
        await self._reader.current()
        computing = asyncio.ensure_future(_answer(compute))
        try:
            return await _unless_gone(computing, leave)
        finally:
            computing.cancel()

    async def close(self) -> None:
        """End the computations; whoever waits for one is cancelled."""
        tasks = [computation.task for computation in self._computing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _share(self, key: _Key, compute: Compute, leave: Leave) -> Answer:
        """Wait for a computation, which is cancelled when nobody waits for it any more."""
        computation = self._computing.get(key)
        if computation is None:
            self.misses += 1
            computation = _Computation(asyncio.create_task(self._compute(key, compute)))
            self._computing[key] = computation
        else:
            self.shared += 1
        computation.waiters += 1
        try:
            return await _unless_gone(computation.task, leave)
        finally:
            computation.waiters -= 1
            if not computation.waiters:
                computation.task.cancel()
                self._forget(key, computation.task)

    async def _compute(self, key: _Key, compute: Compute) -> Answer:
        asked, _, epoch = key
        try:
            answer = await _answer(compute)
            # It may be of a later version than was asked for.
            self._kept.keep((asked, answer.data_version, epoch), answer)
            return answer
        finally:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is one
            self._forget(key, task)

    def _forget(self, key: _Key, task: asyncio.Task[Answer]) -> None:
        """Whoever asks from now on gets another computation."""
        computation = self._computing.get(key)
        if computation is not None and computation.task is task:
            del self._computing[key]


@asynccontextmanager
async def open_answers(reader: Reader, max_bytes: int) -> AsyncIterator[AnswerCache]:
    """The answers of `reader`, and what is under way for them, which ends with the context."""
    answers = AnswerCache(reader, max_bytes)
    try:
        with suppress(Problem):  # the first request should not have to wait until all runs are read
            await reader.current()
        looking = asyncio.create_task(_look_on(reader))
        try:
            yield answers
        finally:
            looking.cancel()
            await asyncio.wait({looking})
    finally:
        await answers.close()
        await reader.close()


async def _look_on(reader: Reader) -> None:
    """Look at the version though nobody asks: a store that was restored is noticed before it has caught up again."""
    while True:
        await sleep(LOOK_EVERY_S)
        try:
            await reader.current()
        except Problem:
            continue  # requests tell
        except Exception:  # it must outlive what nobody foresaw
            log.exception("runs not looked at")


class _Kept:
    """The answers used last, as many as fit into some bytes; of what was asked, the one of the latest version."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = self.evictions = 0
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Asked, tuple[_Key, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: _Key) -> Answer | None:
        kept_key, answer = self._answers.get(key[0], (None, None))
        if kept_key != key:
            return None
        self._answers.move_to_end(key[0])
        return answer

    def keep(self, key: _Key, answer: Answer) -> None:
        asked = key[0]
        stale = self._answers.pop(asked, None)
        if stale is not None:  # nobody will ask for that version again
            self.bytes -= _size(asked, stale[1])
        if _size(asked, answer) > self._max_bytes * LARGEST_SHARE:
            return
        self._answers[asked] = key, answer
        self.bytes += _size(asked, answer)
        while self.bytes > self._max_bytes:
            oldest, (_, dropped) = self._answers.popitem(last=False)
            self.bytes -= _size(oldest, dropped)
            self.evictions += 1


def _size(asked: Asked, answer: Answer) -> int:
    return len(answer.body) + sum(map(getsizeof, asked.request)) + _OVERHEAD_BYTES


async def _unless_gone(task: asyncio.Task[Answer], leave: Leave) -> Answer:
    """What `task` returns, which goes on whatever becomes of this; ClientDisconnect if the caller leaves before."""
    leaving = asyncio.ensure_future(leave())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    if not task.done():
        raise ClientDisconnect
    return task.result()


@survive_lost_replicas
async def _answer(compute: Compute) -> Answer:
    told = await compute()
    body = told.model_dump_json().encode()
    return Answer(body, entity_tag(body), told.data_version)

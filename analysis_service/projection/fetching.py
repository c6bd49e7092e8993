"""Fetches results some way ahead of their being applied, and decodes them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Self, TypeAlias

from analysis_service.projection.apply import Projection, ResultEntry
from analysis_service.projection.feed_client import FeedClient
from analysis_service.projection.prepare import PreparedRun, prepare_run
from shared.registry.specs import Registry

AHEAD = 100
"""Results that wait to be applied, at most."""
AHEAD_ANSWERS = 30_000
"""Answers of these from which on no more are fetched: memory, at a kilobyte each."""
UNDER_WAY = 2
"""Results that are fetched and decoded at a time; more would take their memory and, for the interpreter's lock, as
long."""
BATCH_RESULTS = 100
"""Results that are applied in one transaction at most."""
BATCH_ANSWERS = 30_000
"""Answers in one transaction, or one result's: whoever wants to see them waits for its end."""

Batch: TypeAlias = list[tuple[ResultEntry, PreparedRun]]


class ResultUnreadable(Exception):
    """What the results service gave for a result cannot be made sense of; the message names the result."""


class Fetching:
    """The results that entries name, in order, in batches that are applied together. A context: with it all ends."""

    def __init__(
        self, entries: Sequence[ResultEntry], feed: FeedClient, registry: Registry, projection: Projection
    ) -> None:
        self._coming = deque(entries)
        self._feed, self._registry, self._projection = feed, registry, projection
        self._tasks: deque[tuple[ResultEntry, asyncio.Task[PreparedRun]]] = deque()
        self._under_way = self._waiting_answers = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave_rest()
        for _entry, task in self._tasks:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._tasks), return_exceptions=True)

    async def batches(self) -> AsyncIterator[Batch]:
        """The next result, and with it those behind it that are there already; none twice in one batch.

        FeedUnavailable or ResultUnreadable comes when the result that it is about is the next.
        """
        while self._fetch_ahead():
            batch = [await self._take()]
            names = {batch[0][0].result_name}
            answers = len(batch[0][1].questions)
            while self._fetch_ahead() and len(batch) < BATCH_RESULTS:
                entry, task = self._tasks[0]
                if not task.done() or task.exception() or entry.result_name in names:
                    break
                answers += len(task.result().questions)
                if answers > BATCH_ANSWERS:
                    break
                batch.append(await self._take())
                names.add(entry.result_name)
            yield batch

    def leave_rest(self) -> None:
        """Fetch no more; what is under way still comes."""
        self._coming.clear()

    def _fetch_ahead(self) -> bool:
        """Whether there is a next one. Those behind it are begun, as many as there is room for."""
        while (
            self._coming
            and self._under_way < UNDER_WAY
            and len(self._tasks) < AHEAD
            and self._waiting_answers < AHEAD_ANSWERS
        ):
            entry = self._coming.popleft()
            self._under_way += 1
            self._tasks.append((entry, asyncio.create_task(self._prepare(entry))))
        return bool(self._tasks)

    async def _take(self) -> tuple[ResultEntry, PreparedRun]:
        entry, task = self._tasks[0]
        run = await task
        self._tasks.popleft()
        self._waiting_answers -= len(run.questions)
        return entry, run

    async def _prepare(self, entry: ResultEntry) -> PreparedRun:
        try:
            body = await self._feed.fetch(entry.href)
            try:
                run = await asyncio.to_thread(prepare_run, body, self._registry, self._projection.knows)
            except Exception as error:  # whatever it is, nobody else knows which result it is about
                told = str(error) or type(error).__name__
                raise ResultUnreadable(f"{entry.result_name} cannot be read: {told}") from error
            self._waiting_answers += len(run.questions)
            return run
        finally:
            self._under_way -= 1
            self._fetch_ahead()

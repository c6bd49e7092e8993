"""What was read by the names of reads, and the log of slow ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from shared.metrics import Durations

log = structlog.get_logger(__name__)

plan_kind: ContextVar[str | None] = ContextVar("plan_kind", default=None)
"""The kind of plan that the reads of this task are for; whoever plans sets it, the log of slow reads tells it."""

EXPLAIN_EVERY_S = 60.0
"""How often the engine is asked how it reads what has one name."""

Explanation: TypeAlias = Sequence[Mapping[str, object]]


@dataclass(slots=True)
class ReadCounts:
    """The reads of one name."""

    durations: Durations = field(default_factory=Durations)
    rows: int = 0
    slow: int = 0
    ended: int = 0
    """Those that ran into the time limit."""


class ReadLog:
    """Counts reads by name, and logs those that take long, with the engine's own plan but never with values."""

    def __init__(self, slow_ms: float = 0) -> None:
        """`slow_ms` is what takes long; 0 logs nothing."""
        self.by_name: dict[str, ReadCounts] = {}
        self._slow_s = slow_ms / 1000 if slow_ms else float("inf")
        self._explained: dict[str, float] = {}
        self._explaining: set[asyncio.Task[None]] = set()

    def add(
        self, name: str, seconds: float, rows: int | None, explain: Callable[[], Awaitable[Explanation | None]]
    ) -> None:
        """Count a read that took `seconds`; it brought no `rows` (None) where the time limit ended it.

        `explain` asks the engine, on a connection that is free, and not before this has returned.
        """
        counts = self.by_name.get(name)
        if counts is None:
            counts = self.by_name[name] = ReadCounts()
        counts.durations.add(seconds)
        counts.rows += rows or 0
        counts.ended += rows is None
        if seconds < self._slow_s:
            return
        counts.slow += 1
        now = time.monotonic()
        if now - self._explained.get(name, -EXPLAIN_EVERY_S) < EXPLAIN_EVERY_S:
            _tell(name, seconds, rows, None)
            return
        self._explained[name] = now
        # The task has the context of this one: its request's id, and the kind of its plan.
        task = asyncio.create_task(self._explain(name, seconds, rows, explain))
        self._explaining.add(task)
        task.add_done_callback(self._explaining.discard)

    async def _explain(
        self, name: str, seconds: float, rows: int | None, explain: Callable[[], Awaitable[Explanation | None]]
    ) -> None:
        explanation = None
        try:
            explanation = await explain()
        except Exception as error:  # noqa: BLE001 - the read is told in any case; its plan is a courtesy
            # Without its text, in which the query may stand with its values.
            log.info("slow query not explained", query=name, error=type(error).__name__)
        finally:
            _tell(name, seconds, rows, explanation)

    async def close(self) -> None:
        """Give up what is still being explained."""
        for task in self._explaining:
            task.cancel()
        await asyncio.gather(*self._explaining, return_exceptions=True)


def _tell(name: str, seconds: float, rows: int | None, explanation: Explanation | None) -> None:
    more: dict[str, object] = {}
    if (kind := plan_kind.get()) is not None:
        more["plan"] = kind
    if rows is None:
        more["ended"] = "by the time limit"
    if explanation is not None:
        more["explain"] = [dict(step) for step in explanation]
    log.warning("slow query", query=name, ms=round(seconds * 1000, 1), rows=rows, **more)

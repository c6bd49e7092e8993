"""How long reads may take, and how much one may ask for."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pymongo
from pymongo.errors import ExecutionTimeout

from results_service.mongo import Mongo
from shared.problems import Fault, TimeLimit, invalid


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How long a read may take, and how long a page may be."""

    timeout_s: float
    page: int

    def check_page(self, limit: int) -> None:
        """InvalidRequest if a page would be too long."""
        if limit > self.page:
            raise invalid(Fault(place="query.limit", detail=f"must be at most {self.page:,} (setting MAX_PAGE)"))


class ReadTime:
    """The time that is left for one request's questions to MongoDB."""

    def __init__(self, mongo: Mongo, limit_s: float, hint: str) -> None:
        self._mongo = mongo
        self._limit_s = limit_s
        self._hint = hint
        self._end = time.monotonic() + limit_s

    def left_ms(self) -> int:
        """For the next question, to be given to MongoDB as its limit; TimeLimit if nothing is left."""
        left = int((self._end - time.monotonic()) * 1000)
        if left <= 0:
            raise self._problem()
        return left

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Surrounds questions: TimeLimit where MongoDB ended one, StoreUnavailable where it does not answer at all."""
        # Under a deadline of its own the driver replaces max_time_ms by that, and then gives up a moment before
        # MongoDB's word comes that it was the time.
        with pymongo.timeout(0):
            async with self._mongo.answering(self._limit_s + self._mongo.timeout_s):
                try:
                    yield
                except ExecutionTimeout as error:
                    raise self._problem() from error

    def _problem(self) -> TimeLimit:
        return TimeLimit(f"the answer was not there within {self._limit_s:g} s (setting READ_TIMEOUT_S); {self._hint}")

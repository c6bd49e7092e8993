"""How many requests a caller may make, counted in this process or in a store that several share."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MongoDBStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from shared.problems import StoreUnavailable, TooManyRequests
from shared.process import StartFailed

log = structlog.get_logger(__name__)

_PATIENCE_S = 1.0
"""How long a request waits for the store."""
_AWAY_S = 1.0
"""How long a store that did not answer is not asked again, so that not every request waits for it."""
_WARN_EVERY_S = 60.0


class RateLimits:
    """The limits of reads and of writes, each for each caller."""

    def __init__(self, store: Storage, *, reads: str | None, writes: str | None) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(store)
        self._reads = parse(reads) if reads else None
        self._writes = parse(writes) if writes else None
        self._away_until = self._quiet_until = float("-inf")

    async def count(self, caller: str, *, writes: bool) -> None:
        """Count a request of `caller`.

        TooManyRequests if it is one too many. While the store is away, StoreUnavailable for a write; reads pass.
        """
        limit = self._writes if writes else self._reads
        if limit is None:
            return
        what = "writes" if writes else "reads"
        retry_after_s = await self._hit(limit, what, caller)
        if retry_after_s is None and writes:
            raise StoreUnavailable(
                "the store of the rate limits (setting RATE_LIMIT_STORE) does not answer, and without it nothing is "
                "taken; send this again later",
                retry_after_s=ceil(_AWAY_S),
            )
        if retry_after_s:
            rate = f"{limit.amount} {what} in {limit.get_expiry()} s (setting RATE_LIMIT_{what.upper()})"
            raise TooManyRequests(f"{caller} may make {rate}; wait {retry_after_s} s", retry_after_s=retry_after_s)

    async def _hit(self, limit: RateLimitItem, what: str, caller: str) -> int | None:
        """Seconds to wait, 0 where the request may go on; None where the store is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if await self._limiter.hit(limit, what, caller):
                    return 0
                stats = await self._limiter.get_window_stats(limit, what, caller)
        except (StorageError, TimeoutError) as error:
            now = time.monotonic()
            self._away_until = now + _AWAY_S
            if now >= self._quiet_until:
                self._quiet_until = now + _WARN_EVERY_S
                log.warning("the store of the rate limits is away: reads pass, writes are refused", error=repr(error))
            return None
        return max(1, ceil(stats.reset_time - time.time()))


@asynccontextmanager
async def open_rate_limits(
    store_url: str, *, reads: str | None, writes: str | None
) -> AsyncIterator[RateLimits | None]:
    """The limits, counted in `store_url`; None where there are none. StartFailed if the URL is not one of a store."""
    if reads is None and writes is None:
        yield None
        return
    url = store_url if store_url.startswith("async+") else f"async+{store_url}"
    scheme = url.partition("://")[0].removeprefix("async+")
    # A count that is lost with a member of a replica set is no loss; waiting for a majority would be, each time.
    hasty = (
        {"w": 1, "journal": False, "serverSelectionTimeoutMS": round(_PATIENCE_S * 1000)}
        if scheme[:7] == "mongodb"
        else {}
    )
    try:
        store = storage_from_string(url, wrap_exceptions=True, **hasty)
    except Exception as error:  # noqa: BLE001 - each library has its own; their words may hold the password
        raise StartFailed(
            f"RATE_LIMIT_STORE cannot be used ({type(error).__name__}): {scheme[:20]}:// is unknown, its Python package"
            " is not installed, or the rest of the URL is wrong"
        ) from None
    assert isinstance(store, Storage)  # noqa: S101 - those with async+ are
    try:
        yield RateLimits(store, reads=reads, writes=writes)
    finally:
        if isinstance(store, MongoDBStorage):
            store.storage.close()

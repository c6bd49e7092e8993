"""A read replica: used while it is there and as far as is asked, left alone and watched while it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from analysis_service.database import HostState, ReplicaLost, StoreVersion
from analysis_service.database.mysql_server import MysqlServer
from analysis_service.database.mysql_session import DriverError, MysqlSnapshot
from shared.problems import StoreUnavailable

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.05
"""After which one that is left alone is looked at again. A replica is behind by that much after any write."""


class NotNow(Exception):
    """This replica cannot take the read; another server may. Its text says why."""


class Primary(Protocol):
    """What a replica's versions are held against."""

    known: StoreVersion | None
    """The primary's version when it was last asked for."""

    async def fetch_version(self) -> StoreVersion:
        """The primary's version now, which is then the known one."""


class Replica:
    """One server that follows the primary. Its absence is never a failure."""

    def __init__(
        self, server: MysqlServer, primary: Primary, *, begin_timeout_s: float, longest_pause_s: float
    ) -> None:
        self.server = server
        self._primary = primary
        self._begin_timeout_s = begin_timeout_s
        self._longest_pause_s = longest_pause_s
        self._left_alone = asyncio.Event()
        self._is_behind = False
        self._wanted = 0
        """The version that it was too old for."""
        self._leave_alone()

    @property
    def is_used(self) -> bool:
        """Whether reads may go to it."""
        return not self._left_alone.is_set()

    def state(self) -> HostState:
        """What there is to tell of it."""
        server = self.server
        return HostState(
            host=server.address.name,
            is_replica=True,
            is_used=self.is_used,
            is_behind=self._is_behind,
            snapshots=server.snapshots,
            pool=server.pool_state(),
            acquiring=server.acquiring,
        )

    @asynccontextmanager
    async def snapshot(self, at_least: int) -> AsyncIterator[MysqlSnapshot]:
        """A snapshot no older than a version. NotNow if there is none; ReplicaLost if it breaks off in the middle."""
        began = False
        try:
            async with asyncio.timeout(self._begin_timeout_s) as beginning, self.server.snapshot() as session:
                await self._check(session.version, at_least)
                beginning.reschedule(None)
                began = True
                yield session
        except (StoreUnavailable, DriverError) as error:
            self._leave_alone()
            if began:  # also where it lacks a table, or a run's row: the primary may well have it
                log.warning("replica lost", host=self.server.address.name, reason=str(error))
                raise ReplicaLost("A replica of the SQL store was lost; try again.") from error
            raise NotNow(str(error)) from error
        except Exception as error:
            if began:
                raise
            # It is behind, takes too long, its pool is exhausted, a table is missing: no worse than its being away.
            self._leave_alone()
            raise NotNow(str(error)) from error

    async def _check(self, version: StoreVersion, at_least: int) -> None:
        """NotNow if the version is too old, or none that the primary has, or had.

        One that is older than the primary's may well be of another history, before the store was emptied and built
        anew. It is not read for long: whoever reads asks for the primary's version of now.
        """
        self._is_behind = True
        if version.version < at_least:
            self._wanted = max(self._wanted, at_least)
            raise NotNow(f"it is at version {version.version}, not at {at_least}")
        known = self._primary.known
        if known is None or (version.version >= known.version and version.token != known.token):
            known = await self._primary.fetch_version()
        if version.version >= known.version and version.token != known.token:
            raise NotNow(f"its version {version.version} is not the primary's")
        self._is_behind = False

    def _leave_alone(self) -> None:
        self._left_alone.set()
        self.server.is_left_alone = True

    async def watch(self) -> None:
        """Look at it while it is left alone, ever more rarely, and let reads come to it again when it can take them."""
        pause_s = 0.0  # it is not known yet, which is no reason to wait
        is_told = False
        while True:
            await self._left_alone.wait()
            await asyncio.sleep(pause_s)
            reason = await self._look()
            if reason is None:
                if is_told:
                    log.info("replica used again", host=self.server.address.name)
                is_told = False
                self.server.is_left_alone = False
                self._left_alone.clear()
                pause_s = FIRST_PAUSE_S
                continue
            if not is_told:  # once, however long it takes
                log.warning("replica left alone", host=self.server.address.name, reason=reason)
            is_told = True
            pause_s = min(max(FIRST_PAUSE_S, pause_s * 2), self._longest_pause_s)

    async def _look(self) -> str | None:
        """Why it cannot be read; None if it can."""
        known = self._primary.known
        # The primary may have gone back since: what was wanted then is nothing that can be had.
        wanted = self._wanted if known is None else min(self._wanted, known.version)
        try:
            async with asyncio.timeout(self._begin_timeout_s):
                await self._check(await self.server.fetch_version(), wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
            return str(error) or type(error).__name__
        self._wanted = 0
        return None

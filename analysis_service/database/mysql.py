"""MySQL and MariaDB by aiomysql: one server that is written, and any number of replicas that may be read."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from analysis_service.database import HostState, PoolState, Session, SnapshotSession, StoreVersion, read_primary
from analysis_service.database.dialect import Dialect
from analysis_service.database.mysql_server import MysqlAddress, MysqlServer, PoolLimits
from analysis_service.database.read_log import ReadLog
from analysis_service.database.replica import NotNow, Replica
from shared.problems import StoreUnavailable

__all__ = ["MysqlAddress", "MysqlDatabase", "PoolLimits", "ReadHosts", "open_mysql"]


@dataclass(frozen=True, slots=True)
class ReadHosts:
    """Replicas that may be read, and how much patience there is with them."""

    addresses: Sequence[tuple[str, int]] = ()
    """Host and port of each; user, password and database are the primary's."""
    begin_timeout_s: float = 1
    """How long one may take to begin a snapshot before another server is asked."""
    longest_pause_s: float = 5
    """For how long one that is gone or behind is left alone at most before it is looked at again."""


class MysqlDatabase:
    """A `Database` on a server that speaks MySQL's protocol."""

    def __init__(self, primary: MysqlServer, reads: ReadLog) -> None:
        self.reads = reads
        self.replicas: list[Replica] = []
        self._primary = primary
        self._turn = 0
        self.known: StoreVersion | None = None
        """The primary's version when it was last asked for."""

    @property
    def dialect(self) -> Dialect:
        """The primary's."""
        return self._primary.dialect

    @asynccontextmanager
    async def snapshot(self, at_least: int | None = None) -> AsyncIterator[SnapshotSession]:
        """Reads in one read-only transaction, on a replica where `at_least` allows it."""
        async with AsyncExitStack() as stack:
            yield await self._begin_snapshot(stack, at_least)

    async def _begin_snapshot(self, stack: AsyncExitStack, at_least: int | None) -> SnapshotSession:
        if at_least is not None and not read_primary.get():
            for replica in self._replicas_in_turn():
                try:
                    return await stack.enter_async_context(replica.snapshot(at_least))
                except NotNow:
                    continue
        return await stack.enter_async_context(self._primary.snapshot())

    def _replicas_in_turn(self) -> Iterator[Replica]:
        """Those that are used, another one first each time; those without a free connection last."""
        self._turn += 1
        start = self._turn % len(self.replicas) if self.replicas else 0
        in_turn = [*self.replicas[start:], *self.replicas[:start]]
        for replica in sorted(in_turn, key=lambda replica: replica.server.is_full):
            if replica.is_used:  # asked only now: it may have gone while the one before it was tried
                yield replica

    async def fetch_version(self) -> StoreVersion:
        """The primary's version now."""
        self.known = await self._primary.fetch_version()
        return self.known

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Writes in one transaction; an exception rolls it back by closing the connection."""
        async with self._primary.session() as session:
            await session.run("START TRANSACTION")
            yield session
            await session.run("COMMIT")

    @asynccontextmanager
    async def alone(self, purpose: str) -> AsyncIterator[Session]:
        """A session under a named lock of the server; statements commit one by one."""
        async with self._primary.session() as session:
            name = f"scorehouse {purpose} {self._primary.address.database}"[:64]
            if await session.run("SELECT GET_LOCK(%s, 60)", [name]) != [(1,)]:
                raise StoreUnavailable(f"another instance holds the lock {name!r} for over a minute; try again")
            yield session
            await session.run("SELECT RELEASE_LOCK(%s)", [name])

    async def ping(self) -> None:
        """One round trip."""
        async with self._primary.session() as session:
            await session.run("SELECT 1")

    def pool_state(self) -> PoolState:
        """The counters of the primary's pool."""
        return self._primary.pool_state()

    def hosts(self) -> Sequence[HostState]:
        """The primary, then the replicas."""
        primary = self._primary
        return [
            HostState(
                host=primary.address.name,
                is_replica=False,
                is_used=True,
                is_behind=False,
                snapshots=primary.snapshots,
                pool=primary.pool_state(),
                acquiring=primary.acquiring,
            ),
            *(replica.state() for replica in self.replicas),
        ]

    @asynccontextmanager
    async def reading_from(self, hosts: ReadHosts, limits: PoolLimits, query_timeout_s: float) -> AsyncIterator[None]:
        """With replicas, which are watched; they need not be there."""
        timeout_s = min(hosts.begin_timeout_s, limits.acquire_timeout_s)
        for host, port in hosts.addresses:
            address = replace(self._primary.address, host=host, port=port)
            server = MysqlServer(address, replace(limits, connect_timeout_s=timeout_s), self.reads, query_timeout_s)
            self.replicas.append(
                Replica(server, self, begin_timeout_s=timeout_s, longest_pause_s=hosts.longest_pause_s)
            )
        watching = [asyncio.create_task(replica.watch()) for replica in self.replicas]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            for replica in self.replicas:
                await replica.server.close()


@asynccontextmanager
async def open_mysql(
    address: MysqlAddress,
    limits: PoolLimits | None = None,
    *,
    query_timeout_s: float = 10,
    read_hosts: ReadHosts | None = None,
    slow_query_ms: float = 0,
) -> AsyncIterator[MysqlDatabase]:
    """Connections to `address` and its replicas; StoreUnavailable if the former cannot be reached now."""
    limits = limits or PoolLimits()
    reads = ReadLog(slow_query_ms)
    primary = MysqlServer(address, limits, reads, query_timeout_s)
    try:
        (await primary.connect()).close()  # to find out what it is
        database = MysqlDatabase(primary, reads)
        async with database.reading_from(read_hosts or ReadHosts(), limits, query_timeout_s):
            yield database
    finally:
        await reads.close()
        await primary.close()

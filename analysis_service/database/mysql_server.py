"""One MySQL server: its bounded pool of connections, and one more connection that asks for the version."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiomysql

from analysis_service.database import PoolState, Row, StoreVersion
from analysis_service.database.dialect import Dialect, mysql_dialect, read_explanation
from analysis_service.database.mysql_session import MysqlSession, MysqlSnapshot, as_problems, unavailable
from analysis_service.database.read_log import Explanation, ReadLog
from analysis_service.database.version_row import store_version, version_query
from shared.metrics import Durations
from shared.problems import PoolExhausted, StoreUnavailable

# The strict mode refuses what MySQL would otherwise cut or change silently. Notes would be printed by the driver, as
# warnings, and the one that EXPLAIN leaves holds the query with its values. The last is for MySQL alone, which MariaDB
# sees by the number: a list of over 30,000 runs would take more memory than it allows, so it scans the whole table.
_SESSION = (
    "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION time_zone='+00:00', SESSION sql_notes=0"
    " /*!80000 , SESSION range_optimizer_max_mem_size=0 */"
)

_EXPLAIN_TIMEOUT_S = 5.0
_VERSION_TIMEOUT_S = 5.0
"""For one row that is in memory. A request may have to wait for the read before its own, too, so twice as long."""


@dataclass(frozen=True, slots=True)
class MysqlAddress:
    """Where the server is, and as whom to come."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def name(self) -> str:
        """The server in logs and metrics."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections there may be, and for how long they are waited for and kept."""

    size: int = 20
    overflow: int = 30
    acquire_timeout_s: float = 10
    recycle_s: float = 1800
    connect_timeout_s: float | None = None
    """The part of `acquire_timeout_s` that making a connection may take; all of it unless given."""


class MysqlServer:
    """Connections to one server. Each belongs to one task at a time."""

    dialect: Dialect
    """Known from the first `connect` on."""

    def __init__(self, address: MysqlAddress, limits: PoolLimits, reads: ReadLog, query_timeout_s: float) -> None:
        self.address = address
        self.reads = reads
        self.query_timeout_s = query_timeout_s
        self.acquiring = Durations()
        self.snapshots = 0
        self.is_left_alone = False
        """Whether it is known to be away, so that its errors are no news."""
        self._limits = limits
        self._connect_timeout_s = limits.connect_timeout_s or limits.acquire_timeout_s
        self._options: dict[str, Any] = {
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "password": address.password,
            "db": address.database,
            "charset": "utf8mb4",
            "connect_timeout": self._connect_timeout_s,
            "init_command": _SESSION,
            "autocommit": True,
        }
        self._pool = aiomysql.Pool(
            minsize=0,
            maxsize=limits.size + limits.overflow,
            echo=False,
            pool_recycle=limits.recycle_s,
            loop=asyncio.get_running_loop(),
            **self._options,
        )
        self._places = asyncio.Semaphore(limits.size + limits.overflow)
        self._waiting = 0
        self._version_lock = asyncio.Lock()
        self._version_connection: aiomysql.Connection | None = None
        self._version_read_at = 0.0
        self.version_sql: tuple[str, list[object]] = ("", [])
        """The version's query, rendered: to render it takes longer than to run it."""

    async def connect(self) -> aiomysql.Connection:
        """A connection outside of the pool, which tells what server it is. StoreUnavailable if there is none."""
        with as_problems(self):
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    connection = await aiomysql.connect(**self._options)
            except TimeoutError as error:
                raise unavailable(error, self) from error
        self.dialect = mysql_dialect(connection.get_server_info())
        self.version_sql = self.dialect.render(version_query(self.dialect))
        return connection

    async def close(self) -> None:
        """Close all connections, also those in use."""
        self._forget_version_connection()
        self._pool.terminate()
        await self._pool.wait_closed()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[MysqlSnapshot]:
        """Reads in one read-only transaction, which sees the state of its beginning."""
        async with self.connection() as connection:
            session = MysqlSnapshot(connection, self)
            await session.begin()
            self.snapshots += 1
            yield session
            await session.end()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[MysqlSession]:
        """Statements that commit one by one."""
        async with self.connection() as connection:
            yield MysqlSession(connection, self)

    async def fetch_version(self) -> StoreVersion:
        """The version now; StoreUnavailable if it does not come.

        It is one read on a connection of its own, for the pool would take longer to lend one than the read takes.
        """
        async with self._version_lock:
            try:
                # Once for all of it: a server that hangs is not asked again on another connection.
                async with asyncio.timeout(min(self._connect_timeout_s, _VERSION_TIMEOUT_S)):
                    return await self._ask_version()
            except TimeoutError as error:
                raise unavailable(error, self) from error

    async def _ask_version(self) -> StoreVersion:
        idle_s = time.monotonic() - self._version_read_at
        if self._version_connection is not None and idle_s < self._limits.recycle_s:
            try:
                return await self._read_version(self._version_connection)
            except StoreUnavailable:
                pass  # the server may have restarted, or closed it for its age: the next is made now, and tells
        self._forget_version_connection()
        connection = self._version_connection = await self.connect()
        limit = self.dialect.limit_session(self.query_timeout_s)
        if limit is not None:
            await self._on_version_connection(connection, limit, [])
        return await self._read_version(connection)

    async def _read_version(self, connection: aiomysql.Connection) -> StoreVersion:
        rows = await self._on_version_connection(connection, *self.version_sql)
        self._version_read_at = time.monotonic()
        return store_version(rows)

    async def _on_version_connection(
        self, connection: aiomysql.Connection, sql: str, parameters: Sequence[object]
    ) -> list[Row]:
        try:
            with as_problems(self):
                async with connection.cursor() as cursor:
                    await cursor.execute(sql, parameters or None)
                    return list(await cursor.fetchall())
        except BaseException:
            # What it was to answer may still come, a cancelled read's included.
            self._forget_version_connection()
            raise

    def _forget_version_connection(self) -> None:
        if self._version_connection is not None:
            self._version_connection.close()
            self._version_connection = None

    async def explain(self, sql: str, parameters: Sequence[object]) -> Explanation | None:
        """How the server reads `sql`; None, without asking, while no connection is free."""
        if self.is_full:
            return None
        async with (
            asyncio.timeout(_EXPLAIN_TIMEOUT_S),
            self.connection() as connection,
            connection.cursor() as cursor,
        ):
            await cursor.execute(self.dialect.explain(sql), parameters or None)
            columns = [column[0] for column in cursor.description]
            return read_explanation(columns, await cursor.fetchall())

    @property
    def is_full(self) -> bool:
        """Whether the next one would have to wait for a connection."""
        return self._places.locked()

    def pool_state(self) -> PoolState:
        """The pool's counters."""
        in_use = self._pool.size - self._pool.freesize
        return PoolState(
            size=self._limits.size,
            in_use=in_use,
            free=max(0, self._limits.size - in_use),
            overflow=max(0, self._pool.size - self._limits.size),
            waiting=self._waiting,
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[aiomysql.Connection]:
        """A connection of the pool. PoolExhausted or StoreUnavailable if none comes in time."""
        began = time.perf_counter()
        connection = await self._acquire()
        self.acquiring.add(time.perf_counter() - began)
        try:
            yield connection
        except BaseException:
            # Whatever went wrong, a cancelled read included, its answer or transaction may still be under way.
            connection.close()
            raise
        finally:
            if self._pool.size > self._limits.size:
                connection.close()
            # Not awaited, for a cancellation there would lose the place. What it returns wakes the pool's own queue, in
            # which nobody waits, behind whoever is connecting.
            self._pool.release(connection)
            self._places.release()

    async def _acquire(self) -> aiomysql.Connection:
        self._waiting += 1
        placed = False
        try:
            async with asyncio.timeout(self._limits.acquire_timeout_s):
                # The pool's own queue has no time-out, so its limit is kept out here.
                await self._places.acquire()
                placed = True
                async with asyncio.timeout(self._connect_timeout_s):
                    with as_problems(self):
                        return await self._pool.acquire()
        except TimeoutError:
            if placed:
                self._places.release()
                raise StoreUnavailable("The SQL store does not take connections; try again shortly.") from None
            total = self._limits.size + self._limits.overflow
            raise PoolExhausted(
                f"All {total} database connections stayed in use for {self._limits.acquire_timeout_s:g} s; try again.",
                retry_after_s=1,
            ) from None
        except BaseException:
            if placed:
                self._places.release()
            raise
        finally:
            self._waiting -= 1

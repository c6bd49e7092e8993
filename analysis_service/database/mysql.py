"""MySQL and MariaDB by aiomysql: a bounded pool, one connection a task, a time limit on every read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiomysql
import pymysql
import structlog
from pymysql.constants import CR, ER
from pypika import Table
from pypika.queries import QueryBuilder

from analysis_service.database import PoolState, Row, Session
from analysis_service.database.dialect import Dialect, mysql_dialect
from shared.problems import PoolExhausted, Problem, StoreUnavailable, TimeLimit

log = structlog.get_logger(__name__)

_TIME_LIMIT = {3024, 1969, 1317}
"""MySQL's and MariaDB's codes for a statement ended by its limit, and for one ended from outside."""

_UNAVAILABLE = {
    *(CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR, CR.CR_UNKNOWN_HOST),
    *(ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN),
    *(ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.OPTION_PREVENTS_STATEMENT, ER.TOO_MANY_USER_CONNECTIONS),
    1927,  # MariaDB: connection was killed
}

_REFUSED = {
    *(ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR, ER.BAD_DB_ERROR),
    *(ER.HOST_NOT_PRIVILEGED, ER.HOST_IS_BLOCKED),
    *(1698, 1820, 3118, 4151),  # MariaDB's socket login, an expired password, an account locked (MySQL, MariaDB)
}
"""The server answers, but not to this user; somebody may be about to make the database, so it is tried again."""

# The strict mode refuses what MySQL would otherwise cut or change silently.
_SESSION = "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION time_zone='+00:00'"


@dataclass(frozen=True, slots=True)
class MysqlAddress:
    """Where the server is, and as whom to come."""

    host: str
    port: int
    user: str
    password: str
    database: str


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections there may be, and for how long they are waited for and kept."""

    size: int = 20
    overflow: int = 30
    acquire_timeout_s: float = 10
    recycle_s: float = 1800


class MysqlDatabase:
    """A `Database` on a server that speaks MySQL's protocol."""

    def __init__(
        self, pool: aiomysql.Pool, dialect: Dialect, address: MysqlAddress, limits: PoolLimits, query_timeout_s: float
    ) -> None:
        self.dialect = dialect
        self._address = address
        self._pool = pool
        self._limits = limits
        self._query_timeout_s = query_timeout_s
        self._places = asyncio.Semaphore(limits.size + limits.overflow)
        self._waiting = 0

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """Reads in one read-only transaction, which sees the state of its beginning."""
        async with self._connection() as connection:
            session = MysqlSession(connection, self.dialect, self._query_timeout_s)
            await session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield session
            await session.run("COMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Writes in one transaction; an exception rolls it back by closing the connection."""
        async with self._connection() as connection:
            session = MysqlSession(connection, self.dialect, None)
            await session.run("START TRANSACTION")
            yield session
            await session.run("COMMIT")

    @asynccontextmanager
    async def alone(self, purpose: str) -> AsyncIterator[Session]:
        """A session under a named lock of the server; statements commit one by one."""
        async with self._connection() as connection:
            session = MysqlSession(connection, self.dialect, None)
            name = f"scorehouse {purpose} {self._address.database}"[:64]
            if await session.run("SELECT GET_LOCK(%s, 60)", [name]) != [(1,)]:
                raise StoreUnavailable(f"another instance holds the lock {name!r} for over a minute; try again")
            yield session
            await session.run("SELECT RELEASE_LOCK(%s)", [name])

    async def ping(self) -> None:
        """One round trip."""
        async with self._connection() as connection:
            await MysqlSession(connection, self.dialect, None).run("SELECT 1")

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
    async def _connection(self) -> AsyncIterator[aiomysql.Connection]:
        connection = await self._acquire()
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
                with _as_problems():
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


class MysqlSession:
    """A `Session` on one connection."""

    def __init__(self, connection: aiomysql.Connection, dialect: Dialect, timeout_s: float | None) -> None:
        self._connection = connection
        self._dialect = dialect
        self._timeout_s = timeout_s

    async def fetch(self, query: QueryBuilder) -> list[Row]:
        """The rows of a SELECT."""
        sql, parameters = self._dialect.render(query)
        if self._timeout_s is not None:
            sql = self._dialect.limit_time(sql, self._timeout_s)
        return await self.run(sql, parameters)

    async def execute(self, query: QueryBuilder) -> None:
        """Run an UPDATE or DELETE."""
        await self.run(*self._dialect.render(query))

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert `rows`; aiomysql makes one statement of a megabyte's worth of them."""
        if rows:
            with _as_problems():
                async with self._connection.cursor() as cursor:
                    await cursor.executemany(self._dialect.render_insert(table, columns), rows)

    async def define(self, statement: str) -> None:
        """Run a data definition."""
        await self.run(statement)

    async def columns(self, table: str) -> list[str]:
        """The names of a table's columns; none if there is no such table."""
        rows = await self.run(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s",
            [table],
        )
        return [name for (name,) in rows]

    async def indexes(self, table: str) -> list[str]:
        """The names of a table's indexes."""
        rows = await self.run(
            "SELECT DISTINCT index_name FROM information_schema.statistics "
            "WHERE table_schema = DATABASE() AND table_name = %s",
            [table],
        )
        return [name for (name,) in rows]

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return what it answers."""
        with _as_problems():
            async with self._connection.cursor() as cursor:
                await cursor.execute(sql, parameters or None)
                return list(await cursor.fetchall())


class _as_problems:  # noqa: N801 - reads as the statement it is
    """Turns the driver's errors into problems. Their text is logged, never sent."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        match error:
            case pymysql.err.OperationalError() | pymysql.err.InternalError() | pymysql.err.InterfaceError():
                problem = _problem(error)
                if problem is not None:
                    raise problem from error
            case TimeoutError():
                pass  # the acquire time-out's own
            case OSError() | EOFError():
                raise _unavailable(error) from error
            case _:
                pass


def _problem(error: pymysql.err.MySQLError) -> Problem | None:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if code in _TIME_LIMIT:
        return TimeLimit("The query ran into its time limit (QUERY_TIMEOUT_S); ask for fewer levels, runs or models.")
    if code in _REFUSED:
        log.error("SQL store refuses the login", error=str(error))
        return StoreUnavailable(
            "The SQL store refuses the login: check MYSQL_USER, its MYSQL_PASSWORD and rights, and MYSQL_DATABASE."
        )
    if code in _UNAVAILABLE or isinstance(error, pymysql.err.InterfaceError):
        return _unavailable(error)
    return None


def _unavailable(error: BaseException) -> StoreUnavailable:
    log.warning("SQL store unavailable", error=str(error) or type(error).__name__)
    return StoreUnavailable("The SQL store cannot be reached at the moment; try again shortly.")


@asynccontextmanager
async def open_mysql(
    address: MysqlAddress, limits: PoolLimits | None = None, *, query_timeout_s: float = 10
) -> AsyncIterator[MysqlDatabase]:
    """A pool of connections to `address`; StoreUnavailable if the server cannot be reached now."""
    limits = limits or PoolLimits()
    options: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password,
        "db": address.database,
        "charset": "utf8mb4",
        "connect_timeout": limits.acquire_timeout_s,
        "init_command": _SESSION,
        "autocommit": True,
    }
    with _as_problems():
        try:
            probe = await aiomysql.connect(**options)
        except TimeoutError as error:
            raise _unavailable(error) from error
        try:
            dialect = mysql_dialect(probe.get_server_info())
        finally:
            probe.close()
        pool = await aiomysql.create_pool(
            minsize=0, maxsize=limits.size + limits.overflow, pool_recycle=limits.recycle_s, **options
        )
    try:
        yield MysqlDatabase(pool, dialect, address, limits, query_timeout_s)
    finally:
        pool.terminate()
        await pool.wait_closed()

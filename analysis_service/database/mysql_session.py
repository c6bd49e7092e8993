"""Statements on one MySQL connection, and what the driver's errors mean."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

import aiomysql
import pymysql
import structlog
from pymysql.constants import CR, ER
from pypika import Table
from pypika.queries import QueryBuilder

from analysis_service.database import MAX_ROWS, Row, StoreVersion, check_count, check_rows
from analysis_service.database.dialect import Dialect, cap_rows
from analysis_service.database.version_row import NAME, store_version
from shared.problems import Problem, StoreUnavailable, TimeLimit

if TYPE_CHECKING:
    from analysis_service.database.mysql_server import MysqlServer

log = structlog.get_logger(__name__)

_TIME_LIMIT = {3024, 1969, 1317}
"""MySQL's and MariaDB's codes for a statement ended by its limit, and for one ended from outside."""

_UNAVAILABLE = {
    *(CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR, CR.CR_UNKNOWN_HOST),
    *(ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN),
    *(ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.OPTION_PREVENTS_STATEMENT, ER.TOO_MANY_USER_CONNECTIONS),
    *(1927, 4031),  # MariaDB: connection was killed; MySQL: it was idle for too long
    *(ER.DISK_FULL, ER.ERROR_ON_WRITE, ER.GET_ERRNO, ER.RECORD_FILE_FULL),  # its disk is full, or broken
}

_REFUSED = {
    *(ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR, ER.BAD_DB_ERROR),
    *(ER.HOST_NOT_PRIVILEGED, ER.HOST_IS_BLOCKED),
    *(1698, 1820, 3118, 4151),  # MariaDB's socket login, an expired password, an account locked (MySQL, MariaDB)
}
"""The server answers, but not to this user; somebody may be about to make the database, so it is tried again."""

DriverError = pymysql.err.MySQLError
"""What the driver raises beside what is a problem: a table or a column is missing, say."""

_GRACE_S = 2.0
"""How much longer than a read's limit its server is waited for: past that it hangs, or the way to it is cut."""


class MysqlSession:
    """A `Session` on one connection."""

    def __init__(self, connection: aiomysql.Connection, server: "MysqlServer") -> None:
        self._connection = connection
        self._server = server

    @property
    def _dialect(self) -> Dialect:
        return self._server.dialect

    async def fetch(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> list[Row]:
        """The rows of a SELECT, all of them and however long it takes."""
        sql, parameters = self._dialect.render(query)
        began = time.perf_counter()
        rows = await self.run(sql, parameters)
        self._note(name, began, len(rows), sql, parameters)
        return rows

    async def execute(self, query: QueryBuilder) -> None:
        """Run an UPDATE or DELETE."""
        await self.run(*self._dialect.render(query))

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, replace: bool = False) -> None:
        """Insert `rows`; aiomysql makes one statement of a megabyte's worth of them."""
        if rows:
            with as_problems(self._server):
                async with self._connection.cursor() as cursor:
                    await cursor.executemany(self._dialect.render_insert(table, columns, replace=replace), rows)

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
        with as_problems(self._server):
            async with self._connection.cursor() as cursor:
                await cursor.execute(sql, parameters or None)
                return list(await cursor.fetchall())

    def _note(self, name: str, began: float, rows: int | None, sql: str, parameters: Sequence[object]) -> None:
        server = self._server
        server.reads.add(name, time.perf_counter() - began, rows, lambda: server.explain(sql, parameters))


class MysqlSnapshot(MysqlSession):
    """A `SnapshotSession`: every read of it is capped and limited, here and nowhere else."""

    version: StoreVersion

    async def begin(self) -> None:
        """Begin a read-only transaction, which sees the state of its beginning, and read which one that is."""
        try:
            async with asyncio.timeout(self._server.query_timeout_s + _GRACE_S):
                await self.run(self._dialect.begin_snapshot)
        except TimeoutError as error:
            raise unavailable(error, self._server) from error
        self.version = store_version(await self._read(*self._server.version_sql, NAME))

    async def end(self) -> None:
        """End the transaction. If that fails, what was read holds all the same, and only the connection is given up."""
        if self._connection.closed:  # as it is once a stream was left before its end
            return
        try:
            async with asyncio.timeout(_GRACE_S):
                await self.run("COMMIT")
        except (StoreUnavailable, TimeoutError):
            self._connection.close()

    async def fetch(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> list[Row]:
        """The rows of a SELECT."""
        rows = await self._read(*self._dialect.render(cap_rows(query, max_rows)), name)
        return check_rows(rows, name, max_rows)

    async def _read(self, sql: str, parameters: Sequence[object], name: str) -> list[Row]:
        limit_s = self._server.query_timeout_s
        limited = self._dialect.limit_time(sql, limit_s)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(limit_s + _GRACE_S):
                rows = await self.run(limited, parameters)
        except TimeLimit:
            self._note(name, began, None, sql, parameters)
            raise
        except TimeoutError as error:
            raise unavailable(error, self._server) from error
        self._note(name, began, len(rows), sql, parameters)
        return rows

    async def stream(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> AsyncGenerator[Row, None]:
        """The rows of a SELECT, from the network one by one."""
        sql, parameters = self._dialect.render(cap_rows(query, max_rows))
        limit_s = self._server.query_timeout_s
        rows, began, is_whole = 0, time.perf_counter(), False
        try:
            with as_problems(self._server):
                cursor = await self._connection.cursor(aiomysql.SSCursor)
                async with asyncio.timeout(limit_s + _GRACE_S):
                    await cursor.execute(self._dialect.limit_time(sql, limit_s), parameters or None)
                    row = await cursor.fetchone()
                while row is not None:
                    rows += 1
                    check_count(rows, name, max_rows)
                    yield row
                    async with asyncio.timeout(limit_s + _GRACE_S):
                        row = await cursor.fetchone()
                await cursor.close()
                is_whole = True
        except TimeLimit:
            self._note(name, began, None, sql, parameters)
            raise
        except TimeoutError as error:
            raise unavailable(error, self._server) from error
        finally:
            if not is_whole:
                # The rest is still on its way, and may be long: another connection is made sooner than it is read.
                self._connection.close()
        self._note(name, began, rows, sql, parameters)


class as_problems:  # noqa: N801 - reads as the statement it is
    """Turns the driver's errors into problems. Their text is logged, never sent."""

    def __init__(self, server: "MysqlServer") -> None:
        self._server = server

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        match error:
            case pymysql.err.OperationalError() | pymysql.err.InternalError() | pymysql.err.InterfaceError():
                problem = _problem(error, self._server)
                if problem is not None:
                    raise problem from error
            case TimeoutError():
                pass  # a time-out of ours, which whoever set it makes a problem of
            case OSError() | EOFError():
                raise unavailable(error, self._server) from error
            case _:
                pass


def _problem(error: pymysql.err.MySQLError, server: "MysqlServer") -> Problem | None:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if code in _TIME_LIMIT:
        return TimeLimit("The query ran into its time limit (QUERY_TIMEOUT_S); ask for fewer levels, runs or models.")
    if code in _REFUSED:
        _tell("SQL store refuses the login", error, server)
        return StoreUnavailable(
            "The SQL store refuses the login: check MYSQL_USER, its MYSQL_PASSWORD and rights, and MYSQL_DATABASE."
        )
    if code in _UNAVAILABLE or isinstance(error, pymysql.err.InterfaceError):
        return unavailable(error, server)
    return None


def unavailable(error: BaseException, server: "MysqlServer") -> StoreUnavailable:
    """The problem that the server does not answer, logged with what the driver says."""
    _tell("SQL store unavailable", error, server)
    return StoreUnavailable("The SQL store cannot be reached at the moment; try again shortly.")


def _tell(event: str, error: BaseException, server: "MysqlServer") -> None:
    # Of a replica that is known to be away nobody wants to hear each time that it is looked at.
    level = logging.DEBUG if server.is_left_alone else logging.WARNING
    log.log(level, event, host=server.address.name, error=str(error) or type(error).__name__)

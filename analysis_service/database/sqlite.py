"""SQLite by aiosqlite: one file in WAL mode, one writer, a few readers, each connection with a thread of its own."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import aiosqlite
import structlog
from pypika import Table
from pypika.queries import QueryBuilder

from analysis_service.database import (
    MAX_ROWS,
    HostState,
    PoolState,
    Row,
    Session,
    SnapshotSession,
    StoreVersion,
    check_count,
    check_rows,
)
from analysis_service.database.dialect import SQLITE, cap_rows, read_explanation
from analysis_service.database.read_log import Explanation, ReadLog
from analysis_service.database.version_row import NAME, store_version, version_query
from shared.metrics import Durations
from shared.problems import PoolExhausted, Problem, StoreUnavailable, TimeLimit
from shared.process import StartFailed

log = structlog.get_logger(__name__)

_UNAVAILABLE = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
}


class SqliteDatabase:
    """A `Database` in one file."""

    dialect = SQLITE

    def __init__(
        self,
        writer: aiosqlite.Connection,
        readers: Sequence[aiosqlite.Connection],
        teller: aiosqlite.Connection,
        reads: ReadLog,
        *,
        acquire_timeout_s: float,
        query_timeout_s: float,
    ) -> None:
        """`teller` is the connection that tells the version, without waiting for a reader."""
        self.reads = reads
        self._teller = teller
        self.version_sql = SQLITE.render(version_query(SQLITE))
        self._acquiring = Durations()
        self._snapshots = 0
        self._writer = writer
        self._writing = asyncio.Lock()
        self._free = list(readers)
        self._size = len(readers)
        self._places = asyncio.Semaphore(self._size)
        self._waiting = 0
        self._acquire_timeout_s = acquire_timeout_s
        self._query_timeout_s = query_timeout_s

    @asynccontextmanager
    async def snapshot(self, at_least: int | None = None) -> AsyncIterator[SnapshotSession]:
        """Reads in one deferred transaction: in WAL mode it sees the state of its first read. There are no replicas."""
        async with self._reader() as connection, _begun(connection, "BEGIN"):
            session = SqliteSnapshot(connection, self)
            await session.begin()
            self._snapshots += 1
            yield session

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[aiosqlite.Connection]:
        began = time.perf_counter()
        connection = await self._acquire()
        self._acquiring.add(time.perf_counter() - began)
        try:
            yield connection
        finally:
            self._free.append(connection)
            self._places.release()

    async def fetch_version(self) -> StoreVersion:
        """The version now, by one read outside of any transaction."""
        with _as_problems():
            rows = await self._teller.execute_fetchall(*self.version_sql)
        return store_version([tuple(row) for row in rows])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Writes in one transaction that takes the file's write lock at its beginning."""
        async with self._writing, _begun(self._writer, "BEGIN IMMEDIATE"):
            yield SqliteSession(self._writer, self)

    @asynccontextmanager
    async def alone(self, purpose: str) -> AsyncIterator[Session]:
        """A transaction: the file's write lock keeps others out."""
        async with self.transaction() as session:
            yield session

    async def ping(self) -> None:
        """One statement on a reader."""
        async with self._reader() as connection:
            await _run(connection, "SELECT 1")

    async def explain(self, sql: str, parameters: Sequence[object]) -> Explanation | None:
        """How SQLite reads `sql`; None, without asking, while no reader is free."""
        if self._places.locked():
            return None
        async with self._reader() as connection, connection.execute(SQLITE.explain(sql), parameters) as cursor:
            columns = [column[0] for column in cursor.description]
            return read_explanation(columns, [tuple(row) for row in await cursor.fetchall()])

    @property
    def query_timeout_s(self) -> float:
        """Time limit of each read in a snapshot."""
        return self._query_timeout_s

    def pool_state(self) -> PoolState:
        """The readers."""
        free = len(self._free)
        return PoolState(size=self._size, in_use=self._size - free, free=free, overflow=0, waiting=self._waiting)

    def hosts(self) -> Sequence[HostState]:
        """The one file."""
        return [
            HostState(
                host="sqlite",
                is_replica=False,
                is_used=True,
                is_behind=False,
                snapshots=self._snapshots,
                pool=self.pool_state(),
                acquiring=self._acquiring,
            )
        ]

    async def _acquire(self) -> aiosqlite.Connection:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._acquire_timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise PoolExhausted(
                f"All {self._size} database connections stayed in use for {self._acquire_timeout_s:g} s; try again.",
                retry_after_s=1,
            ) from None
        finally:
            self._waiting -= 1
        return self._free.pop()


@asynccontextmanager
async def _begun(connection: aiosqlite.Connection, begin: str) -> AsyncIterator[None]:
    try:
        await _run(connection, begin)
        yield
        await _run(connection, "COMMIT")
    except BaseException:
        # A cancelled task's statement, BEGIN included, goes on in the connection's thread; the rollback queues behind.
        await asyncio.shield(_roll_back(connection))
        raise


async def _roll_back(connection: aiosqlite.Connection) -> None:
    with suppress(sqlite3.Error, Problem):  # some errors have rolled it back already
        await _run(connection, "ROLLBACK")


async def _run(connection: aiosqlite.Connection, statement: str) -> None:
    """Run a statement without values that answers nothing of interest."""
    with _as_problems():
        async with connection.execute(statement):
            pass


class SqliteSession:
    """A `Session` on one connection."""

    def __init__(self, connection: aiosqlite.Connection, database: SqliteDatabase) -> None:
        self._connection = connection
        self._database = database

    async def fetch(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> list[Row]:
        """The rows of a SELECT, all of them and however long it takes."""
        return await self._fetch(*SQLITE.render(query), name)

    async def _fetch(self, sql: str, parameters: Sequence[object], name: str) -> list[Row]:
        began = time.perf_counter()
        try:
            rows = await self._read(sql, parameters)
        except TimeLimit:
            self._note(name, began, None, sql, parameters)
            raise
        self._note(name, began, len(rows), sql, parameters)
        return rows

    def _note(self, name: str, began: float, rows: int | None, sql: str, parameters: Sequence[object]) -> None:
        database = self._database
        database.reads.add(name, time.perf_counter() - began, rows, lambda: database.explain(sql, parameters))

    async def _read(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        reading = asyncio.ensure_future(self._connection.execute_fetchall(sql, parameters))
        try:
            with _as_problems():
                return [tuple(row) for row in await asyncio.shield(reading)]
        except asyncio.CancelledError:
            # Nobody waits for it: its thread is wanted for the next. What has not begun cannot be interrupted yet.
            while not reading.done():
                await self._connection.interrupt()
                await asyncio.wait([reading], timeout=0.01)
            reading.exception()
            raise

    async def execute(self, query: QueryBuilder) -> None:
        """Run an UPDATE or DELETE."""
        sql, parameters = SQLITE.render(query)
        with _as_problems():
            async with self._connection.execute(sql, parameters):
                pass

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, replace: bool = False) -> None:
        """Insert `rows`."""
        if rows:
            with _as_problems():
                async with self._connection.executemany(SQLITE.render_insert(table, columns, replace=replace), rows):
                    pass

    async def define(self, statement: str) -> None:
        """Run a statement without values."""
        with _as_problems():
            async with self._connection.execute(statement):
                pass

    async def columns(self, table: str) -> list[str]:
        """The names of a table's columns; none if there is no such table."""
        with _as_problems():
            rows = await self._connection.execute_fetchall("SELECT name FROM pragma_table_info(?)", [table])
        return [name for (name,) in rows]

    async def indexes(self, table: str) -> list[str]:
        """The names of a table's indexes."""
        with _as_problems():
            rows = await self._connection.execute_fetchall("SELECT name FROM pragma_index_list(?)", [table])
        return [name for (name,) in rows]


class SqliteSnapshot(SqliteSession):
    """A `SnapshotSession`: every read of it is capped and limited, here and nowhere else."""

    version: StoreVersion

    async def begin(self) -> None:
        """Read which state it is; by that read it becomes the one that all others see."""
        self.version = store_version(await self._fetch(*self._database.version_sql, NAME))

    async def fetch(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> list[Row]:
        """The rows of a SELECT."""
        with self._limited():
            rows = await self._fetch(*SQLITE.render(cap_rows(query, max_rows)), name)
        return check_rows(rows, name, max_rows)

    async def stream(self, query: QueryBuilder, name: str, *, max_rows: int = MAX_ROWS) -> AsyncGenerator[Row, None]:
        """The rows of a SELECT, one by one."""
        sql, parameters = SQLITE.render(cap_rows(query, max_rows))
        began = time.perf_counter()
        count = 0
        try:
            with self._limited(), _as_problems():
                async with self._connection.execute(sql, parameters) as cursor:
                    while (row := await cursor.fetchone()) is not None:
                        count += 1
                        check_count(count, name, max_rows)
                        yield tuple(row)
        except TimeLimit:
            self._note(name, began, None, sql, parameters)
            raise
        self._note(name, began, count, sql, parameters)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Interrupt what is read for too long."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._database.query_timeout_s, lambda: loop.create_task(self._connection.interrupt()))
        try:
            yield
        finally:
            timer.cancel()


class _as_problems:  # noqa: N801 - reads as the statement it is
    """Turns the driver's errors into problems. Their text is logged, never sent."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, sqlite3.DatabaseError):
            problem = _problem(error)
            if problem is not None:
                raise problem from error


def _problem(error: sqlite3.DatabaseError) -> Problem | None:
    if _code(error) == sqlite3.SQLITE_INTERRUPT:
        return TimeLimit("The query ran into its time limit (QUERY_TIMEOUT_S); ask for fewer levels, runs or models.")
    return _unavailable(error) if _code(error) in _UNAVAILABLE else None


def _code(error: sqlite3.DatabaseError) -> int:
    """The primary code, without what refines it."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _unavailable(error: sqlite3.DatabaseError) -> StoreUnavailable:
    log.warning("SQL store unavailable", error=str(error))
    return StoreUnavailable("The SQL store cannot be used at the moment; try again shortly.")


@asynccontextmanager
async def open_sqlite(
    file: Path,
    *,
    readers: int = 4,
    acquire_timeout_s: float = 10,
    query_timeout_s: float = 10,
    slow_query_ms: float = 0,
) -> AsyncIterator[SqliteDatabase]:
    """The store in `file`, made if it is not there.

    StartFailed if it is no database or cannot be made, which waiting does not mend; StoreUnavailable if it is locked.
    """
    await asyncio.to_thread(_prepare_file, file)
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(readers + 2):
            with _as_problems():
                connection = await stack.enter_async_context(aiosqlite.connect(file, isolation_level=None))
                connections.append(connection)
                # NORMAL may forget the last transactions when the power fails, never half of one; the feed
                # position is forgotten with them, so they are applied again.
                for pragma in ("busy_timeout=10000", "synchronous=NORMAL", "cache_size=-65536"):
                    async with connection.execute(f"PRAGMA {pragma}"):
                        pass
        reads = ReadLog(slow_query_ms)
        stack.push_async_callback(reads.close)
        yield SqliteDatabase(
            connections[0],
            connections[2:],
            connections[1],
            reads,
            acquire_timeout_s=acquire_timeout_s,
            query_timeout_s=query_timeout_s,
        )


def _prepare_file(file: Path) -> None:
    """Make the file, in WAL mode, or find it to be one; the mode stays with the file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=10)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except OSError as error:
        raise StartFailed(f"SQLITE_PATH {file}: its folder cannot be made: {error.strerror}") from error
    except sqlite3.DatabaseError as error:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _unavailable(error) from error
        raise StartFailed(f"SQLITE_PATH {file} cannot be used: {error}") from error

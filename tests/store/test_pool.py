"""Connections: bounded, given back whatever happens, and the time limit on reads."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pypika import CustomFunction, Field, MySQLQuery, Table
from pypika import functions as fn

from analysis_service.database import Database, StoreVersion
from analysis_service.database.dialect import Engine, mysql_dialect
from analysis_service.database.mysql import MysqlAddress, MysqlDatabase, PoolLimits, open_mysql
from analysis_service.database.mysql_session import MysqlSession
from analysis_service.database.sqlite import open_sqlite
from analysis_service.queries.tables import FEED_STATE
from analysis_service.schema import prepare_schema
from shared.problems import PoolExhausted, StoreUnavailable, TimeLimit
from shared.process import StartFailed
from shared.registry.specs import Registry
from tests.sql_servers import Mariadbd, missing, own_database
from tests.store.conftest import OpenStore

CURRENT_DATABASE = CustomFunction("DATABASE")()
NO_REGISTRY = Registry({}, {})


async def test_an_exhausted_pool_is_told_after_the_time_out(open_store: OpenStore) -> None:
    async with open_store(size=2, acquire_timeout_s=0.3) as database:
        await prepare_schema(database, NO_REGISTRY)
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(database.snapshot())
            began = time.monotonic()
            with pytest.raises(PoolExhausted) as caught:
                await database.ping()
            assert 0.25 < time.monotonic() - began < 3
            assert caught.value.retry_after_s == 1
            state = database.pool_state()
            assert (state.in_use, state.free, state.waiting) == (2, 0, 0)
        await database.ping()
        assert database.pool_state().in_use == 0


async def test_waiting_requests_get_connections_as_they_come_back(open_store: OpenStore) -> None:
    async with open_store(size=2) as database:
        await asyncio.gather(*(database.ping() for _ in range(30)))
        assert database.pool_state().in_use == 0


FEED_STATE_COLUMNS = ["id", "position", "version", "token", "registry_hash", "schema_version"]


async def fill(database: Database) -> None:
    """Rows enough for `slow_query`."""
    await prepare_schema(database, NO_REGISTRY)
    rows = [(number, 0, 0, 0, "", 1) for number in range(2, 3000)]
    async with database.transaction() as session:
        await session.insert(FEED_STATE, FEED_STATE_COLUMNS, rows)


async def slow_query(database: Database) -> None:
    """Combines these rows a billion times and more."""
    tables = [FEED_STATE.as_(name) for name in "abcd"]
    query = database.dialect.query.from_(tables[0])
    for table in tables[1:]:
        query = query.from_(table)
    total = sum(table.position for table in tables)
    query = query.select(fn.Max(total + tables[0].id * tables[1].id))
    async with database.snapshot() as session:
        await session.fetch(query, "rows of a test")


async def test_a_slow_read_ends_at_its_time_limit(open_store: OpenStore) -> None:
    async with open_store(size=1, query_timeout_s=0.3) as database:
        await fill(database)
        began = time.monotonic()
        with pytest.raises(TimeLimit):
            await slow_query(database)
        assert time.monotonic() - began < 5
        await database.ping()


async def test_a_cancelled_read_gives_its_connection_back(open_store: OpenStore) -> None:
    async with open_store(size=1, query_timeout_s=3, acquire_timeout_s=10) as database:
        await fill(database)
        task = asyncio.create_task(slow_query(database))
        while not (database.pool_state().in_use or task.done()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await database.ping()
        assert database.pool_state().in_use == 0


async def cancelled_at_any_moment(work: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[None]:
    """Cancels `work` one turn of the loop later each time, until it ends by itself before; a pause after each."""
    for turns in range(500):
        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            return
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        yield
    raise AssertionError("it takes more turns than any read should")


@pytest.mark.parametrize("kind", ["snapshot", "transaction"])
async def test_a_cancellation_at_any_moment_leaves_the_pool_whole(open_store: OpenStore, kind: str) -> None:
    async with open_store(size=1, acquire_timeout_s=2) as database:
        await prepare_schema(database, NO_REGISTRY)
        begin = database.snapshot if kind == "snapshot" else database.transaction
        query = database.dialect.query.from_(FEED_STATE).select(FEED_STATE.id)

        async def read() -> None:
            async with begin() as session:
                assert await session.fetch(query, "rows of a test") == [(1,)]

        async for _ in cancelled_at_any_moment(read):
            pass
        await read()
        assert database.pool_state().in_use == 0


async def test_a_failed_transaction_changes_nothing(open_store: OpenStore) -> None:
    async with open_store(size=1) as database:
        await prepare_schema(database, NO_REGISTRY)

        async def fail_half_way() -> None:
            async with database.transaction() as session:
                await session.insert(FEED_STATE, FEED_STATE_COLUMNS, [(2, 7, 7, 7, "", 1)])
                raise LookupError

        with pytest.raises(LookupError):
            await fail_half_way()
        query = database.dialect.query.from_(FEED_STATE).select(FEED_STATE.id)
        async with database.snapshot() as session:
            assert await session.fetch(query, "rows of a test") == [(1,)]


async def test_a_snapshot_sees_one_state(open_store: OpenStore) -> None:
    async with open_store(size=2) as database:
        await prepare_schema(database, NO_REGISTRY)
        query = database.dialect.query.from_(FEED_STATE).select(FEED_STATE.position)
        async with database.snapshot() as reading:
            before = await reading.fetch(query, "rows of a test")
            async with database.transaction() as writing:
                await writing.execute(database.dialect.query.update(FEED_STATE).set(FEED_STATE.position, 9))
            assert await reading.fetch(query, "rows of a test") == before
        async with database.snapshot() as reading:
            assert await reading.fetch(query, "rows of a test") == [(9,)]


@pytest.fixture
def own_mariadb(tmp_path: Path) -> Iterator[Mariadbd]:
    server = Mariadbd(tmp_path / "mariadb")
    if not server.installed():
        missing("no MariaDB: install Debian's mariadb-server-core and mariadb-client-core")
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def test_a_server_that_went_away_and_came_back(own_mariadb: Mariadbd) -> None:
    limits = PoolLimits(size=3, overflow=0, acquire_timeout_s=2)
    async with open_mysql(own_mariadb.address, limits) as database:
        await asyncio.gather(*(database.ping() for _ in range(3)))
        own_mariadb.stop()
        for _ in range(4):  # more often than there are connections, so that none leaks
            with pytest.raises(StoreUnavailable):
                await database.ping()
        own_mariadb.start()
        await asyncio.gather(*(database.ping() for _ in range(6)))
        assert database.pool_state().in_use == 0


@pytest.mark.parametrize("code", [1021, 1026, 1030, 1114])
@pytest.mark.parametrize("server", ["mariadb", "mysql"])
async def test_a_server_whose_disk_is_full_is_unavailable(
    server: str, code: int, request: pytest.FixtureRequest
) -> None:
    """Which of these a server says depends on the file that it could not write."""
    with own_database(request.getfixturevalue(server)) as address:
        async with open_mysql(address, PoolLimits(size=1)) as database:
            with pytest.raises(StoreUnavailable):
                async with database.transaction() as session:
                    await session.define(f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}")
            await database.ping()


async def test_overflow_is_closed_after_use(mariadb: MysqlAddress) -> None:
    limits = PoolLimits(size=1, overflow=2, acquire_timeout_s=2)
    async with open_mysql(mariadb, limits) as database:
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(database.transaction())
            assert database.pool_state().overflow == 2
        state = database.pool_state()
        assert (state.in_use, state.overflow) == (0, 0)


async def connections_of(database: MysqlDatabase) -> set[int]:
    """The connections that a server has from this database's user of its own database, this one's not among them."""
    async with database.transaction() as session:
        rows = await session.fetch(
            database.dialect.query.from_(Table("processlist", schema="information_schema"))
            .select("ID")
            .where(Field("DB") == CURRENT_DATABASE),
            "rows of a test",
        )
        return {number for (number,) in rows}


@pytest.fixture
def own_mariadb_database(mariadb: MysqlAddress) -> Iterator[MysqlAddress]:
    with own_database(mariadb) as address:
        yield address


@pytest.mark.parametrize(("size", "overflow"), [(1, 0), (2, 2), (4, 1)])
async def test_the_server_sees_as_many_connections_as_are_set(
    own_mariadb_database: MysqlAddress, size: int, overflow: int
) -> None:
    """Counted on the server: beyond size and overflow none is made, beyond the size none is kept."""
    limits = PoolLimits(size=size, overflow=overflow, acquire_timeout_s=0.2)
    async with open_mysql(own_mariadb_database, limits) as database:
        async with AsyncExitStack() as held:
            for _ in range(size + overflow - 1):
                await held.enter_async_context(database.transaction())
            assert len(await connections_of(database)) == size + overflow
            await held.enter_async_context(database.transaction())
            with pytest.raises(PoolExhausted, match=rf"All {size + overflow} database connections .* 0\.2 s"):
                await database.ping()
        async with asyncio.timeout(5):
            while len(await connections_of(database)) != size:  # the server takes a moment to see them closed
                await asyncio.sleep(0.005)


@pytest.mark.parametrize(("recycle_s", "is_another"), [(1e-9, True), (1000, False)])
async def test_a_connection_is_replaced_at_its_age(mariadb: MysqlAddress, recycle_s: float, is_another: bool) -> None:
    query = MySQLQuery.select(CustomFunction("CONNECTION_ID")())
    limits = PoolLimits(size=1, overflow=0, recycle_s=recycle_s)
    async with open_mysql(mariadb, limits) as database:
        numbers = []
        for _ in range(3):
            async with database.transaction() as session:
                numbers += await session.fetch(query, "rows of a test")
        assert len(set(numbers)) == (3 if is_another else 1)


async def test_the_version_s_connection_comes_back_by_itself(own_mariadb: Mariadbd) -> None:
    limits = PoolLimits(size=1, overflow=0, acquire_timeout_s=2)
    async with open_mysql(own_mariadb.address, limits) as database:
        await prepare_schema(database, NO_REGISTRY)
        version = await database.fetch_version()
        assert [await database.fetch_version() for _ in range(3)] == [version] * 3
        own_mariadb.stop()
        with pytest.raises(StoreUnavailable):
            await database.fetch_version()
        own_mariadb.start()
        assert await database.fetch_version() == version
        own_mariadb.stop()
        own_mariadb.start()
        assert await database.fetch_version() == version, "without a failure between"


async def test_a_server_that_hangs_is_asked_for_its_version_once(own_mariadb: Mariadbd) -> None:
    async with open_mysql(own_mariadb.address, PoolLimits(acquire_timeout_s=1)) as database:
        await prepare_schema(database, NO_REGISTRY)
        version = await database.fetch_version()
        own_mariadb.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await database.fetch_version()
            took_s = time.monotonic() - began
        finally:
            own_mariadb.thaw()
        assert 0.9 < took_s < 1.7, "the limit holds for all that it takes, not for each connection tried"
        assert await database.fetch_version() == version


async def test_the_version_is_that_of_the_last_write_and_of_the_snapshot(open_store: OpenStore) -> None:
    async with open_store(size=2) as database:
        await prepare_schema(database, NO_REGISTRY)
        columns = ("position", "version", "token", "registry_hash", "schema_version")
        for values in ((7, 3, 2**62 + 1, "abc", 3), (8, 4, -5, "", 4)):
            async with database.snapshot() as reading:
                before = reading.version
                async with database.transaction() as writing:
                    update = database.dialect.query.update(FEED_STATE)
                    for column, value in zip(columns, values, strict=True):
                        update = update.set(FEED_STATE[column], value)
                    await writing.execute(update)
                    assert await database.fetch_version() == before, "it is not written yet"
                assert await database.fetch_version() == StoreVersion(*values)
                assert reading.version == before
            async with database.snapshot() as reading:
                assert reading.version == StoreVersion(*values)


async def test_a_cancelled_look_at_the_version_harms_no_other(open_store: OpenStore) -> None:
    async with open_store(size=1) as database:
        await prepare_schema(database, NO_REGISTRY)
        expected = await database.fetch_version()
        async for _ in cancelled_at_any_moment(database.fetch_version):
            assert await database.fetch_version() == expected


async def test_a_store_without_its_state_says_so(open_store: OpenStore) -> None:
    async with open_store(size=1) as database:
        await prepare_schema(database, NO_REGISTRY)
        async with database.transaction() as session:
            await session.execute(database.dialect.query.from_(FEED_STATE).delete())
        with pytest.raises(StoreUnavailable, match="feed_state"):
            await database.fetch_version()
        with pytest.raises(StoreUnavailable, match="feed_state"):
            async with database.snapshot():
                pass
        assert database.pool_state().in_use == 0


async def test_wrong_password_and_no_server_are_unavailable(mariadb: MysqlAddress) -> None:
    wrong = MysqlAddress(mariadb.host, mariadb.port, mariadb.user, "wrong", mariadb.database)
    nobody = MysqlAddress(mariadb.host, 1, mariadb.user, mariadb.password, mariadb.database)
    for address, said in ((wrong, "check MYSQL_USER"), (nobody, "cannot be reached")):
        with pytest.raises(StoreUnavailable, match=said):
            async with open_mysql(address):
                pass


async def test_mysqls_default_login_works_without_tls(mysql: MysqlAddress) -> None:
    connection = pymysql.connect(host=mysql.host, port=mysql.port, user=mysql.user, password=mysql.password)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER IF NOT EXISTS 'sha2'@'%' IDENTIFIED BY 'pass word'")
        cursor.execute("ALTER USER 'sha2'@'%' IDENTIFIED BY 'pass word'")  # forgets the cached fast login
        cursor.execute("GRANT ALL ON *.* TO 'sha2'@'%'")
    async with open_mysql(MysqlAddress(mysql.host, mysql.port, "sha2", "pass word", mysql.database)) as database:
        assert database.dialect.engine is Engine.MYSQL


def test_engines_are_told_apart_by_their_version() -> None:
    assert mysql_dialect("5.5.5-10.11.14-MariaDB-0+deb12u2").engine is Engine.MARIADB
    assert mysql_dialect("9.4.0").engine is Engine.MYSQL


async def test_a_file_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is no database, and waiting does not make it one. " * 20)
    for file in (tmp_path / "text", tmp_path, tmp_path / "text" / "below-a-file"):
        with pytest.raises(StartFailed, match=f"SQLITE_PATH {file}"):
            async with open_sqlite(file):
                pass


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
async def test_a_list_of_many_runs_is_looked_up_whatever_memory_it_takes(
    engine: str, request: pytest.FixtureRequest
) -> None:
    """By default MySQL reads the whole table instead; MariaDB has no such setting, and takes none amiss."""
    with own_database(request.getfixturevalue(engine)) as address:
        async with open_mysql(address) as database, database.alone("test") as session:
            assert isinstance(session, MysqlSession)
            found = await session.run("SHOW VARIABLES LIKE 'range_optimizer_max_mem_size'")
            assert found == ([("range_optimizer_max_mem_size", "0")] if engine == "mysql" else [])

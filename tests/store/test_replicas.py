"""Read replicas, with real replication: used where they are as far as is asked, and survived when they are not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest
from structlog.testing import capture_logs

from analysis_service.database import Database, HostState, ReplicaLost, Row, survive_lost_replicas
from analysis_service.database.mysql import MysqlAddress, MysqlDatabase, PoolLimits, ReadHosts, open_mysql
from analysis_service.queries.tables import FEED_STATE, RUNS
from analysis_service.schema import prepare_schema
from shared.problems import StoreUnavailable
from shared.registry.specs import Registry
from tests.sql_servers import Mariadbd, mariadb_with_replica, own_database

TOKENS = count(1)


@dataclass(frozen=True)
class Pair:
    """A primary and the server that follows it, with a database of the test's own."""

    primary: Mariadbd
    replica: Mariadbd
    address: MysqlAddress

    @asynccontextmanager
    async def opened(
        self, *, hosts: int = 1, begin_timeout_s: float = 1, query_timeout_s: float = 10
    ) -> AsyncIterator[MysqlDatabase]:
        """The store, with tables; the replica is given as `hosts` replicas."""
        read_hosts = ReadHosts(
            [("127.0.0.1", self.replica.port)] * hosts, begin_timeout_s=begin_timeout_s, longest_pause_s=0.1
        )
        limits = PoolLimits(size=4, overflow=0, acquire_timeout_s=5)
        async with open_mysql(self.address, limits, query_timeout_s=query_timeout_s, read_hosts=read_hosts) as database:
            await prepare_schema(database, Registry({}, {}))
            yield database

    def stop_applying(self) -> None:
        """Let the replica hear of what is written and not do it."""
        self.replica.run("STOP SLAVE SQL_THREAD")

    def go_on(self) -> None:
        """Let it do what it has heard of."""
        self.replica.run("START SLAVE SQL_THREAD")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mariadbd, Mariadbd]]:
    with mariadb_with_replica(tmp_path_factory.mktemp("replication")) as servers:
        yield servers


@pytest.fixture
def pair(servers: tuple[Mariadbd, Mariadbd]) -> Iterator[Pair]:
    primary, replica = servers
    with own_database(primary.address) as address:
        yield Pair(primary, replica, address)


async def write(database: Database) -> int:
    """Change the store, and return its version from then on."""
    version = (await database.fetch_version()).version + 1
    async with database.transaction() as session:
        update = database.dialect.query.update(FEED_STATE).set(FEED_STATE.version, version)
        await session.execute(update.set(FEED_STATE.token, next(TOKENS)))
    return version


async def read(database: Database, at_least: int) -> int:
    """The version that a snapshot sees."""
    query = database.dialect.query.from_(FEED_STATE).select(FEED_STATE.version)
    async with database.snapshot(at_least) as session:
        [(version,)] = await session.fetch(query, "rows of a test")
        assert session.version.version == version
        return int(version)


def replica_of(database: Database) -> HostState:
    return database.hosts()[1]


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def used(database: Database, version: int) -> None:
    """Wait until the replica answers reads of a version, which the primary does until then."""
    async with asyncio.timeout(20):
        before = replica_of(database).snapshots
        while replica_of(database).snapshots == before or not replica_of(database).is_used:
            assert await read(database, version) >= version
            await asyncio.sleep(0.005)


def snapshots(database: Database) -> list[int]:
    """How many each host has begun, the primary first."""
    return [host.snapshots for host in database.hosts()]


async def test_reads_of_a_known_version_go_to_replicas_in_turn(pair: Pair) -> None:
    async with pair.opened(hosts=2) as database:
        version = await write(database)
        await until(lambda: all(host.is_used for host in database.hosts()))
        await used(database, version)
        before = snapshots(database)
        for _ in range(6):
            assert await read(database, version) == version
        assert [now - then for now, then in zip(snapshots(database), before, strict=True)] == [0, 3, 3]
        async with database.snapshot() as session:
            assert session.version.version == version
        assert snapshots(database)[0] == before[0] + 1, "who asks for no version is answered by the primary"


async def test_a_replica_that_is_behind_is_not_read_until_it_has_caught_up(pair: Pair) -> None:
    async with pair.opened() as database:
        await used(database, await write(database))
        pair.stop_applying()
        try:
            newer = await write(database)
            assert await read(database, newer) == newer
            host = replica_of(database)
            assert (host.is_used, host.is_behind) == (False, True)
            before = replica_of(database).snapshots
            for _ in range(5):
                assert await read(database, newer) == newer
            assert replica_of(database).snapshots == before, "it is left alone meanwhile"
        finally:
            pair.go_on()
        await used(database, newer)
        assert not replica_of(database).is_behind


async def test_a_replica_of_another_history_is_not_read(pair: Pair) -> None:
    """The primary was emptied and built anew while the replica stood still: its version is the greater one."""
    async with pair.opened() as database:
        for _ in range(3):
            newest = await write(database)
        await used(database, newest)
        pair.stop_applying()
        try:
            for version in (1, newest):  # older than the replica's, and of the same number
                async with database.transaction() as session:
                    update = database.dialect.query.update(FEED_STATE).set(FEED_STATE.version, version)
                    await session.execute(update.set(FEED_STATE.token, next(TOKENS)))
                now = await database.fetch_version()
                async with database.snapshot(now.version) as session:
                    assert session.version == now
            assert not replica_of(database).is_used
        finally:
            pair.go_on()
        await used(database, newest)


async def test_a_replica_that_was_behind_comes_back_after_the_primary_went_back(pair: Pair) -> None:
    """What it was too old for is a version that there is not any more."""
    async with pair.opened() as database:
        await used(database, await write(database))
        pair.stop_applying()
        try:
            for _ in range(3):
                newest = await write(database)
            assert await read(database, newest) == newest
            assert not replica_of(database).is_used
            async with database.transaction() as session:
                update = database.dialect.query.update(FEED_STATE).set(FEED_STATE.version, 1)
                await session.execute(update.set(FEED_STATE.token, next(TOKENS)))
            assert (await database.fetch_version()).version == 1
        finally:
            pair.go_on()
        await used(database, 1)


async def test_a_replica_that_was_killed_is_survived_and_used_again(pair: Pair) -> None:
    async with pair.opened() as database:
        version = await write(database)
        await used(database, version)
        pair.replica.kill()
        try:
            for _ in range(4):
                assert await read(database, version) == version
            assert not replica_of(database).is_used
            version = await write(database)
            assert await read(database, version) == version
        finally:
            pair.replica.start()
        await used(database, version)
        assert replica_of(database).pool.in_use == 0


async def test_a_replica_that_is_killed_inside_a_read_is_survived(pair: Pair) -> None:
    query = FEED_STATE
    async with pair.opened() as database:
        version = await write(database)
        await used(database, version)
        select = database.dialect.query.from_(query).select(query.version)
        turns = []

        async def read_twice() -> list[int]:
            async with database.snapshot(version) as session:
                rows = await session.fetch(select, "rows of a test")
                turns.append(replica_of(database).is_used)
                if len(turns) == 1:
                    pair.replica.kill()
                rows += await session.fetch(select, "rows of a test")
                return [number for (number,) in rows]

        try:
            with pytest.raises(ReplicaLost):
                await read_twice()
            turns.clear()
            pair.replica.start()
            await used(database, version)
            assert await survive_lost_replicas(read_twice)() == [version, version]
            assert turns == [True, False]
        finally:
            pair.replica.start()


async def test_what_a_replica_lacks_is_read_from_the_primary(pair: Pair) -> None:
    name = pair.address.database
    async with pair.opened() as database:
        version = await write(database)
        await used(database, version)
        select = database.dialect.query.from_(RUNS).select(RUNS.run_no)

        async def read_runs() -> list[Row]:
            async with database.snapshot(version) as session:
                return await session.fetch(select, "rows of a test")

        pair.replica.run(f"RENAME TABLE {name}.runs TO {name}.gone")
        try:
            with pytest.raises(ReplicaLost):
                await read_runs()
            await used(database, version)
            assert await survive_lost_replicas(read_runs)() == []
        finally:
            pair.replica.run(f"RENAME TABLE {name}.gone TO {name}.runs")


async def test_replicas_that_lose_reads_in_turns_do_not_get_them_for_ever(pair: Pair) -> None:
    async with pair.opened(hosts=2) as database:
        version = await write(database)
        turns: list[bool] = []

        async def lose() -> None:
            await until(lambda: all(replica.is_used for replica in database.replicas))
            before = snapshots(database)
            async with database.snapshot(version):
                turns.append(snapshots(database)[0] > before[0])
                if not turns[-1]:
                    raise StoreUnavailable("as if it were away")

        async with asyncio.timeout(10):
            await survive_lost_replicas(lose)()
        assert turns == [False, True], "a replica, then the primary"


async def test_a_replica_that_hangs_holds_nobody_up(pair: Pair) -> None:
    async with pair.opened(begin_timeout_s=0.3) as database:
        version = await write(database)
        await used(database, version)
        pair.replica.freeze()
        try:
            began = time.monotonic()
            assert await read(database, version) == version
            assert time.monotonic() - began < 3
            began = time.monotonic()
            for _ in range(20):
                assert await read(database, version) == version
            assert time.monotonic() - began < 3, "who comes later does not wait for it"
        finally:
            pair.replica.thaw()
        await used(database, version)


async def test_a_replica_that_hangs_inside_a_read_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis_service.database.mysql_session._GRACE_S", 0.1)
    async with pair.opened(query_timeout_s=0.2) as database:
        version = await write(database)
        await used(database, version)
        select = database.dialect.query.from_(FEED_STATE).select(FEED_STATE.version)
        turns = []

        async def read_late() -> int:
            async with database.snapshot(version) as session:
                turns.append(replica_of(database).is_used)
                if len(turns) == 1:
                    pair.replica.freeze()
                [(found,)] = await session.fetch(select, "rows of a test")
                return int(found)

        try:
            began = time.monotonic()
            assert await survive_lost_replicas(read_late)() == version
            assert time.monotonic() - began < 4
            assert turns == [True, False]
        finally:
            pair.replica.thaw()
        await used(database, version)

        try:
            async with database.snapshot(version) as session:
                await session.fetch(select, "rows of a test")
                pair.replica.freeze()  # all is read: what comes of the end is nobody's concern
        finally:
            pair.replica.thaw()
        await used(database, version)


async def test_a_replica_need_not_be_there_at_the_start(pair: Pair) -> None:
    pair.replica.kill()
    try:
        with capture_logs() as lines:
            async with pair.opened() as database:
                version = await write(database)
                assert await read(database, version) == version
                assert not replica_of(database).is_used
                while not (told := [line["event"] for line in lines if line["log_level"] != "debug"]):
                    await asyncio.sleep(0.005)
                assert told == ["replica left alone"]
                pair.replica.start()
                await used(database, version)
        told = [line["event"] for line in lines if line["log_level"] != "debug"]
        assert told == ["replica left alone", "replica used again"], "once, however often it was looked at"
    finally:
        pair.replica.start()

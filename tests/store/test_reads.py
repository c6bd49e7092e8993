"""What every read of the SQL store has: a cap on its rows, a time limit, figures, a line in the log when it is slow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest
from pypika import functions as fn
from pypika.queries import QueryBuilder
from structlog.testing import capture_logs

from analysis_service.database import Database, SnapshotSession
from analysis_service.database.read_log import plan_kind
from analysis_service.queries.tables import FEED_STATE
from analysis_service.schema import prepare_schema
from shared.problems import TimeLimit, TooManyGroups
from shared.registry.specs import Registry
from tests.store.conftest import OpenStore

NAME = "rows of a test"
ROWS = 50
SECRET = 987654321


async def fill(database: Database) -> None:
    """ROWS rows with ids from 1."""
    await prepare_schema(database, Registry({}, {}))
    columns = ["id", "position", "version", "token", "registry_hash", "schema_version"]
    async with database.transaction() as session:
        await session.insert(FEED_STATE, columns, [(number, 0, 0, 0, "x" * 60, 1) for number in range(2, ROWS + 1)])


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Database]:
    async with open_store(size=2, query_timeout_s=0.5) as database:
        await fill(database)
        yield database


def ids(database: Database) -> QueryBuilder:
    return database.dialect.query.from_(FEED_STATE).select(FEED_STATE.id).orderby(FEED_STATE.id)


def endless(database: Database) -> QueryBuilder:
    """A query that goes through these rows many times over."""
    tables = [FEED_STATE.as_(name) for name in "abcdefg"]
    query = database.dialect.query.from_(tables[0])
    for table in tables[1:]:
        query = query.from_(table)
    return query.select(fn.Max(sum(table.position for table in tables) + tables[0].id * tables[1].id))


async def fetched(session: SnapshotSession, query: QueryBuilder, **limits: int) -> list[Any]:
    return await session.fetch(query, NAME, **limits)


async def streamed(session: SnapshotSession, query: QueryBuilder, **limits: int) -> list[Any]:
    async with aclosing(session.stream(query, NAME, **limits)) as rows:
        return [row async for row in rows]


WAYS = pytest.mark.parametrize("way", [fetched, streamed])
"""A snapshot has no other way to read."""


@WAYS
async def test_a_read_brings_its_rows_and_is_counted(store: Database, way: Callable[..., Any]) -> None:
    async with store.snapshot() as session:
        assert await way(session, ids(store)) == [(number,) for number in range(1, ROWS + 1)]
        assert await way(session, ids(store).limit(7)) == [(number,) for number in range(1, 8)]
    counts = store.reads.by_name[NAME]
    assert (counts.durations.count, counts.rows, counts.slow, counts.ended) == (2, ROWS + 7, 0, 0)


@WAYS
async def test_a_read_is_capped(store: Database, way: Callable[..., Any]) -> None:
    async with store.snapshot() as session:
        assert len(await way(session, ids(store), max_rows=ROWS)) == ROWS
    for query in (ids(store), ids(store).limit(ROWS + 100)):
        with pytest.raises(TooManyGroups, match=rf"more than 10 rows of '{NAME}'; ask for fewer"):
            async with store.snapshot() as session:
                await way(session, query, max_rows=10)
        assert store.reads.by_name[NAME].rows <= ROWS + 2 * 11, "the server is not asked for more than shows it"
    await store.ping()
    assert store.pool_state().in_use == 0


@WAYS
async def test_a_read_ends_at_its_time_limit(store: Database, way: Callable[..., Any]) -> None:
    with pytest.raises(TimeLimit, match="ask for fewer levels"):
        async with store.snapshot() as session:
            await way(session, endless(store))
    counts = store.reads.by_name[NAME]
    assert (counts.durations.count, counts.ended) == (1, 1)
    await store.ping()


async def test_reads_of_writes_are_not_cut_short(store: Database) -> None:
    async with store.transaction() as session:
        assert len(await session.fetch(ids(store), NAME, max_rows=10)) == ROWS


async def test_a_stream_that_is_left_gives_its_connection_back(store: Database) -> None:
    for _ in range(5):  # more often than there are connections
        async with store.snapshot() as session, aclosing(session.stream(ids(store), NAME)) as rows:
            assert await anext(rows) == (1,)
    with suppress(LookupError):
        async with store.snapshot() as session, aclosing(session.stream(ids(store), NAME)) as rows:
            async for _ in rows:
                raise LookupError
    async with store.snapshot() as session:
        assert len(await streamed(session, ids(store))) == ROWS
        assert len(await fetched(session, ids(store))) == ROWS
    assert store.pool_state().in_use == 0


async def slow_lines(lines: list[Any], count: int) -> list[dict[str, Any]]:
    """The log's lines about slow queries, once there are so many."""
    async with asyncio.timeout(10):
        while len(found := [dict(line) for line in lines if line["event"] == "slow query"]) < count:
            await asyncio.sleep(0.005)
    return found


async def test_slow_reads_are_told_with_the_engine_s_plan_and_without_values(open_store: OpenStore) -> None:
    async with open_store(size=3, slow_query_ms=0.0001) as database:
        await fill(database)
        query = ids(database).where(FEED_STATE.id != SECRET)
        with capture_logs() as lines:
            async with database.snapshot() as session:
                [of_the_version] = await slow_lines(lines, 1)
                lines.clear()
                kind = plan_kind.set("sums")
                await session.fetch(query, NAME)
                plan_kind.reset(kind)
                [first] = await slow_lines(lines, 1)
                await session.fetch(query, NAME)
                [_, second] = await slow_lines(lines, 2)
        assert of_the_version["query"] == "store version"
        assert (first["query"], first["rows"], first["plan"], first["log_level"]) == (NAME, ROWS, "sums", "warning")
        assert first["ms"] >= 0
        [step] = first["explain"]
        assert "feed_state" in (step.get("table") or step["detail"])
        assert str(SECRET) not in repr(lines)
        assert "explain" not in second, "once a minute for each name"
        assert "plan" not in second
        assert database.reads.by_name[NAME].slow == 2


async def test_a_read_that_the_time_limit_ended_is_told(open_store: OpenStore) -> None:
    async with open_store(size=2, query_timeout_s=0.3, slow_query_ms=200) as database:
        await fill(database)
        with capture_logs() as lines:
            with pytest.raises(TimeLimit):
                async with database.snapshot() as session:
                    await session.fetch(endless(database), NAME)
            [line] = await slow_lines(lines, 1)
        assert (line["ended"], line["rows"]) == ("by the time limit", None)
        assert line["ms"] >= 300
        assert len(line["explain"]) >= 7


async def test_a_full_pool_is_not_asked_to_explain(open_store: OpenStore) -> None:
    async with open_store(size=1, slow_query_ms=0.0001) as database:
        await fill(database)
        with capture_logs() as lines:
            async with database.snapshot() as session:
                await session.fetch(ids(database), NAME)
                async with asyncio.timeout(2):  # sooner than anyone gives up to wait for a connection
                    told = await slow_lines(lines, 2)
        assert not any("explain" in line for line in told)


async def test_nothing_is_slow_where_it_is_turned_off(open_store: OpenStore) -> None:
    async with open_store(size=1, slow_query_ms=0) as database:
        await fill(database)
        with capture_logs() as lines:
            async with database.snapshot() as session:
                await session.fetch(ids(database), NAME)
        assert not [line for line in lines if line["event"] == "slow query"]
        assert database.reads.by_name[NAME].slow == 0

"""The catalog: every run, by what has changed since, is what a fresh look at the store finds."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from analysis_service.catalog import Catalog
from analysis_service.database import Database, SnapshotSession
from analysis_service.queries.tables import RUN_VERSIONS, RUNS
from analysis_service.reader import Reader
from analysis_service.schema import prepare_schema
from shared.registry.load import load_registry
from tests.run_rows import COUNTED, UNCOUNTED, Writer, reads
from tests.store.conftest import OpenStore

REGISTRY = load_registry(None)


@pytest.fixture
async def database(open_store: OpenStore) -> AsyncIterator[Database]:
    async with open_store() as opened:
        await prepare_schema(opened, REGISTRY)
        yield opened


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database)


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Reader]:
    reading = Reader(database, REGISTRY, 1000)
    yield reading
    await reading.close()


@pytest.fixture
def floors(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The versions that snapshots were asked to have at least."""
    asked: list[int | None] = []
    take = type(database).snapshot

    @asynccontextmanager
    async def take_and_tell(self: Database, at_least: int | None = None) -> AsyncIterator[SnapshotSession]:
        asked.append(at_least)
        async with take(self, at_least) as session:
            yield session

    monkeypatch.setattr(type(database), "snapshot", take_and_tell)
    return asked


def content(catalog: Catalog) -> dict[str, Any]:
    """All that a catalog says; runs by their values."""
    return {
        "version": catalog.version,
        "token": catalog.token,
        "runs": {name: (own.version, own.whole, own.runs) for name, own in catalog.by_benchmark.items()},
        "numbers": dict(catalog.by_number),
        "latest": {name: list(own.latest) for name, own in catalog.by_benchmark.items()},
    }


async def fresh(database: Database) -> Catalog:
    """What a reader that knows nothing finds."""
    reading = Reader(database, REGISTRY, 1000)
    try:
        return await reading.current()
    finally:
        await reading.close()


def random_run(random: Random) -> dict[str, Any]:
    second = f"2024-01-01T00:00:{random.randrange(30):02}"
    return {
        "model_id": random.choice(["gpt-4", "gpt-4o", "nobody's"]),
        "timestamp": f"{second}Z",
        "time_key": second,
        "seq": random.randrange(50),
        "n_questions": random.choice([0, 20, 30, 500]),
        "set_no": random.choice([None, 2**62]),
        "live": int(random.random() < 0.2),
        "harness": random.choice([None, "lm-eval"]),
        "config_hash": random.choice([None, "a" * 32, "b" * 32]),
    }


@pytest.mark.parametrize("seed", range(4))
async def test_by_changes_it_becomes_what_a_fresh_look_finds(
    database: Database, writer: Writer, reader: Reader, seed: int
) -> None:
    random = Random(seed)
    stored: dict[int, str] = {}
    kept: list[tuple[Catalog, dict[str, Any]]] = []
    for _ in range(60):
        if stored and random.random() < 0.3:
            number = random.choice(list(stored))
            await writer.remove(number, stored.pop(number))
        elif stored and random.random() < 0.4:
            number = random.choice(list(stored))
            await writer.put(number, stored[number], **random_run(random))
        else:
            number = max(stored, default=0) + 1  # of a removed run, or a new one
            stored[number] = random.choice([COUNTED, UNCOUNTED])
            await writer.put(number, stored[number], **random_run(random))
        if random.random() < 0.4:
            now = await reader.current()
            assert content(now) == content(await fresh(database))
            assert sorted(now.by_number) == sorted(stored)
            kept.append((now, content(now)))
    for catalog, before in kept:
        assert content(catalog) == before, "whoever reads with an older one keeps it"
    assert reads(database, "runs changed since") > 10


async def test_many_changes_at_once(database: Database, writer: Writer, reader: Reader) -> None:
    await writer.put_many(range(1, 301))
    assert len((await reader.current()).by_number) == 300
    await writer.put_many(range(301, 501))
    async with writer.change(COUNTED) as session:
        for run_no in range(50, 250):
            await session.execute(database.dialect.query.from_(RUNS).delete().where(RUNS.run_no == run_no))
            changed = database.dialect.query.update(RUN_VERSIONS).set(RUN_VERSIONS.version, writer.version)
            await session.execute(changed.where(RUN_VERSIONS.run_no == run_no))
    now = await reader.current()
    assert content(now) == content(await fresh(database))
    assert len(now.by_number) == 300


async def test_what_has_not_changed_is_neither_read_nor_made_again(
    database: Database, writer: Writer, reader: Reader
) -> None:
    await writer.put(1)
    await writer.put(2, UNCOUNTED)
    before = await reader.current()
    assert await reader.current() is before
    async with reader.snapshot() as snapshot:
        assert snapshot.catalog is before
    await writer.put(3, UNCOUNTED)
    after = await reader.current()

    assert after.by_benchmark[COUNTED] is before.by_benchmark[COUNTED]
    assert after.by_benchmark[UNCOUNTED].runs[0] is before.by_benchmark[UNCOUNTED].runs[0]
    assert reads(database, "all runs") == 1
    assert reads(database, "runs changed since") == 1
    assert database.reads.by_name["runs changed since"].rows == 1


async def test_a_version_is_that_of_the_benchmarks_asked_for(writer: Writer, reader: Reader) -> None:
    await writer.put(1)
    await writer.put(2, UNCOUNTED)

    async def versions() -> list[str]:
        async with reader.snapshot() as snapshot:
            asked = ([COUNTED], [UNCOUNTED], [UNCOUNTED, COUNTED], None)
            return [snapshot.data_version(benchmarks) for benchmarks in asked]

    before = await versions()
    await writer.put(3, UNCOUNTED)
    after = await versions()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False, False]
    async with writer.change("parked-one"):
        pass
    assert [old == new for old, new in zip(after, await versions(), strict=True)] == [True, True, True, False]


async def test_many_who_want_the_same_version_have_it_read_once(
    database: Database, writer: Writer, reader: Reader, floors: list[int | None]
) -> None:
    await writer.put(1)
    await reader.current()
    await writer.put(2)
    found = await asyncio.gather(*(reader.current() for _ in range(50)))
    assert {len(catalog.by_number) for catalog in found} == {2}
    assert reads(database, "runs changed since") == 1
    assert floors == [1, 2], "one snapshot each"


async def test_snapshots_of_one_version_share_the_reading_of_what_changed(
    database: Database, writer: Writer, reader: Reader
) -> None:
    await writer.put(1)
    await reader.current()
    await writer.put(2)

    async def look() -> int:
        async with reader.snapshot() as snapshot:
            return len(snapshot.catalog.by_number)

    assert await asyncio.gather(*(look() for _ in range(4))) == [2] * 4
    assert reads(database, "runs changed since") == 1


async def test_a_snapshot_older_than_what_is_known_is_taken_again(
    database: Database, writer: Writer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.put(1)
    await reader.current()
    taken: list[int] = []
    take = type(database).snapshot

    @asynccontextmanager
    async def take_slowly(self: Database, at_least: int | None = None) -> AsyncIterator[SnapshotSession]:
        async with take(self, at_least) as session:
            taken.append(session.version.version)
            if len(taken) == 1:  # before its reader comes to it, others write, and others read
                await writer.put(2)
                await reader.current()
            yield session

    monkeypatch.setattr(type(database), "snapshot", take_slowly)
    async with reader.snapshot() as snapshot:
        assert len(snapshot.catalog.by_number) == 2
    assert taken == [1, 2, 2], "the first, the others' and the second try"


GOING_BACK: dict[str, Callable[[Writer, Catalog], Any]] = {
    "to-an-older-version": lambda writer, known: writer.set_state(version=known.version - 1, token=1),
    "to-another-of-the-same": lambda writer, known: writer.set_state(token=known.token + 1),
    "to-nothing": lambda writer, _: writer.set_state(version=0, token=0),
}


@pytest.mark.parametrize("how", GOING_BACK)
async def test_a_store_that_went_back_is_read_anew(
    database: Database, writer: Writer, reader: Reader, how: str
) -> None:
    for number in (1, 2, 3):
        await writer.put(number)
    known = await reader.current()
    async with database.transaction() as session:  # as a restored backup has it: without a trace
        for table in (RUNS, RUN_VERSIONS):
            await session.execute(database.dialect.query.from_(table).delete().where(table.run_no == 3))
    await GOING_BACK[how](writer, known)

    now = await reader.current()
    assert sorted(now.by_number) == [1, 2]
    assert now.epoch == known.epoch + 1
    assert await reader.current() is now
    async with reader.snapshot() as snapshot:
        assert snapshot.catalog is now


async def test_benchmarks_that_are_not_registered_are_left_out(writer: Writer, reader: Reader) -> None:
    await writer.put(1, "no-such-benchmark")
    assert (await reader.current()).by_number == {}
    await writer.put(2)
    await writer.put(3, "no-such-benchmark")
    await writer.put(1)
    assert sorted((await reader.current()).by_number) == [1, 2]


async def test_whoever_may_answer_has_the_version_that_the_primary_told(
    writer: Writer, reader: Reader, floors: list[int | None]
) -> None:
    async with reader.snapshot():
        pass
    for number in (1, 2):
        await writer.put(number)
        await reader.current()
        async with reader.snapshot():
            pass
    assert floors == [None, 1, 1, 2, 2], "the primary, whose word is not asked for yet; then what it has told"


async def test_a_read_that_fails_leaves_what_is_known(
    database: Database, writer: Writer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.put(1)
    await reader.current()
    await writer.put(2)
    with monkeypatch.context() as patched:
        patched.setattr("analysis_service.catalog.StoredRun", None)
        with pytest.raises(TypeError):
            await reader.current()
    assert content(await reader.current()) == content(await fresh(database))

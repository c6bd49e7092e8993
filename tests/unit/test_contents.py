"""What is kept in memory of layouts, question sets and combinations, and when it is read again."""

from collections.abc import Collection
from typing import Any

import pytest
from pypika import Table
from pypika.queries import QueryBuilder

from analysis_service.database import Row
from analysis_service.database.dialect import SQLITE, Dialect
from analysis_service.group_by import contents
from analysis_service.group_by.combinations import CombinationMemory
from analysis_service.group_by.contents import Contents
from analysis_service.queries.sums import one_of
from shared.problems import StoreUnavailable, TooManyGroups
from tests.unit.test_group_by import SPEC


class Store:
    """A table in memory; `asked` are the statements that came."""

    def __init__(self, rows: dict[int, tuple[Any, ...]]) -> None:
        self.rows = rows
        self.asked: list[str] = []

    async def fetch(self, query: QueryBuilder, name: str) -> list[Row]:
        sql, parameters = SQLITE.render(query)
        self.asked.append(name)
        match parameters:
            case [int(first)]:
                return [(number, *values) for number, values in sorted(self.rows.items()) if number >= first]
        wanted = {int(number) for number in sql.rpartition("(")[2].rstrip(")").split(",")}
        return [(number, *values) for number, values in self.rows.items() if number in wanted]


def texts_query(dialect: Dialect, benchmark: str, numbers: Collection[int]) -> QueryBuilder:
    table = Table(benchmark)
    return dialect.query.from_(table).select("*").where(one_of(table.number, numbers))


def texts(max_bytes: int = 1000) -> Contents[str]:
    return Contents("texts", texts_query, bytes.decode, len, max_bytes)


STORED: dict[int, tuple[Any, ...]] = {number: (b"%d" % number * 4,) for number in range(10)}


async def test_what_is_known_is_not_read_again() -> None:
    memory, store = texts(), Store(STORED)
    assert await memory.fetch(store, SQLITE, "one", [3, 3, 5]) == {3: "3333", 5: "5555"}
    assert await memory.fetch(store, SQLITE, "one", [5, 3]) == {3: "3333", 5: "5555"}
    assert store.asked == ["texts"]
    assert await memory.fetch(store, SQLITE, "one", [5, 6]) == {5: "5555", 6: "6666"}
    assert await memory.fetch(store, SQLITE, "one", []) == {}
    assert store.asked == ["texts"] * 2


async def test_the_least_recently_used_goes_and_all_that_is_asked_for_comes() -> None:
    memory, store = texts(max_bytes=12), Store(STORED)
    await memory.fetch(store, SQLITE, "one", [1, 2, 3])
    await memory.fetch(store, SQLITE, "one", [1])
    await memory.fetch(store, SQLITE, "one", [4])  # 2 or 3 goes
    store.asked.clear()
    await memory.fetch(store, SQLITE, "one", [1, 4])
    assert store.asked == []
    await memory.fetch(store, SQLITE, "one", [2, 3])
    assert store.asked == ["texts"], "one of them went"
    store.asked.clear()
    assert len(await memory.fetch(store, SQLITE, "one", range(10))) == 10, "more than fits"
    assert store.asked == ["texts"]


async def test_what_the_store_lacks_is_told() -> None:
    with pytest.raises(StoreUnavailable, match="lacks 2 texts that runs of one refer to"):
        await texts().fetch(Store(STORED), SQLITE, "one", [1, 11, 12])


async def test_more_than_one_statement_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "READ_MAX", 3)
    memory, store = texts(), Store(STORED)
    await memory.fetch(store, SQLITE, "one", range(3))
    await memory.fetch(store, SQLITE, "one", range(6))
    with pytest.raises(TooManyGroups, match="needs 4 texts of one and may read 3"):
        await memory.fetch(store, SQLITE, "one", range(10))


ROWS: dict[int, tuple[Any, ...]] = {1: ("b", 5, None), 2: ("a", None, 1), 3: ("z", -1, 0)}


def values(known: Any, number: int) -> tuple[Any, ...]:
    return tuple(field.values[field.codes[number]] for field in known.fields.values())


async def test_combinations_are_added_to_what_is_known() -> None:
    memory, store = CombinationMemory(), Store(dict(ROWS))
    known = await memory.fetch(store, SQLITE, SPEC, epoch=0, needed=3)
    assert [values(known, number) for number in ROWS] == [("b", 5, None), ("a", None, True), ("z", -1, False)]
    assert list(known.fields["form"].values) == ["z", "a", "b", None], "as the registry orders them"
    assert await memory.fetch(store, SQLITE, SPEC, epoch=0, needed=2) is known
    assert store.asked == ["combinations"]
    store.rows[5] = ("a0", 0, 1)
    grown = await memory.fetch(store, SQLITE, SPEC, epoch=0, needed=5)
    assert [values(grown, number) for number in (3, 5)] == [("z", -1, False), ("a0", 0, True)]
    assert grown.fields["form"].codes[4] == -1
    assert values(known, 3) == ("z", -1, False), "whoever reads with the former keeps it"
    assert store.asked == ["combinations"] * 2


async def test_another_history_of_the_store_is_read_anew() -> None:
    memory, store = CombinationMemory(), Store(dict(ROWS))
    await memory.fetch(store, SQLITE, SPEC, epoch=0, needed=3)
    store.rows = {1: ("z", 1, 1), 2: ("z", 2, 1), 3: ("z", 3, 1)}
    assert values(await memory.fetch(store, SQLITE, SPEC, epoch=1, needed=3), 1) == ("z", 1, True)
    # Where nobody noticed that it is another one: what was the last is not any more.
    store.rows = {number: ("a", number, 0) for number in range(1, 6)}
    again = await memory.fetch(store, SQLITE, SPEC, epoch=1, needed=4)
    assert values(again, 1) == ("a", 1, False)
    assert store.asked[-2:] == ["combinations", "combinations again"]


async def test_combinations_that_the_store_lacks_are_told() -> None:
    with pytest.raises(StoreUnavailable, match="lacks combinations of metadata that runs of shapes refer to"):
        await CombinationMemory().fetch(Store(dict(ROWS)), SQLITE, SPEC, epoch=0, needed=4)

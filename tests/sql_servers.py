"""SQL servers for tests: MariaDB from Debian's package, a MySQL named by DSN, or both from containers."""

import gc
import os
import shutil
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pymysql
import pytest

from analysis_service.database.mysql import MysqlAddress

MYSQL_DSN = "SCOREHOUSE_TEST_MYSQL_DSN"


def missing(reason: str) -> None:
    """Fail under CI, skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Mariadbd:
    """A real MariaDB in a temporary folder.

    `options` are of its command line; `at_start` are statements, a line each, that it runs at each start.
    """

    def __init__(self, folder: Path, *, options: Sequence[str] = (), at_start: Sequence[str] = ()) -> None:
        self.folder = folder
        self._options = options
        self._at_start = at_start
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.address = MysqlAddress("127.0.0.1", self.port, "scorehouse", "secret", "scorehouse")
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def installed() -> bool:
        """Whether there is a MariaDB to start."""
        return _program() is not None and shutil.which("my_print_defaults") is not None

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._process is not None:
            return
        server = _program()
        assert server is not None
        data = self.folder / "data"
        if not data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"]
            install += ["--auth-root-authentication-method=normal"]
            if os.geteuid() == 0:
                install.append("--user=root")
            subprocess.run(install, check=True, capture_output=True)
            # The server runs this file line by line.
            (self.folder / "init.sql").write_text(
                "CREATE DATABASE IF NOT EXISTS scorehouse;\n"
                "CREATE USER IF NOT EXISTS scorehouse@'127.0.0.1' IDENTIFIED BY 'secret';\n"
                "GRANT ALL ON *.* TO scorehouse@'127.0.0.1';\n" + "".join(f"{line};\n" for line in self._at_start)
            )
        command = [server, "--no-defaults", f"--datadir={data}", f"--port={self.port}", "--bind-address=127.0.0.1"]
        # The socket's path must be short, which a temporary folder's need not be; connections come by TCP.
        command += [f"--socket=scorehouse-{self.port}.sock", f"--pid-file={self.folder / 'pid'}"]
        command += ["--innodb-buffer-pool-size=128M", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"]
        command += [f"--init-file={self.folder / 'init.sql'}", *self._options]
        if os.geteuid() == 0:
            command.append("--user=root")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not _answers(self.address):
            tail = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"mariadbd ended: {tail}"
            assert time.monotonic() < deadline, f"mariadbd is not ready: {tail}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process, if it runs, and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """End the process as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def freeze(self) -> None:
        """Have it do nothing, and not end either, from now until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # each of its threads stops in its own time

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def run(self, statement: str) -> None:
        """Run a statement, as the user who may do everything."""
        with _connect(self.address) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def mariadb_with_replica(folder: Path) -> Iterator[tuple[Mariadbd, Mariadbd]]:
    """A primary and a server that follows it, by real replication; `missing` where none is installed."""
    if not Mariadbd.installed():
        missing("no MariaDB: install Debian's mariadb-server-core and mariadb-client-core")
    primary = Mariadbd(folder / "primary", options=["--server-id=1", "--log-bin=binlog", "--binlog-format=ROW"])
    follow = (
        f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, MASTER_USER='scorehouse', "
        "MASTER_PASSWORD='secret', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos"
    )
    # A replica that was killed knows whom to follow, and refuses to be told while it follows.
    replica = Mariadbd(folder / "replica", options=["--server-id=2"], at_start=["STOP SLAVE", follow, "START SLAVE"])
    try:
        primary.start()
        replica.start()
        yield primary, replica
    finally:
        replica.stop()
        primary.stop()


def _program() -> str | None:
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


def _answers(address: MysqlAddress) -> bool:
    try:
        _connect(address).close()
    except pymysql.err.OperationalError:
        return False
    return True


def _connect(address: MysqlAddress, database: str | None = None) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    return pymysql.connect(
        host=address.host, port=address.port, user=address.user, password=address.password, database=database
    )


@contextmanager
def own_database(server: MysqlAddress) -> Iterator[MysqlAddress]:
    """A new database on a server, dropped at the end."""
    name = f"t{uuid4().hex}"
    with _connect(server) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield replace(server, database=name)
    with _connect(server) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}")


def docker_engine_answers() -> bool:
    """Whether a Docker engine runs; a client without one is common."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # where nobody answers, the client leaves its socket to gc
        answers = _docker_engine_answers()
        gc.collect()
    return answers


def _docker_engine_answers() -> bool:
    try:
        import docker

        client = docker.from_env(timeout=2)
    except Exception:  # noqa: BLE001 - docker raises many kinds, and all mean no
        return False
    try:
        return bool(client.ping())
    except Exception:  # noqa: BLE001
        return False
    finally:
        client.close()


@contextmanager
def mariadb_server(folder: Path) -> Iterator[MysqlAddress]:
    """MariaDB: the installed program, else a container, else `missing`."""
    if Mariadbd.installed():
        server = Mariadbd(folder)
        try:
            server.start()
            yield server.address
        finally:
            server.stop()
    elif docker_engine_answers():
        with _container("mariadb:10.11") as address:
            yield address
    else:
        missing("no MariaDB: install Debian's mariadb-server-core and mariadb-client-core, or run Docker")


@contextmanager
def mysql_server() -> Iterator[MysqlAddress]:
    """MySQL: where the variable names it, else a container, else `missing`; Debian has none to install."""
    dsn = os.environ.get(MYSQL_DSN)
    if dsn:
        parts = urlsplit(dsn)
        yield MysqlAddress(
            parts.hostname or "127.0.0.1",
            parts.port or 3306,
            unquote(parts.username or "root"),
            unquote(parts.password or ""),
            parts.path.strip("/") or "test",
        )
    elif docker_engine_answers():
        with _container("mysql:8.4") as address:
            yield address
    else:
        missing(f"no MySQL: set {MYSQL_DSN}, or run Docker")


@contextmanager
def _container(image: str) -> Iterator[MysqlAddress]:
    from testcontainers.mysql import MySqlContainer

    with MySqlContainer(image, username="root", root_password="secret", password="secret", dbname="test") as server:
        yield MysqlAddress(server.get_container_host_ip(), int(server.get_exposed_port(3306)), "root", "secret", "test")

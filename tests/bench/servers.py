"""The processes that a benchmark measures, started for it and ended with it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import httpx

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
def results_service(folder: Path, mongo_url: str) -> Iterator[Service]:
    """The results service over that store, with its settings' defaults, its log in a file."""
    port = free_port()
    log = folder / f"results-{port}.log"
    command = [sys.executable, "-m", "uvicorn", "results_service.main:app", "--port", str(port)]
    with child(command, log, os.environ | {"MONGO_URL": mongo_url, "AUTH": "disabled"}) as process:
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

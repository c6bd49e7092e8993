"""`scorehouse up`: mongod and both services on this machine, watched until they are told to stop.

One data directory belongs to one `up`: it holds the lock, MongoDB's files, the analysis database and the logs.
"""

import asyncio
import fcntl
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.text import Text

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.demo import NextSteps, show_demo
from scorehouse.mongod import find_mongod, last_words, mongo_url, mongod_command, wait_for_primary
from scorehouse.processes import Child, Children, StartError, describe_end, service_words
from scorehouse.terminal import complain, err, out, say

HOST = "127.0.0.1"
RESULTS_PORT = 8000
ANALYSIS_PORT = 8001
START_LIMIT_S = 90
"""How long each part may take to get ready; MongoDB may have to recover from a crash first."""

_NOT_INHERITED = ("API_KEYS_FILE", "RESULTS_API_KEY", "WEB_CONCURRENCY", "MYSQL_", "RATE_LIMIT_", "UVICORN_")
"""Beginnings of environment variables that would turn a local start into something else."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the user chose."""

    data_dir: Path
    results_port: int
    analysis_port: int
    demo: bool

    @property
    def results_url(self) -> str:
        """Where the results service answers."""
        return f"http://{HOST}:{self.results_port}"

    @property
    def analysis_url(self) -> str:
        """Where the analysis service answers."""
        return f"http://{HOST}:{self.analysis_port}"

    @property
    def logs(self) -> Path:
        """The folder of the children's logs."""
        return self.data_dir / "logs"


def run_up(options: UpOptions) -> int:
    """Start everything, stay until a signal or a child's death, stop everything; the exit code.

    0 after Ctrl-C, SIGTERM or SIGHUP, which are the ways to end it; 1 where something could not start or died.
    """
    try:
        with _locked(options.data_dir):
            _check_ports(options)
            return asyncio.run(_supervise(options))
    except StartError as error:
        complain(str(error))
    except OSError as error:  # the disk is full, a file stands where a folder should, and the like
        what = "" if error.filename is None else f" ({error.filename})"
        complain(f"cannot use {options.data_dir} as data directory: {error.strerror}{what}; choose --data-dir")
    return 1


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process alone. The kernel lets go of the lock however the process ends."""
    lock = data_dir / "up.lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+", encoding="ascii")
    except OSError as error:
        raise StartError(f"cannot use {data_dir} as data directory: {error.strerror}; choose --data-dir") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StartError(
                f"another 'scorehouse up' (process {holder}) is using {data_dir}; "
                "stop that one, or choose another directory with --data-dir"
            ) from None
        except OSError as error:
            raise StartError(f"cannot lock {lock}: {error.strerror}; choose a local disk with --data-dir") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _check_ports(options: UpOptions) -> None:
    if options.results_port == options.analysis_port:
        raise StartError(f"both services cannot have port {options.results_port}; give two different ones")
    for port, option in ((options.results_port, "--results-port"), (options.analysis_port, "--analysis-port")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise StartError(
                    f"port {port} on {HOST} is not free ({error.strerror}); choose another with {option}"
                ) from None


async def _supervise(options: UpOptions) -> int:
    children = Children()
    work = asyncio.create_task(_serve(options, children))

    def stop() -> None:
        if work.cancelling():  # asked a second time: no more grace
            children.kill()
            return
        say(err(), "\nstopping …")
        work.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup is respected
            loop.add_signal_handler(number, stop)
    ends: set[asyncio.Future[Any]] = {work, children.first_death}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if children.first_death.done() and not work.cancelling():
        dead = children.first_death.result()
        work.cancel()
        await asyncio.wait({work})
        raise StartError(dead.tell(f"ended by itself ({describe_end(dead.process.returncode)}), so all is stopped"))
    try:
        return await work
    except asyncio.CancelledError:
        say(err(), "stopped")
        return 0


async def _serve(options: UpOptions, children: Children) -> int:
    """Run everything; returns only after a demo without a terminal.

    mongod starts first and the analysis service last, because each reads from the one before; they stop the other
    way round, so that none loses what it reads from while it still works.
    """
    options.logs.mkdir(exist_ok=True)
    async with (
        _mongod(options, children) as mongo,
        _service(
            options, children, "results", options.results_port, {"MONGO_URL": mongo, "MONGO_DATABASE": "scorehouse"}
        ),
        _service(options, children, "analysis", options.analysis_port, _analysis_environment(options)),
    ):
        _announce(options)
        if options.demo:
            await _demonstrate(options, children)
            if not _on_terminal():
                return 0
        say(out(), "Ctrl-C stops it.")
        await asyncio.Event().wait()
    return 0


@asynccontextmanager
async def _mongod(options: UpOptions, children: Children) -> AsyncIterator[str]:
    program = find_mongod()
    data = options.data_dir / "mongodb"
    data.mkdir(exist_ok=True)
    port = _free_port()
    running = children.running(
        "mongod",
        mongod_command(program, data, port),
        log=options.logs / "mongod.log",
        environment=os.environ,
        last_words=last_words,
    )
    async with running as child:
        await _ready(child, wait_for_primary(port))
        yield mongo_url(port)


@asynccontextmanager
async def _service(
    options: UpOptions, children: Children, name: str, port: int, environment: dict[str, str]
) -> AsyncIterator[None]:
    running = children.running(
        f"the {name} service",
        [
            # Python's -m and uvicorn both put the current folder before all else on sys.path, and a user's folder may
            # well hold a `shared` or a `calendar.py`: -P keeps Python from it, a folder without modules uvicorn.
            *(sys.executable, "-P", "-m", "uvicorn", "--app-dir", str(options.logs), f"{name}_service.main:app"),
            *("--host", HOST, "--port", str(port), "--workers", "1", "--timeout-graceful-shutdown", "5"),
        ],
        log=options.logs / f"{name}_service.log",
        environment={**_inherited(), "ENVIRONMENT": "development", "AUTH": "disabled", **environment},
        last_words=service_words,
    )
    async with running as child:
        await _ready(child, _wait_for_health(f"http://{HOST}:{port}/health"))
        yield


def _analysis_environment(options: UpOptions) -> dict[str, str]:
    return {
        "ANALYSIS_STORE": "sqlite",
        "SQLITE_PATH": str((options.data_dir / "analysis.sqlite").absolute()),
        "RESULTS_URL": options.results_url,
    }


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(_NOT_INHERITED)}


async def _ready(child: Child, condition: Coroutine[None, None, None]) -> None:
    say(err(), f"starting {child.name} …", "dim")
    try:
        async with asyncio.timeout(START_LIMIT_S):
            await condition
    except TimeoutError:
        raise StartError(child.tell(f"was not ready after {START_LIMIT_S} s")) from None


async def _wait_for_health(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _announce(options: UpOptions) -> None:
    console = out()
    say(console, Text("Scorehouse is up", style="bold green"))
    say(console, f"  results   {options.results_url}   documentation {options.results_url}/docs")
    say(console, f"  analysis  {options.analysis_url}   documentation {options.analysis_url}/docs")
    say(console, f"  data      {options.data_dir}   logs {options.logs}")
    say(
        console,
        f"  Without API keys (AUTH=disabled): whoever is on this machine may read and write; only {HOST} listens.",
    )


async def _demonstrate(options: UpOptions, children: Children) -> None:
    steps = NextSteps(
        options.data_dir,
        options.results_url,
        options.analysis_url,
        stays_up=_on_terminal(),
        ports=""
        if (options.results_port, options.analysis_port) == (RESULTS_PORT, ANALYSIS_PORT)
        else f" --results-port {options.results_port} --analysis-port {options.analysis_port}",
    )
    try:
        async with AsyncScorehouse(options.results_url, options.analysis_url) as house:
            await show_demo(house, steps)
    except ScorehouseError as error:
        # A child's death shows here first; it is the better reason, and comes within moments.
        await asyncio.wait({children.first_death}, timeout=2)
        raise StartError(f"the demo failed: {error}") from None


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()

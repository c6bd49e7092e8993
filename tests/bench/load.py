"""A load of single POSTs, as cheap as Python can make it, so that what is measured is the service.

    python tests/bench/load.py PORT --clients 64 --results 20000 --questions 10

Every client sends its next result when the former is acknowledged. Requests are made before the clock starts, and
anything but a 201 ends the load. Prints seconds, and latencies in milliseconds, as JSON.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any, cast

import uvloop


def document(name: str, questions: int) -> dict[str, Any]:
    """A standardized result of as many questions."""
    return {
        "run_id": name,
        "benchmark_name": "mmlu-redux",
        "timestamp": "2026-01-01T00:00:00Z",
        "model_id": "gpt-4o",
        "source": "bench",
        "data": {
            "questions": [
                {
                    "question_id": f"anatomy/{number}",
                    "score": float(number % 3 > 0),
                    "answer": "ABCD"[number % 4],
                    "target": "B",
                    "metadata": {"subject": "anatomy", "category": "STEM"},
                }
                for number in range(questions)
            ]
        },
    }


def posts(prefix: str, results: int, questions: int) -> Iterator[bytes]:
    """The requests, whole."""
    for number in range(results):
        body = json.dumps(document(f"{prefix}-{number}", questions)).encode()
        head = f"POST /standardized_output HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        yield head.encode() + body


class Client(asyncio.Protocol):
    """One connection that sends a request after the other."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float]) -> None:
        self.requests = requests
        self.latencies = latencies
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.WriteTransport", transport)
        self.send_next()

    def send_next(self) -> None:
        """Send a request, or stop where there is none left."""
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            self.done.set_result(None)
            return
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer, or a piece of one."""
        self.answer += data
        head, ended, body = self.answer.partition(b"\r\n\r\n")
        if not ended:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 201"):
            self.done.set_exception(RuntimeError(self.answer.decode()))
            self.transport.close()
            return
        self.latencies.append(time.perf_counter() - self.sent_at)
        self.answer = b""
        self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        """The other side left."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the service closed the connection"))


async def push(port: int, clients: int, requests: list[bytes]) -> tuple[float, list[float]]:
    """Seconds until all are acknowledged, and the latency of each in seconds."""
    waiting = iter(requests)
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    protocols = [
        (await loop.create_connection(lambda: Client(waiting, latencies), "127.0.0.1", port))[1] for _ in range(clients)
    ]
    await asyncio.gather(*(protocol.done for protocol in protocols))
    return time.perf_counter() - began, latencies


def main() -> None:
    """Load, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--prefix", default="load", help="of the run ids; a new one for each load")
    options = parser.parse_args()
    requests = list(posts(options.prefix, options.results, options.questions))
    seconds, latencies = uvloop.run(push(options.port, options.clients, requests))
    cuts = statistics.quantiles(latencies, n=100)
    print(json.dumps({"seconds": seconds, "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}))


if __name__ == "__main__":
    main()

"""How fast results are stored, against MongoDB's own driver on the same mongod in the same run.

    python -m tests.bench.pushes [--rounds 5] [--results 6000] [--runs 30]

The peer writes what it is told into a plain collection with no index but `_id`, with majority and journal, as the
service does. Single pushes: Motor's `insert_one` from 64 tasks against 64 connections that each send the next result
when the former is acknowledged. Batches: Motor's `insert_many` of a document a question, against one request with runs
of 5,700 questions. Rounds of peer and service take turns, and the median of their ratios counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench.figures import Figure, compared, limited, print_figures
from tests.bench.load import document
from tests.bench.servers import mongod, peak_memory_mb, results_service

CLIENTS = 64
QUESTIONS = 10
"""Of a single push: about 1.4 kB of JSON."""
RUN_QUESTIONS = 5700
BATCH_LEAST_QUESTIONS_S = 50_000
UPLOAD_BYTES = 255 * 1024 * 1024
UPLOAD_LIMIT_MB = 300.0


def main() -> int:
    """Measure, print a table, and return 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="how often peer and service take turns")
    parser.add_argument("--results", type=int, default=6000, help="single pushes a round")
    parser.add_argument("--runs", type=int, default=30, help="runs in a batch")
    options = parser.parse_args()
    figures = measure(options.rounds, options.results, options.runs)
    print_figures("Storing results", figures)
    return 0 if all(figure.is_met for figure in figures) else 1


def measure(rounds: int = 5, results: int = 6000, runs: int = 30) -> list[Figure]:
    """Every figure of this module."""
    with tempfile.TemporaryDirectory() as folder, mongod(Path(folder)) as mongo_url:
        with results_service(Path(folder), mongo_url) as service:
            single = measure_single(service.port, mongo_url, rounds, results)
            batch = measure_batch(service.port, mongo_url, rounds, runs)
        # A process that has done nothing else: its peak is that of the upload.
        with results_service(Path(folder), mongo_url) as service:
            seconds = upload(service.port)
            peak_mb = peak_memory_mb(service.pid)
    uploaded = f"peak memory of the service during an upload of 255 MiB ({UPLOAD_BYTES / seconds / 1e6:.0f} MB/s)"
    return [*single, *batch, limited(uploaded, peak_mb, UPLOAD_LIMIT_MB, "MB")]


def measure_single(port: int, mongo_url: str, rounds: int, results: int) -> list[Figure]:
    """64 clients that push small results."""
    pairs = []
    tails_ms = []
    load = [str(port), "--clients", str(CLIENTS), "--questions", str(QUESTIONS), "--results"]
    run_module("tests.bench.load", *load, "1000", "--prefix", "warm")
    for number in range(rounds):
        peer = run_module("tests.bench.motor_peer", mongo_url, "insert_one", "--count", str(results))
        ours = run_module("tests.bench.load", *load, str(results), "--prefix", f"round-{number}")
        pairs.append((results / ours["seconds"], results / peer["seconds"]))
        tails_ms.append(ours["p99_ms"])
    ours_s, peer_s = middle(pairs)
    what = f"single POSTs, {CLIENTS} clients, {QUESTIONS} questions each (p99 {statistics.median(tails_ms):.0f} ms)"
    return [compared(what, ours_s, peer_s, "/s", "insert_one", 1.0)]


def measure_batch(port: int, mongo_url: str, rounds: int, runs: int) -> list[Figure]:
    """One request with many runs of 5,700 questions."""
    questions = runs * RUN_QUESTIONS
    pairs = []
    for number in range(rounds):
        peer = run_module("tests.bench.motor_peer", mongo_url, "insert_many", "--count", str(questions))
        names = (f"batch-{number}-{run}" for run in range(runs))
        body = b"".join(json.dumps(document(name, RUN_QUESTIONS)).encode() + b"\n" for name in names)
        began = time.perf_counter()
        answer = httpx.post(f"http://127.0.0.1:{port}/standardized_output/batch", content=body, timeout=120)
        seconds = time.perf_counter() - began
        created = sum(json.loads(line)["status"] == "created" for line in answer.text.splitlines())
        if created != runs:
            sys.exit(f"a batch of {runs} runs was answered: {answer.text[:500]}")
        pairs.append((questions / seconds, questions / peer["seconds"]))
    ours_s, peer_s = middle(pairs)
    what = f"batch of {runs} runs of {RUN_QUESTIONS:,} questions"
    return [
        compared(what, ours_s, peer_s, "questions/s", "insert_many", 0.5),
        compared("the same against what is asked at least", ours_s, BATCH_LEAST_QUESTIONS_S, "questions/s", "limit", 1),
    ]


def middle(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The pair whose ratio is the median."""
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def upload(port: int) -> float:
    """Seconds to push one result of UPLOAD_BYTES."""
    envelope = json.dumps(document("upload", 0))
    head = envelope[: envelope.index('"questions": [') + len('"questions": [')].encode()

    def body() -> Iterator[bytes]:
        yield head
        sent, number = len(head), 0
        while sent < UPLOAD_BYTES - 2000:
            row = (
                f'{"," if number else ""}{{"question_id":"q/{number}","score":{number % 2},"answer":"{"A" * 900}",'
                '"metadata":{"subject":"anatomy"}}'
            ).encode()
            yield row
            sent += len(row)
            number += 1
        yield b"]}}"

    began = time.perf_counter()
    answer = httpx.post(f"http://127.0.0.1:{port}/standardized_output", content=body(), timeout=300)
    if answer.status_code != 201:
        sys.exit(f"the upload was answered {answer.status_code}: {answer.text[:500]}")
    return time.perf_counter() - began


def run_module(module: str, *arguments: str) -> dict[str, float]:
    """Run a module of the benchmark in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        sys.exit(f"{module} failed:\n{done.stdout}{done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    sys.exit(main())

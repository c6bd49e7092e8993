"""How soon pushed results are in the answers, and how long an answer takes, on the embedded stores.

    python -m tests.bench.first_answers [--calls 100]

Seven runs of 5,700 questions in the shape of MMLU-Redux: the real ones where SCOREHOUSE_REAL_DATA has them, else made
up in the same shape. Everything runs on this machine, as `scorehouse up` starts it; the load ends by itself.
"""

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.bench.figures import Figure, limited, print_figures
from tests.bench.servers import free_port

RUNS, SUBJECTS, QUESTIONS_A_SUBJECT = 7, 57, 100
VISIBLE_LIMIT_S = 10.0
GROUP_BY_LIMIT_MS = 50.0
TWO_LEVELS = {"benchmark": "mmlu-redux", "level1": "category", "level2": "subject"}


def main() -> int:
    """Measure, print a table, and return 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=100, help="how many group-bys to time")
    figures = measure(parser.parse_args().calls)
    print_figures("First answers, on embedded stores", figures)
    return 0 if all(figure.is_met for figure in figures) else 1


def measure(calls: int = 100) -> list[Figure]:
    """Every figure of this module."""
    kind, documents = load_documents()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (results_url, analysis_url):
        visible_s, pushed_s = measure_visible(documents, Path(folder), results_url, analysis_url)
        times_ms = measure_group_by(analysis_url, calls)
    answers = RUNS * SUBJECTS * QUESTIONS_A_SUBJECT
    pushed = (
        f"`scorehouse push` of {answers:,} answers ({kind}; ends after {pushed_s:.2f} s), all of them in `/analysis`"
    )
    p95_ms = statistics.quantiles(times_ms, n=20)[-1]
    return [
        limited(pushed, visible_s, VISIBLE_LIMIT_S, "s"),
        limited(
            f"two-level group-by, median of {calls} (95th percentile {p95_ms:.1f} ms)",
            statistics.median(times_ms),
            GROUP_BY_LIMIT_MS,
            "ms",
        ),
    ]


def load_documents() -> tuple[str, list[bytes]]:
    """What is measured, in words, and the documents."""
    folder = os.environ.get("SCOREHOUSE_REAL_DATA")
    file = Path(folder or "") / "runs" / "mmlu-redux.ndjson.gz"
    if folder and file.is_file():
        with gzip.open(file) as lines:
            return "real MMLU-Redux runs", [line.strip() for line in lines]
    return "made-up runs in the shape of MMLU-Redux", [json.dumps(made_up(number)).encode() for number in range(RUNS)]


def made_up(number: int) -> dict[str, Any]:
    """One run of random answers."""
    chance = random.Random(number)
    questions = [
        {
            "question_id": f"subject_{subject}/{question}",
            "status": "scored",
            "score": float(chance.random() < 0.5 + number / 20),
            "answer": chance.choice("ABCD"),
            "target": chance.choice("ABCD"),
            "metadata": {
                "subject": f"subject_{subject}",
                "category": ("STEM", "Humanities", "Social Sciences", "Other")[subject % 4],
                "error_type": random.Random(subject * 100 + question).choice(["ok"] * 9 + ["wrong_groundtruth"]),
            },
        }
        for subject in range(SUBJECTS)
        for question in range(QUESTIONS_A_SUBJECT)
    ]
    return {
        "run_id": f"bench-{number}",
        "benchmark_name": "mmlu-redux",
        "timestamp": "2024-11-01T00:00:00Z",
        "model_id": f"made-up-{number}",
        "source": "bench",
        "data": {"questions": questions},
    }


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, str]]:
    """Both services on embedded stores, under `scorehouse up`; their URLs."""
    results, analysis = free_port(), free_port()
    command = [sys.executable, "-m", "scorehouse", "up", "--data-dir", str(folder / "data")]
    command += ["--results-port", str(results), "--analysis-port", str(analysis)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_up(process, f"http://127.0.0.1:{analysis}", folder / "up.log")
        yield f"http://127.0.0.1:{results}", f"http://127.0.0.1:{analysis}"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Return when the analysis service, which starts last, answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    sys.exit(f"scorehouse did not start:\n{log.read_text()}")


def measure_visible(documents: list[bytes], folder: Path, results_url: str, analysis_url: str) -> tuple[float, float]:
    """Seconds from the start of the push until every run is in the answers, and until the push ended."""
    file = folder / "runs.ndjson"
    file.write_bytes(b"\n".join(documents) + b"\n")
    began = time.perf_counter()
    push = subprocess.Popen(
        [sys.executable, "-m", "scorehouse", "push", str(file), "--url", results_url], stdout=subprocess.DEVNULL
    )
    pushed_s = visible_s = 0.0
    with httpx.Client(base_url=analysis_url) as client:
        while not (visible_s and pushed_s):
            if not pushed_s and push.poll() is not None:
                pushed_s = time.perf_counter() - began
                if push.returncode:
                    sys.exit("the push failed")
            if not visible_s:
                answer = client.post("/analysis", json={"benchmark": "mmlu-redux", "level1": "run", "runs": "all"})
                if answer.json()["total_rows"] == len(documents):
                    visible_s = time.perf_counter() - began
            if time.perf_counter() - began > 10 * VISIBLE_LIMIT_S:
                sys.exit("the runs did not arrive")
            time.sleep(0.02)
    return visible_s, pushed_s


def measure_group_by(analysis_url: str, calls: int) -> list[float]:
    """Milliseconds of each call, one client, one after the other; two calls before them are not counted."""
    times = []
    with httpx.Client(base_url=analysis_url) as client:
        for call in range(calls + 2):
            began = time.perf_counter()
            response = client.post("/analysis", json=TWO_LEVELS)
            elapsed_ms = (time.perf_counter() - began) * 1000
            if response.status_code != 200 or response.json()["total_rows"] < SUBJECTS:
                sys.exit(f"unexpected answer: {response.text[:500]}")
            if call >= 2:
                times.append(elapsed_ms)
    return times


if __name__ == "__main__":
    sys.exit(main())

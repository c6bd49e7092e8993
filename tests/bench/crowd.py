"""Two hundred clients at once: their rate against an empty route, and how long they wait where nothing is cached."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import wrk
from tests.bench.figures import Figure, at_most, compared, limited, tell
from tests.bench.group_bys import Asker, Request
from tests.bench.servers import Service, empty_route

CLIENTS = 200
RATE_LEAST, TAIL_MOST = 0.6, 2.0
COLD_LIMIT_MS = 500.0


def write_bodies(folder: Path, requests: Sequence[Request]) -> Path:
    """A file with a request a line, as the load generators read it."""
    file = folder / "requests.ndjson"
    file.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
    return file


def measure_warm(folder: Path, analysis: Service, bodies: Path, rounds: int, seconds: float) -> list[Figure]:
    """Service and empty route in turns; medians of ratios count, and the rates of the middle round are told."""
    sizes = _answer_sizes(analysis, bodies)
    prepared = folder / "answers.json"
    prepared.write_text(json.dumps(sizes), encoding="utf-8")
    pairs = []
    with empty_route(folder, prepared) as peer:
        wrk.load(peer.port, bodies, CLIENTS, 1)
        wrk.load(analysis.port, bodies, CLIENTS, 1)
        for number in range(rounds):
            pairs.append(
                (wrk.load(analysis.port, bodies, CLIENTS, seconds), wrk.load(peer.port, bodies, CLIENTS, seconds))
            )
            ours, theirs = pairs[-1]
            tell(f"  round {number + 1}: {ours.requests_s:,.0f} and {theirs.requests_s:,.0f} requests/s")
    in_order = sorted(sizes.values())
    answers = f"{len(sizes)} answers of {in_order[0] / 1e3:.1f} to {in_order[-1] / 1e3:.0f} kB"
    what = (
        f"{CLIENTS} clients, {answers} (median {statistics.median(in_order) / 1e3:.1f} kB), median of {rounds} rounds"
    )
    by_rate = sorted(pairs, key=lambda pair: pair[0].requests_s / pair[1].requests_s)[rounds // 2]
    by_tail = sorted(pairs, key=lambda pair: pair[0].p99_ms / pair[1].p99_ms)[rounds // 2]
    return [
        compared(what, by_rate[0].requests_s, by_rate[1].requests_s, "requests/s", "empty route", RATE_LEAST),
        at_most("the same, p99", by_tail[0].p99_ms, by_tail[1].p99_ms, "ms", "empty route", TAIL_MOST),
        none_of("the same, errors of the service", sum(ours.errors for ours, _ in pairs)),
    ]


def none_of(what: str, count: int) -> Figure:
    """A count that must be 0."""
    return Figure(what, str(count), "0", float(count), 0.0, at_least=False)


def _answer_sizes(analysis: Service, bodies: Path) -> dict[str, int]:
    """Request body → bytes of its answer; ends the bench unless all answer 200, each differently."""
    asker = Asker(analysis.port)
    answers = {body: asker.ask_well(json.loads(body)) for body in bodies.read_text(encoding="utf-8").splitlines()}
    first: dict[bytes, str] = {}
    for body, answer in answers.items():
        if (same := first.setdefault(answer, body)) != body:
            sys.exit(f"two requests have the same answer: {same} and {body}")
    return {body: len(answer) for body, answer in answers.items()}


def measure_cold(port: int, bodies: Path) -> tuple[list[float], int]:
    """Milliseconds until each of 200 connections has its first answer, all asking at once; and how many errors."""
    command = [sys.executable, "-m", "tests.bench.readers", "volley", str(port), str(bodies)]
    done = subprocess.run([*command, "--clients", str(CLIENTS)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the clients failed:\n{done.stderr}")
    told = json.loads(done.stdout)
    return told["times_ms"], len(told["errors"])


def cold_figures(what: str, rounds: Sequence[tuple[list[float], int]]) -> list[Figure]:
    """The slowest round's p99, and all errors."""
    tails_ms = [statistics.quantiles(times_ms, n=100)[-1] for times_ms, _ in rounds]
    middle = ", ".join(f"{tail_ms:.0f}" for tail_ms in sorted(tails_ms))
    return [
        limited(f"{what}, p99, worst of {len(rounds)} rounds ({middle} ms)", max(tails_ms), COLD_LIMIT_MS, "ms"),
        none_of("the same, errors", sum(errors for _, errors in rounds)),
    ]

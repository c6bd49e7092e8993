"""How long a three-level group-by takes, in turns with DuckDB on the same answers, and that both say the same."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.duckdb_peer import DuckdbPeer
from tests.bench.figures import Figure, at_most, limited
from tests.bench.group_bys import BY_MODEL, THREE_LEVELS, Asker, Request, check_cells
from tests.bench.mmlu import MODELS
from tests.bench.servers import Service

LATEST_LIMIT_MS, ALL_LIMIT_MS = 25.0, 200.0
GROWTH_LIMIT = 1.5
STATISTICS_LIMIT = 1.3

ALL_RUNS: Request = {"runs": "all"}
Times = Mapping[str, Sequence[float]]
"""What was asked → milliseconds of each call."""


@dataclass(frozen=True, slots=True)
class Point:
    """A dot of the plot."""

    answers: int
    who: str
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Stored:
    """The same answers at the service and in DuckDB: text as names, and enums as names where that is measured too."""

    analysis: Service
    text: DuckdbPeer
    enums: DuckdbPeer
    runs: Sequence[str]
    """Names, oldest first; the models take turns."""

    @property
    def latest(self) -> Sequence[str]:
        """The latest run of each model."""
        return self.runs[-MODELS:]


def in_turns(calls: int, asked: Mapping[str, Callable[[], float]]) -> Times:
    """Milliseconds of so many calls of each, one of each after the other; two rounds before them do not count."""
    times: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(calls + 2):
        for name, ask in asked.items():
            elapsed_ms = ask()
            if number >= 2:
                times[name].append(elapsed_ms)
    return times


def timed(ask: Callable[[], object]) -> Callable[[], float]:
    """The same call, told in milliseconds."""

    def ask_and_time() -> float:
        began = time.perf_counter()
        ask()
        return (time.perf_counter() - began) * 1000

    return ask_and_time


def check(stored: Stored) -> None:
    """End the bench unless service and DuckDB say the same of each cell, of latest and of all runs."""
    asker = Asker(stored.analysis.port)
    for form in (BY_MODEL, THREE_LEVELS):
        _, latest = asker.ask_anew(form)
        check_cells(latest, stored.text.group_with_questions(stored.latest), "latest runs")
        _, everything = asker.ask_anew(form | ALL_RUNS)
        check_cells(everything, stored.text.group_with_questions(), "all runs")


def measure_point(stored: Stored, calls: int) -> list[Point]:
    """Latest and all runs, of service and peer, at the answers there are."""
    asker = Asker(stored.analysis.port)
    times = in_turns(
        calls,
        {
            "service, latest runs": lambda: asker.ask_anew(BY_MODEL)[0],
            "DuckDB, latest runs": timed(lambda: stored.text.group(stored.latest)),
            "service, all runs": lambda: asker.ask_anew(BY_MODEL | ALL_RUNS)[0],
            "DuckDB, all runs": timed(stored.text.group),
        },
    )
    return [Point(stored.text.answers, name, statistics.median(of_name)) for name, of_name in times.items()]


def measure_latency(stored: Stored, calls: int) -> list[Figure]:
    """Three-level group-bys against limits and peer."""
    figures = []
    for runs, chosen, request, limit_ms in (
        ("latest runs", stored.latest, {}, LATEST_LIMIT_MS),
        ("all runs", None, ALL_RUNS, ALL_LIMIT_MS),
    ):
        figures += _of_runs(stored, runs, chosen, request, limit_ms, calls)
    return figures


def _of_runs(
    stored: Stored,
    runs: str,
    chosen: Sequence[str] | None,
    request: Request,
    limit_ms: float,
    calls: int,
) -> list[Figure]:
    asker = Asker(stored.analysis.port)
    times = in_turns(
        calls,
        {
            "service": lambda: asker.ask_anew(BY_MODEL | request)[0],
            "text": timed(lambda: stored.text.group(chosen)),
            "named": lambda: asker.ask_anew(THREE_LEVELS | request)[0],
            "enums": timed(lambda: stored.enums.group(chosen)),
            "questions": timed(lambda: stored.text.group_with_questions(chosen)),
        },
    )
    p50 = {name: statistics.median(of_name) for name, of_name in times.items()}
    return [
        limited(f"model × category × subject, {runs}, p50 ({_p95(times['service'])})", p50["service"], limit_ms, "ms"),
        at_most("the same, against DuckDB", p50["service"], p50["text"], "ms", "DuckDB p50", 1.0),
        at_most("told only: DuckDB, names as enums", p50["service"], p50["enums"], "ms", "DuckDB p50", None),
        at_most(
            "told only: DuckDB, with the distinct questions that the answer has",
            p50["service"],
            p50["questions"],
            "ms",
            "DuckDB p50",
            None,
        ),
        limited(f"level1=model, {runs}, p50 ({_p95(times['named'])})", p50["named"], limit_ms, "ms"),
        at_most("the same, against DuckDB", p50["named"], p50["text"], "ms", "DuckDB p50", 1.0),
    ]


def measure_without_cache(analysis: Service, calls: int) -> list[Figure]:
    """The same request again and again, of a service that keeps no answers."""
    asker = Asker(analysis.port)
    times = in_turns(
        calls,
        {
            "latest": timed(lambda: asker.ask_well(BY_MODEL)),
            "all": timed(lambda: asker.ask_well(BY_MODEL | ALL_RUNS)),
        },
    )
    return [
        limited(
            f"{runs} runs, p50, the same request to a service with ANSWER_CACHE_BYTES=0 ({_p95(times[runs])})",
            statistics.median(times[runs]),
            limit_ms,
            "ms",
        )
        for runs, limit_ms in (("latest", LATEST_LIMIT_MS), ("all", ALL_LIMIT_MS))
    ]


def measure_statistics(analysis: Service, calls: int) -> Figure:
    """The same request with statistics and without, in turns, of a service that keeps no answers."""
    asker = Asker(analysis.port)
    times = in_turns(
        calls,
        {
            "with": timed(lambda: asker.ask_well(BY_MODEL | {"statistics": True})),
            "without": timed(lambda: asker.ask_well(BY_MODEL)),
        },
    )
    p50 = {name: statistics.median(of_name) for name, of_name in times.items()}
    what = f"statistics=true, latest runs, p50, uncached ({_p95(times['with'])})"
    return at_most(what, p50["with"], p50["without"], "ms", "without", STATISTICS_LIMIT)


def measure_growth(large: Stored, small: Stored, calls: int) -> Figure:
    """Latest runs over many answers and over few, in turns."""
    of_large, of_small = Asker(large.analysis.port), Asker(small.analysis.port)
    times = in_turns(
        calls, {"large": lambda: of_large.ask_anew(BY_MODEL)[0], "small": lambda: of_small.ask_anew(BY_MODEL)[0]}
    )
    p50 = {name: statistics.median(of_name) for name, of_name in times.items()}
    what = f"latest runs over {large.text.answers:,} answers, p50, in turns with a store that has fewer"
    return at_most(what, p50["large"], p50["small"], "ms", f"over {small.text.answers:,}", GROWTH_LIMIT)


def _p95(times_ms: Sequence[float]) -> str:
    return f"p95 {statistics.quantiles(times_ms, n=20)[-1]:.1f} ms, {len(times_ms)} calls"

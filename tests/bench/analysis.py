"""The analysis service over ten million answers: backfill, group-bys against DuckDB, a crowd of readers, freshness.

    python -m tests.bench.run --only analysis [--answers 10000000] [--dsn mysql://user:password@host:port] [--write]

Everything is asked over HTTP of services started for it, on a MariaDB started for it or on the server that a DSN names,
where databases are created and dropped again. What the service says is compared with DuckDB, cell by cell, and a
difference ends the bench. With SCOREHOUSE_REAL_DATA the real runs are taken fifty times besides.
"""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.bench import wrk
from tests.bench.backfill import (
    LOOK_EVERY_S,
    Reading,
    catch_up,
    check_real,
    follow,
    push,
    readers,
    real_documents,
    write_registry,
)
from tests.bench.comparisons import measure_comparison
from tests.bench.crowd import cold_figures, measure_cold, measure_warm, none_of, write_bodies
from tests.bench.duckdb_peer import DuckdbPeer
from tests.bench.figures import Figure, compared, limited, tell
from tests.bench.group_bys import different_requests
from tests.bench.latency import (
    Point,
    Stored,
    check,
    measure_growth,
    measure_latency,
    measure_point,
    measure_statistics,
    measure_without_cache,
)
from tests.bench.memory import MemoryWatch, watched
from tests.bench.mmlu import MODELS, QUESTIONS, MadeUpMmlu, MadeUpRun, Numbers, first_of_each_subject
from tests.bench.servers import Service, SqlDatabase, analysis_service, mariadbd, mongod, results_service, sql_server
from tests.bench.visible import measure_visible

DEFAULT_ANSWERS = 10_000_000
SMALL_ANSWERS = 100_000
STEPS = (1_000_000, 3_000_000)
"""Answers at which the latency is told on the way to all of them."""
BACKFILL_LEAST_S = 100_000
BACKFILL_READERS, VISIBLE_READERS = 5, 50
MEMORY_LIMIT_MB = 400.0
CALLS = 60
REAL_COPIES = 50
"""Of the real runs, beside as many answers as the bench has by default; of fewer answers, as many fewer."""
# Pushes: how many, of how many questions, and the limit in milliseconds.
FRESHNESS = ((24, 500, 500.0), (12, QUESTIONS, 2000.0))


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it."""

    engine: str
    """`mariadb`, `mysql` or another."""
    server: str
    """The same in words, with its settings."""
    figures: Sequence[Figure]
    points: Sequence[Point]
    backfill: Sequence[tuple[float, int]]
    """Moment and answers applied."""


class _Bench:
    """What all parts use."""

    def __init__(self, folder: Path, server: SqlDatabase, mongo_url: str) -> None:
        self.folder = folder
        self.server = server
        self.mongo_url = mongo_url
        self.mmlu = MadeUpMmlu()
        self.bodies = write_bodies(folder, different_requests(self.mmlu))
        self.memory = MemoryWatch()

    @contextmanager
    def analysis(self, results: Service, database: SqlDatabase, **changes: str) -> Iterator[Service]:
        """An analysis service whose memory is watched."""
        with (
            analysis_service(self.folder, results.url, database, **changes) as service,
            watched(self.memory, service.pid),
        ):
            yield service

    def runs(self, first: int, end: int, asked: Numbers) -> Iterator[MadeUpRun]:
        """Runs of these numbers."""
        return (self.mmlu.run(number, asked) for number in range(first, end))


def measure(answers: int = DEFAULT_ANSWERS, dsn: str | None = None) -> Measured:
    """Every figure of the analysis service, with what the plots show."""
    wrk.check_installed()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(mariadbd(folder)) if dsn is None else sql_server(dsn)
        tell(f"on {server.describe()}")
        bench = _Bench(folder, server, stack.enter_context(mongod(folder)))
        figures, points, backfill = _measure_made_up(bench, answers)
        real_data = os.environ.get("SCOREHOUSE_REAL_DATA")
        if real_data:
            copies = max(1, round(REAL_COPIES * answers / DEFAULT_ANSWERS))
            figures += _measure_real(bench, Path(real_data), copies)
        figures.append(
            limited(
                "memory of the analysis service, peak over all of this", bench.memory.peak_mb, MEMORY_LIMIT_MB, "MB"
            )
        )
        return Measured(server.engine, server.describe(), figures, points, backfill)


def _measure_made_up(bench: _Bench, answers: int) -> tuple[list[Figure], list[Point], list[tuple[float, int]]]:
    last = max(MODELS, round(answers / QUESTIONS))
    with (
        DuckdbPeer(bench.mmlu, "text") as text,
        DuckdbPeer(bench.mmlu, "enums") as enums,
        results_service(bench.folder, bench.mongo_url, MONGO_DATABASE="all") as results,
        bench.server.new() as database,
        ExitStack() as servers,
    ):
        pushed = _Pushed(bench, results, text, enums)
        with ExitStack() as others:
            small = others.enter_context(_small(bench))
            points = measure_point(small, CALLS // 2)
            points += _measure_steps(bench, pushed, [runs for step in STEPS if (runs := step // QUESTIONS) < last])
            pushed.push_up_to(last)
            analysis = servers.enter_context(bench.analysis(results, database))
            figures, applied = _measure_backfill(bench, analysis, last)
            stored = pushed.at(analysis)
            tell("comparing each cell with DuckDB's")
            check(stored)
            tell("three-level group-bys, in turns with DuckDB")
            figures += measure_latency(stored, CALLS)
            points += measure_point(stored, CALLS // 2)
            figures.append(measure_growth(stored, small, CALLS))
        with bench.analysis(results, database, ANSWER_CACHE_BYTES="0") as uncached:
            figures += measure_without_cache(uncached, CALLS // 2)
            figures.append(measure_statistics(uncached, 2 * CALLS))
            tell("comparisons of two models")
            two = bench.runs(last - 2, last, np.arange(QUESTIONS))
            figures.append(measure_comparison(uncached, *two, calls=3 * CALLS))
        tell("200 clients, in turns with an empty route")
        figures += measure_warm(bench.folder, analysis, bench.bodies, rounds=7, seconds=6)
        figures += _measure_cold(bench, results, analysis, database, last)
        figures += _measure_freshness(bench, results, analysis, last)
    return figures, points, applied


class _Pushed:
    """Full runs at the results service, and the same in DuckDB."""

    def __init__(self, bench: _Bench, results: Service, text: DuckdbPeer, enums: DuckdbPeer) -> None:
        self.results = results
        self._bench = bench
        self._peers = (text, enums)
        self._names: list[str] = []

    def push_up_to(self, end: int) -> None:
        """Push the runs before this number that are not yet there."""
        first, everything = len(self._names), np.arange(QUESTIONS)
        tell(f"pushing runs {first + 1} to {end} of {QUESTIONS:,} answers each")
        began = time.perf_counter()
        push(self.results, (run.document for run in self._bench.runs(first, end, everything)))
        tell(f"  {(end - first) * QUESTIONS / (time.perf_counter() - began):,.0f} answers/s were pushed")
        for peer in self._peers:
            peer.add(self._bench.runs(first, end, everything))
        self._names += [run.result_name for run in self._bench.runs(first, end, everything[:1])]

    def at(self, analysis: Service) -> Stored:
        """The same at an analysis service that has taken all."""
        return Stored(analysis, *self._peers, tuple(self._names))


def _measure_steps(bench: _Bench, pushed: _Pushed, steps: Sequence[int]) -> list[Point]:
    """The latency after so many runs and so many; in a database of their own, so that the backfill begins empty."""
    points = []
    with bench.server.new() as database, bench.analysis(pushed.results, database) as analysis:
        for runs in steps:
            pushed.push_up_to(runs)
            catch_up(analysis, runs)
            stored = pushed.at(analysis)
            check(stored)
            points += measure_point(stored, CALLS // 2)
    return points


@contextmanager
def _small(bench: _Bench) -> Iterator[Stored]:
    """A store with 100,000 answers: one run of each model, with a part of each subject's questions.

    So an answer has as many rows as over ten million.
    """
    asked = first_of_each_subject(SMALL_ANSWERS / MODELS / QUESTIONS)
    runs = list(bench.runs(0, MODELS, asked))
    with (
        DuckdbPeer(bench.mmlu, "text") as text,
        DuckdbPeer(bench.mmlu, "enums") as enums,
        results_service(bench.folder, bench.mongo_url, MONGO_DATABASE="small") as results,
        bench.server.new() as database,
        bench.analysis(results, database) as analysis,
    ):
        push(results, (run.document for run in runs))
        text.add(runs)
        catch_up(analysis, len(runs))
        stored = Stored(analysis, text, enums, tuple(run.result_name for run in runs))
        check(stored)
        yield stored


def _measure_backfill(bench: _Bench, analysis: Service, last: int) -> tuple[list[Figure], list[tuple[float, int]]]:
    tell(f"backfill of {last * QUESTIONS:,} answers into an empty database, while {BACKFILL_READERS} clients read")
    with readers(analysis, bench.bodies, BACKFILL_READERS, bench.folder) as meanwhile:
        positions = list(follow(analysis, last))
    rate = _rate([(moment, position * QUESTIONS) for moment, position in positions])
    tell(f"  {rate:,.0f} answers/s; the same readers when all is there")
    with readers(analysis, bench.bodies, BACKFILL_READERS, bench.folder) as afterwards:
        time.sleep(8)
    during_ms, after_ms = _p99(meanwhile), _p99(afterwards)
    what = f"p99 of {BACKFILL_READERS} readers meanwhile, each asking ten times a second ({after_ms:.1f} ms afterwards)"
    figures = [
        compared(f"backfill of {last * QUESTIONS:,} answers", rate, BACKFILL_LEAST_S, "answers/s", "limit", 1.0),
        limited(what, during_ms, None, "ms"),
        none_of("the same, errors", sum(reading.status != 200 for reading in (*meanwhile, *afterwards))),
        limited("memory of the analysis service, peak up to here", bench.memory.peak_mb, MEMORY_LIMIT_MB, "MB"),
    ]
    return figures, [(moment, position * QUESTIONS) for moment, position in positions]


def _rate(applied: Sequence[tuple[float, int]]) -> float:
    (began, first), (ended, last) = applied[0], applied[-1]
    # So few answers may all be there at the first look.
    return (last - first) / max(ended - began, LOOK_EVERY_S)


def _p99(readings: Sequence[Reading]) -> float:
    return statistics.quantiles([reading.elapsed_ms for reading in readings], n=100)[-1]


def _measure_cold(bench: _Bench, results: Service, analysis: Service, database: SqlDatabase, last: int) -> list[Figure]:
    tell("200 clients whose first requests come at once, nothing cached")
    stale, fresh = [], []
    position = last
    for number in range(5):
        # An old run of few questions: it makes every answer stale and is no latest run.
        run = bench.mmlu.run(0, np.arange(1 + number), prefix=f"stale-{number}")
        push(results, [run.document])
        position += 1
        catch_up(analysis, position)
        stale.append(measure_cold(analysis.port, bench.bodies))
    for _ in range(3):
        with bench.analysis(results, database) as started:
            catch_up(started, position)
            fresh.append(measure_cold(started.port, bench.bodies))
    return [
        *cold_figures("200 clients' first requests after a push to the benchmark", stale),
        *cold_figures("200 clients' first requests after a start of the service", fresh),
    ]


def _measure_freshness(bench: _Bench, results: Service, analysis: Service, last: int) -> list[Figure]:
    tell(f"pushes until they are visible, while {VISIBLE_READERS} clients read")
    figures = []
    number = last
    with wrk.loading(analysis.port, bench.bodies, VISIBLE_READERS) as loads:
        for pushes, questions, limit_ms in FRESHNESS:
            asked = np.sort(np.random.default_rng(questions).permutation(QUESTIONS)[:questions])
            seen = measure_visible(results, analysis, bench.mmlu, asked, range(number, number + pushes))
            number += pushes
            p50_ms, p95_ms = statistics.median(seen.visible_ms), statistics.quantiles(seen.visible_ms, n=20)[-1]
            what = f"acknowledged to visible, {questions:,} questions, p95 of {pushes} (p50 {p50_ms:.0f} ms)"
            figures.append(limited(what, p95_ms, limit_ms, "ms"))
    (meanwhile,) = loads
    told = f"meanwhile: {VISIBLE_READERS} clients, p99 {meanwhile.p99_ms:.0f} ms"
    return [
        *figures,
        limited(told, meanwhile.requests_s, None, "requests/s"),
        none_of("the same, errors", meanwhile.errors),
    ]


def _measure_real(bench: _Bench, real_data: Path, copies: int) -> list[Figure]:
    tell(f"the real runs, {copies} times")
    registry = bench.folder / "registry"
    write_registry(registry)
    known = {"SCOREHOUSE_REGISTRY_DIR": str(registry)}
    applied: list[int] = [0]

    def documents() -> Iterator[bytes]:
        for document, answers in real_documents(real_data, copies):
            applied.append(applied[-1] + answers)
            yield document

    with (
        results_service(bench.folder, bench.mongo_url, MONGO_DATABASE="real", **known) as results,
        bench.server.new() as database,
    ):
        runs = push(results, documents())
        tell(f"  {runs:,} runs with {applied[-1]:,} answers were pushed")
        with bench.analysis(results, database, **known) as analysis:
            positions = list(follow(analysis, runs))
            check_real(analysis, real_data, copies)
    rate = _rate([(moment, applied[position]) for moment, position in positions])
    what = f"backfill of the real runs × {copies}: {runs:,} runs, {applied[-1]:,} answers"
    return [compared(what, rate, BACKFILL_LEAST_S, "answers/s", "limit", 1.0)]

"""All runs at one version of the store, kept in memory: read whole once, and from then on by what has changed.

A catalog never changes, so whoever still reads with an older one keeps it. A newer one shares with it what is the same.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from sys import intern

from analysis_service.database import Row, Session
from analysis_service.database.dialect import Dialect
from analysis_service.queries.runs import benchmark_versions_query, changed_runs_query, runs_query
from analysis_service.runs import Run, StoredRun, finished_runs, latest_runs, with_questions
from shared.registry.specs import Registry

_OFF_LOOP_ROWS = 2_000
"""From so many runs on, others would notice how long it takes to build them."""
_MANY = 100
"""From so many changes on, a benchmark's runs are sorted anew rather than each put in its place."""


@dataclass(frozen=True, eq=False)
class BenchmarkRuns:
    """Every valid run of one benchmark, live ones too, oldest first."""

    benchmark: str
    version: int
    """In which anything of the benchmark last changed; 0 before the first result."""
    runs: tuple[Run, ...]
    whole: int
    """Distinct questions of a run that asked all: as registered, else those of the fullest finished run."""

    @cached_property
    def finished(self) -> Sequence[Run]:
        """Those that are not going on any more."""
        return finished_runs(self.runs)

    @cached_property
    def latest(self) -> Sequence[Run]:
        """One finished run a model, by model."""
        return latest_runs(self.finished)

    @cached_property
    def measured(self) -> Sequence[Run]:
        """Those that were measured question by question, live ones too."""
        return with_questions(self.runs)

    @cached_property
    def by_name(self) -> Mapping[str, Run]:
        """The runs by their results' names."""
        return {run.result_name: run for run in self.runs}


@dataclass(frozen=True, eq=False, slots=True)
class Catalog:
    """The runs of every registered benchmark."""

    version: int
    """Of the store: `feed_state.version`."""
    token: int
    """Left by the write that made this version; the same version with another token is of another history."""
    epoch: int
    """How often the store turned out to be another one; what was kept in memory before that means nothing."""
    by_benchmark: Mapping[str, BenchmarkRuns]
    by_number: Mapping[int, Run]

    def newest_change(self, benchmarks: Iterable[str] | None) -> int:
        """The version in which any of these benchmarks last changed; for None, the store's own."""
        if benchmarks is None:
            return self.version
        known = self.by_benchmark
        return max((known[name].version for name in benchmarks if name in known), default=0)


async def read_catalog(
    session: Session, dialect: Dialect, registry: Registry, *, version: int, token: int, epoch: int
) -> Catalog:
    """The catalog of the version that `session` sees, read whole."""
    rows = await session.fetch(runs_query(dialect), "all runs")
    versions: dict[str, int] = dict(
        await session.fetch(benchmark_versions_query(dialect, -1), "all benchmark versions")
    )

    def build() -> Catalog:
        stored = _by_benchmark(rows, registry)
        by_benchmark = {}
        same: dict[int, int] = {}
        for name, spec in registry.benchmarks.items():
            own = stored[name]
            whole = spec.question_count or _fullest(own)
            runs = sorted((_make_run(row, registry, whole, same) for row in own), key=_age)
            # A benchmark with runs has a version. Were its row lost: the store's is never too old.
            by_benchmark[name] = BenchmarkRuns(name, versions.get(name, version if runs else 0), tuple(runs), whole)
        by_number = {run.run_no: run for known in by_benchmark.values() for run in known.runs}
        return Catalog(version, token, epoch, by_benchmark, by_number)

    return await asyncio.to_thread(build) if len(rows) > _OFF_LOOP_ROWS else build()


async def refresh_catalog(
    session: Session, dialect: Dialect, registry: Registry, known: Catalog, *, version: int, token: int
) -> Catalog:
    """The catalog of the version that `session` sees: `known`, an older one of the same store, with what changed."""
    rows = await session.fetch(changed_runs_query(dialect, known.version), "runs changed since")
    versions: dict[str, int] = dict(
        await session.fetch(benchmark_versions_query(dialect, known.version), "benchmark versions changed since")
    )
    by_number = dict(known.by_number)
    gone: defaultdict[str, list[Run]] = defaultdict(list)
    for number, *_ in rows:
        if (former := by_number.pop(number, None)) is not None:
            gone[former.benchmark].append(former)
    come = _by_benchmark(rows, registry)
    by_benchmark = dict(known.by_benchmark)
    for name in by_benchmark.keys() & (gone.keys() | come.keys() | versions.keys()):
        before = by_benchmark[name]
        whole = registry.benchmarks[name].question_count or _fullest_after(before, gone[name], come[name])
        kept = _without(before.runs, gone[name])
        if whole != before.whole:
            kept = [replace(run, coverage=_coverage(run.n_questions, whole)) for run in kept]
            by_number |= {run.run_no: run for run in kept}
        new = [_make_run(row, registry, whole, {}) for row in come[name]]
        by_number |= {run.run_no: run for run in new}
        by_benchmark[name] = BenchmarkRuns(name, versions.get(name, version), _with(kept, new), whole)
    return Catalog(version, token, known.epoch, by_benchmark, by_number)


def _by_benchmark(rows: Iterable[Row], registry: Registry) -> defaultdict[str, list[StoredRun]]:
    """The runs among `rows` of benchmarks that are registered."""
    found: defaultdict[str, list[StoredRun]] = defaultdict(list)
    for _, *values in rows:
        row = StoredRun(*values)
        if row.benchmark in registry.benchmarks:
            found[row.benchmark].append(row)
    return found


def _fullest(runs: Iterable[Run | StoredRun]) -> int:
    return max((run.n_questions for run in runs if not run.live), default=0)


def _fullest_after(before: BenchmarkRuns, gone: Sequence[Run], come: Sequence[StoredRun]) -> int:
    new = _fullest(come)
    if new >= before.whole or _fullest(gone) < before.whole:
        return max(new, before.whole)
    return max(new, _fullest(_without(before.runs, gone)))


def _without(runs: Sequence[Run], gone: Sequence[Run]) -> list[Run]:
    if len(gone) > _MANY:
        numbers = {run.run_no for run in gone}
        return [run for run in runs if run.run_no not in numbers]
    kept = list(runs)
    for run in gone:
        place = bisect_left(kept, _age(run), key=_age)
        while kept[place] is not run:  # others may be as old
            place += 1
        del kept[place]
    return kept


def _with(runs: list[Run], come: Sequence[Run]) -> tuple[Run, ...]:
    if len(come) > _MANY:
        return tuple(sorted([*runs, *come], key=_age))
    for run in come:
        runs.insert(bisect_left(runs, _age(run), key=_age), run)
    return tuple(runs)


def _age(run: Run) -> tuple[str, int, int]:
    return (run.time_key, run.seq, run.run_no)


def _coverage(n_questions: int, whole: int) -> float:
    return min(1.0, n_questions / whole) if whole else 0.0


def _make_run(row: StoredRun, registry: Registry, whole: int, same: dict[int, int]) -> Run:
    """The run of a row. What many runs have in common is kept once: there may be 100,000 of them."""
    facts = registry.model(row.model_id)
    model_id = intern(row.model_id)
    return Run(
        run_no=row.run_no,
        result_name=row.result_name,
        benchmark=intern(row.benchmark),
        model_id=model_id,
        source=intern(row.source),
        timestamp=row.timestamp,
        time_key=row.time_key,
        seq=row.seq,
        set_no=None if row.set_no is None else same.setdefault(row.set_no, row.set_no),
        layout_no=None if row.layout_no is None else same.setdefault(row.layout_no, row.layout_no),
        n_cells=same.setdefault(row.n_cells, row.n_cells),
        n_questions=same.setdefault(row.n_questions, row.n_questions),
        n_answers=same.setdefault(row.n_answers, row.n_answers),
        n_scored=row.n_scored,
        score_sum=row.score_sum,
        stated_score=row.stated_score,
        harness=_interned(row.harness),
        harness_version=_interned(row.harness_version),
        task_version=_interned(row.task_version),
        grader=_interned(row.grader),
        config_hash=_interned(row.config_hash),
        live=bool(row.live),
        model=registry.canonical_model(model_id),
        vendor=facts.vendor if facts else None,
        family=facts.family if facts else None,
        registered=facts is not None,
        coverage=_coverage(row.n_questions, whole),
    )


def _interned(text: str | None) -> str | None:
    return None if text is None else intern(text)

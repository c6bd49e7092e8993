"""The runs that the projection holds, with their models' facts, and which of them are the latest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis_service.database import Session
from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import RUNS
from shared.analysis import RunInfo
from shared.registry.specs import Registry

FULL_COVERAGE = 0.95
"""A run with less of its benchmark's questions is partial: it is the latest only where no fuller one is."""


@dataclass(frozen=True, slots=True)
class Run:
    """A valid result that was applied."""

    run_no: int
    result_name: str
    benchmark: str
    model_id: str
    model: str
    """The canonical id."""
    vendor: str | None
    family: str | None
    registered: bool
    source: str
    timestamp: str
    time_key: str
    seq: int
    set_no: int | None
    n_questions: int
    n_answers: int
    n_scored: int
    score_sum: float
    stated_score: float | None
    coverage: float
    live: bool
    """Whether it is still going on: a live run's questions so far."""

    @property
    def info(self) -> RunInfo:
        """This run as answers tell it."""
        return RunInfo(
            result_name=self.result_name,
            model=self.model,
            registered=self.registered,
            timestamp=self.timestamp,
            coverage=round(self.coverage, 6),
            partial=self.coverage < FULL_COVERAGE,
            live=self.live,
        )


_COLUMNS = (
    "run_no", "result_name", "benchmark", "model_id", "source", "timestamp", "time_key", "seq", "set_no",
    "n_questions", "n_answers", "n_scored", "score_sum", "stated_score", "live",
)  # fmt: skip


async def fetch_runs(
    session: Session, dialect: Dialect, registry: Registry, benchmarks: Sequence[str] | None = None
) -> list[Run]:
    """Every valid run, live ones too, of these benchmarks or of all that are registered, oldest first."""
    query = dialect.query.from_(RUNS).select(*(RUNS.field(column) for column in _COLUMNS))
    if benchmarks is not None:
        query = query.where(RUNS.benchmark.isin(list(benchmarks)))
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in await session.fetch(query)]
    rows = [row | {"live": bool(row["live"])} for row in rows if row["benchmark"] in registry.benchmarks]
    most: dict[str, int] = {}
    for row in rows:
        if row["live"]:
            continue
        most[row["benchmark"]] = max(most.get(row["benchmark"], 0), row["n_questions"])
    runs = []
    for row in rows:
        facts = registry.model(row["model_id"])
        # A benchmark that states no number of questions is as large as the fullest run of it.
        whole = registry.benchmarks[row["benchmark"]].question_count or most.get(row["benchmark"], 0)
        runs.append(
            Run(
                **row,
                model=registry.canonical_model(row["model_id"]),
                vendor=facts.vendor if facts else None,
                family=facts.family if facts else None,
                registered=facts is not None,
                coverage=min(1.0, row["n_questions"] / whole) if whole else 0.0,
            )
        )
    return sorted(runs, key=lambda run: (run.time_key, run.seq))


def latest_runs(runs: Iterable[Run]) -> list[Run]:
    """One run with questions a (benchmark, model): the newest full one, else the fullest, the newest of equals.

    A live run among `runs` counts as full: whoever lets it in wants to see it. `finished_runs` keeps them out.
    """
    best: dict[tuple[str, str], Run] = {}
    for run in runs:
        if run.n_questions == 0:
            continue
        key = (run.benchmark, run.model)
        if key not in best or _rank(run) > _rank(best[key]):
            best[key] = run
    return sorted(best.values(), key=lambda run: (run.benchmark, run.model))


def _rank(run: Run) -> tuple[float, str, int]:
    full = run.live or run.coverage >= FULL_COVERAGE
    return (1.0 if full else run.coverage, run.time_key, run.seq)


def finished_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs that are not going on any more."""
    return [run for run in runs if not run.live]


def with_questions(runs: Sequence[Run]) -> list[Run]:
    """The runs that were measured question by question."""
    return [run for run in runs if run.n_questions]

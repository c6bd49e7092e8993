"""A run that the projection holds, with its model's facts, and which of several are the latest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.analysis import RunInfo

FULL_COVERAGE = 0.95
"""A run with less of its benchmark's questions is partial: it is the latest only where no fuller one is."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A valid result that was applied, as its row says; the fields are that row's columns."""

    run_no: int
    result_name: str
    benchmark: str
    model_id: str
    source: str
    timestamp: str
    time_key: str
    seq: int
    set_no: int | None
    layout_no: int | None
    """What its packed sums are about, cell by cell; None without questions."""
    n_cells: int
    """Cells of its packed sums."""
    n_questions: int
    n_answers: int
    n_scored: int
    score_sum: float
    stated_score: float | None
    harness: str | None
    harness_version: str | None
    task_version: str | None
    grader: str | None
    config_hash: str | None
    """Of the settings that say how the questions were asked; None where none were told, as with the four above."""
    live: int
    """1 if it is still going on: a live run's questions so far."""


@dataclass(frozen=True, slots=True)
class Run(StoredRun):
    """The same with its model's facts, and how much of its benchmark it has."""

    live: bool
    model: str
    """The canonical id."""
    vendor: str | None
    family: str | None
    registered: bool
    coverage: float
    """Distinct questions of it / questions of its benchmark."""

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


def latest_runs(runs: Iterable[Run]) -> list[Run]:
    """One run with questions a (benchmark, model): the newest full one, else the fullest, the newest of equals.

    A live run among `runs` counts as full: whoever lets it in wants to see it. `finished_runs` keeps them out.
    """
    best: dict[tuple[str, str], tuple[tuple[float, str, int], Run]] = {}
    for run in runs:
        if run.n_questions == 0:
            continue
        key, rank = (run.benchmark, run.model), _rank(run)
        if key not in best or rank > best[key][0]:
            best[key] = rank, run
    return [best[key][1] for key in sorted(best)]


def _rank(run: Run) -> tuple[float, str, int]:
    full = run.live or run.coverage >= FULL_COVERAGE
    return (1.0 if full else run.coverage, run.time_key, run.seq)


def finished_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs that are not going on any more."""
    return [run for run in runs if not run.live]


def with_questions(runs: Sequence[Run]) -> list[Run]:
    """The runs that were measured question by question."""
    return [run for run in runs if run.n_questions]


def layout_of(run: Run) -> int:
    """The number of a run's layout. Only runs with questions are chosen, and those have one."""
    if run.layout_no is None:
        raise ValueError(f"run {run.run_no} has questions and no layout")
    return run.layout_no

"""Wire models of an import: what was found, what became of it, and what of it was lost."""

from pydantic import BaseModel, ConfigDict

from shared.problems import ProblemDocument
from shared.results import StoreStatus

_FROZEN = ConfigDict(frozen=True)


class RowsLeftOut(BaseModel):
    """Rows that did not become answers, for one reason."""

    model_config = _FROZEN

    reason: str
    rows: int
    places: list[str] = []
    """The first of them: file and line, or the harness's name of the row."""


class ComparedAggregate(BaseModel):
    """A figure that the harness states, beside the same computed from its rows."""

    model_config = _FROZEN

    task: str
    name: str
    kind: str
    """`mean`, `stderr`, or what else it is; others than these two are not recomputed."""
    stated: float | None
    """None if the harness states that it is not a number."""
    recomputed: float | None = None
    difference: float | None = None
    """Recomputed minus stated."""
    agrees: bool | None = None
    """None where it could not be recomputed; `note` says why."""
    samples: int
    """Rows that it was recomputed from."""
    note: str | None = None


class ImportedRun(BaseModel):
    """One standardized result that came of it."""

    model_config = _FROZEN

    result_name: str
    benchmark_name: str
    registered: bool
    """Whether the benchmark is; if not, the result is kept, and analysed once a registry file describes it."""
    model_id: str
    tasks: list[str]
    """What the harness calls that which is in it."""
    status: StoreStatus | None
    """None if this was only a trial."""
    questions: int
    """Rows taken."""
    warnings: list[str] = []
    problem: ProblemDocument | None = None
    """Why it is not stored."""


class ImportedFinding(BaseModel):
    """What became of one thing that was recognised among the files: a log, a run folder, results with their samples."""

    model_config = _FROZEN

    format: str
    place: str
    """Its first file."""
    files: int
    raw_input: str | None = None
    """The result that keeps its files; None if nothing was stored."""
    runs: list[ImportedRun] = []
    rows_taken: int = 0
    rows_refused: int = 0
    refused: list[RowsLeftOut] = []
    passed_over: list[RowsLeftOut] = []
    """Rows that are left out on purpose: the same answers under another filter, perturbed copies."""
    fields_left: dict[str, int] = {}
    """Fields that have no place in a result, with the number of rows that had them. The raw input keeps them."""
    aggregates: list[ComparedAggregate] = []
    agreeing: int = 0
    differing: int = 0
    not_recomputed: int = 0
    incomplete: str | None = None
    """Why the run is not whole."""
    warnings: list[str] = []
    problem: str | None = None
    """Why nothing of it could be read."""


class ImportReport(BaseModel):
    """What became of an import. Nothing is left out silently: what is not here is in a result."""

    model_config = _FROZEN

    dry_run: bool
    findings: list[ImportedFinding]
    unrecognised: list[str]
    """Files that no reader knows, the first of them; the next field counts all."""
    files_unrecognised: int
    complete: bool
    """Whether something was found, and all of it is stored (or could be): no row refused, no run in conflict."""

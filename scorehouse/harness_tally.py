"""Adds up what became of harnesses' output, in memory that does not grow with how much there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scorehouse.calls import ScorehouseError
from scorehouse.documents import Unreadable
from scorehouse.harness_outputs import FoundOutput
from scorehouse.terminal import count
from shared.imports import ImportedFinding, ImportReport
from shared.results import StoreStatus

TOLD_MAX = 10
"""Findings whose losses are told one by one; --report FILE has all."""
_REASONS_MAX = 4


@dataclass(slots=True)
class FormatTally:
    """What became of one harness's output."""

    findings: int = 0
    files: int = 0
    runs: int = 0
    stored: int = 0
    unchanged: int = 0
    not_stored: int = 0
    """Runs in conflict or refused."""
    unreadable: int = 0
    """Findings of which nothing could be read."""
    taken: int = 0
    passed_over: int = 0
    refused: int = 0
    agreeing: int = 0
    differing: int = 0
    not_recomputed: int = 0

    def add(self, finding: ImportedFinding) -> None:
        """Count a finding."""
        self.findings += 1
        self.files += finding.files
        self.runs += len(finding.runs)
        statuses = [run.status for run in finding.runs]
        self.stored += statuses.count(StoreStatus.CREATED)
        self.unchanged += statuses.count(StoreStatus.UNCHANGED)
        self.not_stored += statuses.count(StoreStatus.CONFLICT) + statuses.count(StoreStatus.REFUSED)
        self.unreadable += finding.problem is not None
        self.taken += finding.rows_taken
        self.passed_over += sum(rows.rows for rows in finding.passed_over)
        self.refused += finding.rows_refused
        self.agreeing += finding.agreeing
        self.differing += finding.differing
        self.not_recomputed += finding.not_recomputed


@dataclass(frozen=True, slots=True)
class Loss:
    """A finding of which something was lost, or does not agree."""

    place: str
    lines: tuple[str, ...]
    is_bad: bool
    """Whether it is not stored in whole."""


@dataclass(slots=True)
class HarnessReport:
    """What became of all outputs so far."""

    by_format: dict[str, FormatTally] = field(default_factory=dict)
    total: FormatTally = field(default_factory=FormatTally)
    losses: list[Loss] = field(default_factory=list)
    """The first of them."""
    losing: int = 0
    """How many there are."""
    unregistered: int = 0
    """Runs of benchmarks that the registry lacks."""
    answered: int = 0
    """Outputs of which the service told what became of them."""
    under_way: int = 0
    """Outputs that were sent and not yet answered."""
    failures: list[tuple[FoundOutput, str]] = field(default_factory=list)
    """Outputs that are not stored, and why."""
    has_failed: bool = False
    """Whether one of them may fare better when it is sent again as it is."""
    unknown: list[FoundOutput] = field(default_factory=list)
    """Archives that lay in a folder and hold nothing of a harness."""
    unreadable: list[Unreadable] = field(default_factory=list)
    unsent: int = 0
    """Outputs that were not sent, since the service is away."""
    unsent_for: ScorehouseError | None = None
    others: list[str] = field(default_factory=list)
    """Files that are passed by."""
    others_are: str = "neither of a harness nor documents"
    untried: int = 0
    """Files of documents that a trial does not look at."""
    on_report: Callable[[ImportReport], None] = lambda _: None
    """Told of each answer."""
    is_complete: bool = True
    """Whether all that was answered is stored."""

    @property
    def complete(self) -> bool:
        """Whether all of it is stored, or in a trial could be."""
        return self.is_complete and not (self.failures or self.unreadable or self.unsent)

    @property
    def tallies(self) -> Mapping[str, FormatTally]:
        """By format, in the order of their names."""
        return dict(sorted(self.by_format.items()))

    def add(self, output: FoundOutput, report: ImportReport) -> None:
        """Count an answer."""
        self.answered += 1
        self.is_complete &= report.complete
        for finding in report.findings:
            self.total.add(finding)
            self.by_format.setdefault(finding.format, FormatTally()).add(finding)
            self.unregistered += sum(not run.registered for run in finding.runs)
            if lines := losses(finding):
                self.losing += 1
                if len(self.losses) < TOLD_MAX:
                    place = output.place if output.format else f"{output.place}: {finding.place}"
                    self.losses.append(Loss(place, tuple(lines), _is_bad(finding)))
        self.on_report(report)

    def fail(self, output: FoundOutput, why: str, *, is_refused: bool) -> None:
        """Count an output that is not stored; `is_refused`: it will not be, as it is."""
        self.has_failed |= not is_refused
        self.failures.append((output, why))
        finding = ImportedFinding(
            format=output.format or "archive", place=output.files[0].path, files=len(output.files), problem=why
        )
        self.on_report(
            ImportReport(dry_run=False, findings=[finding], unrecognised=[], files_unrecognised=0, complete=False)
        )


def _is_bad(finding: ImportedFinding) -> bool:
    return finding.problem is not None or any(run.problem for run in finding.runs) or finding.rows_refused > 0


def losses(finding: ImportedFinding) -> list[str]:
    """What of a finding is worth a line: what was not stored, and what does not agree."""
    lines = [finding.problem] if finding.problem else []
    failed = [run for run in finding.runs if run.problem]
    for run in failed[:_REASONS_MAX]:
        if run.problem is not None:
            lines.append(f"{run.result_name}: {run.problem.detail}")
            lines += [f"    {fault.place}: {fault.detail}" for fault in (run.problem.faults or ())[:_REASONS_MAX]]
    if len(failed) > _REASONS_MAX:
        lines.append(f"and {len(failed) - _REASONS_MAX:,} more runs that are not stored")
    for rows in finding.refused[:_REASONS_MAX]:
        lines.append(f"{count(rows.rows, 'row')} refused: {rows.reason} ({', '.join(rows.places[:2])})")
    if len(finding.refused) > _REASONS_MAX:
        rest = sum(rows.rows for rows in finding.refused[_REASONS_MAX:])
        lines.append(f"and {count(rest, 'more row')} refused for other reasons")
    differing = [figure for figure in finding.aggregates if figure.agrees is False]
    for figure in differing[:_REASONS_MAX]:
        why = f"; {figure.note}" if figure.note else ""
        lines.append(
            f"{figure.task} {figure.name}{'' if figure.kind == 'mean' else ' ' + figure.kind}: stated "
            f"{_figure(figure.stated)}, its {count(figure.samples, 'row')} come to {_figure(figure.recomputed)}{why}"
        )
    if len(differing) > _REASONS_MAX:
        lines.append(f"and {len(differing) - _REASONS_MAX:,} more figures that do not come out")
    if finding.incomplete:
        lines.append(f"the run is not whole: {finding.incomplete}")
    return lines


def _figure(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.6g}"

"""What both services tell of comparing the stores: wire models, and the count of what was found.

`POST /reconciliation` of either service answers in lines: how far it has come, and at the end a report, or the problem
that ended it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from shared.problems import ProblemDocument

FIRST_MAX = 100
"""Differences that are told one by one."""

_FROZEN = ConfigDict(frozen=True)


class ReconciliationRequest(BaseModel):
    """Whether to mend what is found."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    repair: bool = Field(default=False, description="Mend what can be mended; otherwise nothing is written")


class ProjectionReconciliationRequest(ReconciliationRequest):
    """The same of the analysis service, which alone has sums."""

    sums: bool = Field(default=True, description="Make each run's sums again from its answers, and compare them")


class Difference(BaseModel):
    """One thing that is not as it should be."""

    model_config = _FROZEN

    reason: str
    """A `Finding.reason`."""
    result_name: str
    """The result that it is about; where it is about none, the place (`run 17`, `entry 5`)."""
    detail: str
    repaired: bool


class Finding(BaseModel):
    """How often one kind of difference was found."""

    model_config = _FROZEN

    reason: str
    found: int
    repaired: int
    meaning: str
    next_step: str
    """What to do about those that were not repaired."""


class Reconciliation(BaseModel):
    """What a comparison came to."""

    model_config = _FROZEN

    results: int
    """Results that were looked at."""
    entries: int
    """Entries of the feed that were looked at; the analysis looks at those that it has applied."""
    differences: int
    repaired: int
    findings: list[Finding]
    first: list[Difference]
    """At most 100 of the differences."""

    @property
    def remaining(self) -> int:
        """Differences that are still there."""
        return self.differences - self.repaired


class ReconciliationLine(BaseModel):
    """One line of the answer. The last has `report` or `problem`; the others say how far it has come."""

    model_config = _FROZEN

    phase: str
    """What is being compared: `results`, `runs`, `sums`, `feed`, `files`; at the end `done`."""
    done: int = 0
    total: int = 0
    report: Reconciliation | None = None
    problem: ProblemDocument | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """A kind of difference."""

    meaning: str
    next_step: str


@dataclass(slots=True)
class Tally:
    """Counts differences and keeps the first of them; as small for a million as for none."""

    reasons: Mapping[str, Reason]
    results: int = 0
    entries: int = 0
    found: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)

    def add(self, reason: str, result_name: str, detail: str, *, repaired: bool, times: int = 1) -> None:
        """Count a difference, or `times` of them that are told as one."""
        self.found[reason] += times
        self.repaired[reason] += times * repaired
        if len(self.first) < FIRST_MAX:
            self.first.append(Difference(reason=reason, result_name=result_name, detail=detail, repaired=repaired))

    def progress(self, phase: str, done: int, total: int) -> ReconciliationLine:
        """The line that says how far it has come."""
        return ReconciliationLine(phase=phase, done=done, total=max(done, total))

    def report(self) -> ReconciliationLine:
        """The last line."""
        findings = [
            Finding(
                reason=reason,
                found=count,
                repaired=self.repaired[reason],
                meaning=self.reasons[reason].meaning,
                next_step=self.reasons[reason].next_step,
            )
            for reason, count in self.found.most_common()
        ]
        report = Reconciliation(
            results=self.results,
            entries=self.entries,
            differences=self.found.total(),
            repaired=self.repaired.total(),
            findings=findings,
            first=self.first,
        )
        return ReconciliationLine(phase="done", report=report)

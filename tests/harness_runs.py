"""What a reader found in a run, read to its end."""

from shared.formats.comparison import Tallies, compare
from shared.formats.harness import HarnessRun, Ledger, Sample
from shared.imports import ComparedAggregate


def samples(run: HarnessRun, ledger: Ledger | None = None) -> list[Sample]:
    """The samples of all tasks, in their order."""
    ledger = ledger or Ledger()
    return [sample for task in run.tasks if task.samples for sample in task.samples(ledger)]


def compared(run: HarnessRun) -> list[ComparedAggregate]:
    """The stated figures beside those of the samples."""
    tallies = Tallies(run)
    for task in run.tasks:
        for sample in task.samples(Ledger()) if task.samples else ():
            tallies.of(task).add(sample)
    return list(compare(run, tallies))


def agreements(run: HarnessRun) -> dict[str, bool | None]:
    """Whether they agree, by their names."""
    return {aggregate.name: aggregate.agrees for aggregate in compared(run)}

"""Takes up what processes left in their journals: those that were killed, and those whose service was away."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.harness_outputs import FoundOutput, find_outputs
from scorehouse.live_journal import Journal, Output, Preview, journals
from scorehouse.live_push import LivePush, close_preview
from scorehouse.spool import Spool
from shared.imports import ImportReport


@dataclass(slots=True)
class Replayed:
    """What became of journals that nobody worked on."""

    done: int = 0
    rejected: list[Path] = field(default_factory=list)
    """Where those lie now that the service refused, each with the reason beside it."""
    waiting: int = 0
    """Those that are being worked on, or could not be sent."""
    reason: ScorehouseError | None = None
    """Why the latter."""


def replay(house: Scorehouse, spool: Spool, tell: Callable[[str], None]) -> Replayed:
    """Send what all journals without an owner hold, oldest first. It stops where the service is away."""
    replayed = Replayed()
    paths = journals(spool)
    for number, path in enumerate(paths):
        journal = Journal.take(path)
        if journal is None:
            replayed.waiting += path.exists()
            continue
        try:
            tell(_end(house, journal))
            replayed.done += 1
        except ScorehouseError as error:
            if not error.refused:
                journal.close()
                replayed.reason = error
                replayed.waiting += len(paths) - number
                break
            replayed.rejected.append(_reject(journal, str(error), tell))
        except FileNotFoundError as error:
            replayed.rejected.append(_reject(journal, f"{error.filename} is gone", tell))
    return replayed


def _reject(journal: Journal, reason: str, tell: Callable[[str], None]) -> Path:
    path = journal.reject(reason)
    tell(f"a run cannot be sent: {reason}; its journal is {path}")
    return path


def _end(house: Scorehouse, journal: Journal) -> str:
    """Do what a journal asks for; what to tell of it."""
    lines = list(journal.read())
    output = next((line for line in lines if isinstance(line, Output)), None)
    if output is not None:
        previews = [line.result_name for line in lines if isinstance(line, Preview)]
        imported = import_output(house, journal, output, previews)
        runs = [run.result_name for _, report in imported for finding in report.findings for run in finding.runs]
        return f"imported {', '.join(runs) if runs else 'nothing'} from {output.folder}, left by an earlier process"
    run = LivePush.restore(journal)
    run.end(house)
    if run.ending is None:
        return f"{run.result_name} was left by a process that ended early: it is sent as far as it came, and is partial"
    return f"{run.result_name} was left by an earlier process, and is stored"


def import_output(
    house: Scorehouse, journal: Journal, output: Output, previews: Iterable[str]
) -> list[tuple[FoundOutput, ImportReport]]:
    """Import what a harness has written, close what was shown of it before, and be done with the journal."""
    imported = [(found, house.import_files(found.files)) for found in new_outputs(output)]
    findings = [finding for _, report in imported for finding in report.findings]
    whole = ImportReport(dry_run=False, findings=findings, unrecognised=[], files_unrecognised=0, complete=True)
    for name in previews:
        close_preview(house, name, whole)
    journal.remove()
    if output.is_ours:
        shutil.rmtree(output.folder, ignore_errors=True)
    return imported


def new_outputs(output: Output) -> list[FoundOutput]:
    """What lies in a folder and was not there before."""
    folder, before = Path(output.folder), set(output.without)
    found = find_outputs([folder]).outputs if folder.exists() else ()
    return [one for one in found if before.isdisjoint(str(file.location) for file in one.files)]

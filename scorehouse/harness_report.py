"""Tells what became of harnesses' output: a table by harness, above it what was lost and what does not agree."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from scorehouse.calls import ScorehouseError
from scorehouse.harness_tally import TOLD_MAX, FormatTally, HarnessReport
from scorehouse.terminal import count, in_columns, say
from shared.formats.known import FORMATS
from shared.imports import ImportReport

_COLUMNS = (
    *("harness", "outputs", "files", "runs", "rows", "refused", "left out"),
    *("scores equal", "not equal", "not recomputed"),
)
_UNRECOGNISED_MAX = 100
_NAMES_MAX = 3


def print_harness_report(console: Console, report: HarnessReport, *, dry_run: bool) -> None:
    """Print what whoever pushes should know, then the table."""
    _print_failures(console, report)
    for loss in report.losses:
        say(console, on_one_line(loss.place), "red" if loss.is_bad else "yellow")
        for line in loss.lines:
            say(console, f"    {on_one_line(line)}")
    if report.losing > len(report.losses):
        more = report.losing - len(report.losses)
        say(console, f"and {more:,} more with something lost or not equal; --report FILE has every one")
    for files, what in (
        ([output.place for output in report.unknown], "with nothing of a harness in it"),
        (report.others, f"passed by, {report.others_are}"),
    ):
        if files:
            say(console, f"{count(len(files), 'file')} {what}: {shortened(files)}", "dim")
    if report.untried:
        files_of_documents = count(report.untried, "file")
        say(console, f"{files_of_documents} of documents not looked at: a trial is for what harnesses wrote", "yellow")
    if not report.by_format:
        return
    say(console)
    head, *rows = _table(report)
    say(console, head, "bold")
    for row in rows:
        say(console, row)
    if report.unregistered:
        say(
            console,
            f"{count(report.unregistered, 'run')} of benchmarks that this registry does not know: kept, and grouped "
            "once a registry file describes them; 'scorehouse registry suggest' drafts it",
            "yellow",
        )
    total = report.total
    kept = "nothing stored, for this was a trial"
    if not dry_run:
        kept = f"{total.stored:,} stored, {total.unchanged:,} unchanged"
        kept += f", {total.not_stored:,} not stored" if total.not_stored else ""
    say(console, f"{count(total.runs, 'run')} of harnesses: {kept}", "green" if report.complete else "bold")


def on_one_line(text: str) -> str:
    """`text`, which names of files and words of harnesses may be part of, so that it cannot pass for lines of ours."""
    return text.replace("\n", "\\n")


def shortened(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - _NAMES_MAX
    return ", ".join(map(on_one_line, names[:_NAMES_MAX])) + (f" and {more:,} more" if more > 0 else "")


def _print_failures(console: Console, report: HarnessReport) -> None:
    reasons: dict[str, list[str]] = {}
    for output, why in report.failures:
        reasons.setdefault(why, []).append(output.place)
    for item in report.unreadable:
        reasons.setdefault(item.reason, []).append(item.place)
    for why, places in list(reasons.items())[:TOLD_MAX]:
        say(console, f"not stored {shortened(places)}", "red")
        say(console, f"    {on_one_line(why)}")
    if len(reasons) > TOLD_MAX:
        rest = sum(len(places) for places in list(reasons.values())[TOLD_MAX:])
        say(console, f"and {rest:,} more not stored; --report FILE has every one", "red")


@contextmanager
def report_file(report: HarnessReport, file: Path | None, *, dry_run: bool) -> Iterator[None]:
    """Write all that the service tells into a file, as one ImportReport; whole at the end, however that comes.

    ScorehouseError where it cannot be written: before anything is done, as far as that can be told.
    """
    if file is None:
        yield
        return
    try:
        stream = file.open("w", encoding="utf-8")
    except OSError as error:
        raise ScorehouseError(f"cannot write the report {file}: {error.strerror}; nothing was pushed") from None
    unrecognised: list[str] = []
    files_unrecognised = 0
    separator = ""

    def add(answer: ImportReport) -> None:
        nonlocal separator, files_unrecognised
        for finding in answer.findings:
            stream.write(f"{separator}{finding.model_dump_json()}")
            separator = ",\n"
        unrecognised.extend(answer.unrecognised[: _UNRECOGNISED_MAX - len(unrecognised)])
        files_unrecognised += answer.files_unrecognised

    report.on_report = add
    try:
        with stream:
            stream.write(f'{{"dry_run":{"true" if dry_run else "false"},"findings":[\n')
            try:
                yield
            finally:
                end = ImportReport(
                    dry_run=dry_run,
                    findings=[],
                    unrecognised=unrecognised,
                    files_unrecognised=files_unrecognised,
                    complete=report.complete and report.answered > 0,
                )
                rest = end.model_dump_json(exclude={"dry_run", "findings"})
                stream.write(f"\n],{rest[1:]}\n")
    except OSError as error:  # the disk is full
        raise ScorehouseError(f"the report {file} is not whole: {error.strerror or error}") from None


def _table(report: HarnessReport) -> list[str]:
    """Figures by harness, the heads of the columns first. `equal`: stated aggregates that come out of the rows."""
    rows = [list(_COLUMNS)]
    for name, tally in report.tallies.items():
        rows.append([FORMATS[name].title if name in FORMATS else name, *_figures(tally)])
    if len(report.tallies) > 1:
        rows.append(["all", *_figures(report.total)])
    return in_columns(rows, right=range(1, len(_COLUMNS)))


def _figures(tally: FormatTally) -> list[str]:
    figures = (
        *(tally.findings, tally.files, tally.runs, tally.taken, tally.refused, tally.passed_over),
        *(tally.agreeing, tally.differing, tally.not_recomputed),
    )
    return [f"{figure:,}" for figure in figures]

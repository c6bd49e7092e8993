"""`scorehouse push`: the progress bar, the summary and the exit code.

What harnesses wrote is recognised and imported by the service; everything else is documents in Scorehouse's own form.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import EXPECTED, Document, find_files
from scorehouse.harness_outputs import Found, FoundOutput, find_outputs, is_document
from scorehouse.harness_push import push_outputs
from scorehouse.harness_report import print_harness_report, report_file, shortened
from scorehouse.harness_tally import HarnessReport
from scorehouse.push import PushReport, Refusal, bytes_under, documents_under, push_documents
from scorehouse.retries import Retries
from scorehouse.spool import Spool, SpoolError
from scorehouse.spool_command import flush_first
from scorehouse.terminal import INTERRUPTED, Waits, complain, count, out, progress_bar, say
from shared.formats.known import FORMATS
from shared.results import ResultKind


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What the user chose."""

    url: str | None
    kind: ResultKind
    jobs: int
    patience_s: float
    spool: Spool | None = None
    recognise: bool = True
    """Whether to look for what harnesses wrote."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What is said of harnesses' files, as `POST /import` takes it."""
    report_file: Path | None = None
    """Where to write what was lost, whole."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing is to be stored."""
        return self.parameters.get("dry_run") == "true"


def run_push(paths: list[Path], options: PushOptions) -> int:
    """Push everything under `paths`, print what became of it; the exit code.

    What went into the spool is safe and not lost, so it is no failure: a runner goes on, and a warning says how many
    documents wait. It is one where waiting cannot help: a key that is not allowed this, an address that is not ours.
    """
    report = PushReport()
    harnesses = HarnessReport()
    try:
        with report_file(harnesses, options.report_file, dry_run=options.dry_run):
            return _run(paths, report, harnesses, options)
    except ScorehouseError as error:
        complain(str(error))
        return 1


def _run(paths: list[Path], report: PushReport, harnesses: HarnessReport, options: PushOptions) -> int:
    try:
        found = find_outputs(paths, options.parameters.get("format")) if options.recognise else Found()
        harnesses.unreadable += found.unreadable
        asyncio.run(_push(paths, found, report, harnesses, options))
    except KeyboardInterrupt:
        harnesses.is_complete = False
        _print_both(report, harnesses, options)
        complain(
            f"interrupted{_unanswered(report, harnesses)}; push again to go on, what is stored answers 'unchanged'"
        )
        return INTERRUPTED
    except ScorehouseError as error:
        harnesses.is_complete = False
        _print_both(report, harnesses, options)
        rest = "; the rest is neither stored nor kept: push again when that is mended"
        unanswered = _unanswered(report, harnesses) if report.documents or harnesses.answered else ""
        complain(f"{error}{unanswered}{rest if isinstance(error, SpoolError) else ''}")
        return 1
    except OSError as error:  # the disk fails while it is looked through
        harnesses.is_complete = False
        complain(f"cannot look through {shortened([*map(str, paths)])}: {error}")
        return 1
    has_documents = bool(report.documents or report.unreadable)
    if not (has_documents or found.outputs or found.unreadable or harnesses.untried):
        complain(_nothing_found(paths, found, options))
        return 1
    _print_both(report, harnesses, options)
    needs_somebody = report.spooled_for is not None and report.spooled_for.is_lasting
    is_complete = harnesses.complete and (report.complete or not has_documents)
    return 0 if is_complete and (has_documents or found.outputs) and not needs_somebody else 1


def _nothing_found(paths: list[Path], found: Found, options: PushOptions) -> str:
    where = shortened([*map(str, paths)])
    if only := options.parameters.get("format"):
        beside = f" ({count(len(found.others), 'other file')})" if found.others else ""
        return f"no output of {FORMATS[only].title} in {where}{beside}; without --format everything is looked for"
    harnesses = f" and no harness's output ({', '.join(form.title for form in FORMATS.values())})"
    return f"no documents in {where}{harnesses if options.recognise else ''}; a document is in {EXPECTED}"


async def _push(
    paths: list[Path], found: Found, report: PushReport, harnesses: HarnessReport, options: PushOptions
) -> None:
    without = _left_out(paths, found, harnesses, options)
    has_documents = any(isinstance(file, Path) for file in find_files(paths, without))
    kinds = [kind for kind, is_there in (("outputs", found.outputs), ("documents", has_documents)) if is_there]
    with progress_bar(" and ".join(kinds)) as bar:
        size = None if bar.disable else bytes_under(paths, without) + sum(output.bytes for output in found.outputs)
        task = bar.add_task("pushing", total=size, done=0)
        waits = Waits(bar.console, options.patience_s)
        read_of: dict[str, int] = {}

        def read(output: FoundOutput, so_far: int) -> None:
            step = "importing" if so_far >= output.bytes else "pushing"
            bar.update(task, advance=so_far - read_of.get(output.place, 0), description=step)
            read_of[output.place] = so_far

        def imported(output: FoundOutput) -> None:
            waits.end()
            bar.update(task, advance=output.bytes - read_of.pop(output.place, 0), done=harnesses.answered)

        def advance(document: Document) -> None:
            if report.away is None:
                waits.end()
            bar.update(task, advance=document.file_bytes, done=report.documents + harnesses.answered)

        retries = Retries(patience_s=options.patience_s)
        async with AsyncScorehouse(options.url, retries=retries, on_wait=waits.tell) as house:
            if options.spool is not None:
                report.away = report.spooled_for = await flush_first(house, options.spool)
            if found.outputs and report.away is None:
                pushing = push_outputs(
                    house,
                    found.outputs,
                    harnesses,
                    parameters=options.parameters,
                    jobs=options.jobs,
                    on_read=read,
                    on_done=imported,
                )
                try:
                    await pushing
                except ScorehouseError as error:
                    if options.spool is None:
                        raise
                    report.away = error
            if found.outputs and report.away is not None:
                harnesses.unsent_for = report.away
                harnesses.unsent = len(found.outputs) - harnesses.answered - len(harnesses.failures)
                harnesses.under_way = 0
            if options.dry_run:
                for file in find_files(paths, without):
                    if isinstance(file, Path):
                        harnesses.untried += 1
                    else:
                        report.unreadable.append(Refusal(file.place, (file.reason,)))
                return
            await push_documents(
                house,
                documents_under(paths, without),
                report,
                kind=options.kind,
                jobs=options.jobs,
                spool=options.spool,
                on_done=advance,
            )
            if report.spooled and report.spooled_for is None:
                report.spooled_for = report.away


def _left_out(paths: list[Path], found: Found, harnesses: HarnessReport, options: PushOptions) -> set[Path]:
    """The files that are not pushed as documents, resolved: outputs, and what lies beside outputs."""
    if only := options.parameters.get("format"):
        harnesses.others_are = f"for --format {only} was asked for alone"
    named = {path.resolve() for path in paths}
    without = {file.location.resolve() for output in found.outputs for file in output.files}
    without |= {Path(item.place).resolve() for item in found.unreadable}
    if options.report_file is not None:
        without.add(options.report_file.resolve())
    for file in found.others:
        place = file.location.resolve()
        # Beside harnesses' output lie files that are nobody's documents, such as configurations.
        is_passed_by = found.outputs and place not in named and place not in without and not is_document(file)
        if is_passed_by or only:
            without.add(place)
            harnesses.others.append(str(file.location))
    return without


def _print_both(report: PushReport, harnesses: HarnessReport, options: PushOptions) -> None:
    print_harness_report(out(), harnesses, dry_run=options.dry_run)
    if harnesses.unsent:
        complain(
            f"{count(harnesses.unsent, 'output')} of harnesses not sent: {harnesses.unsent_for}\n"
            "the spool keeps documents only, so these stay where they are: push them again when the service answers, "
            "or let 'scorehouse watch DIR' do it"
        )
    if report.documents or report.unreadable:
        print_report(report)


def _unanswered(report: PushReport, harnesses: HarnessReport) -> str:
    under_way = [
        count(number, what)
        for number, what in ((harnesses.under_way, "output"), (report.under_way, "document"))
        if number > 0
    ]
    return f" ({' and '.join(under_way)} sent without an answer)" if under_way else ""


def print_report(report: PushReport) -> None:
    """Print the summary: what was refused and why, warnings once each, what waits, counts last."""
    console = out()
    for refusal in report.refused:
        _print_refusal(console, "refused", refusal)
    for refusal in report.unreadable:
        _print_refusal(console, "unreadable", refusal)
    for warning, times in report.warnings.most_common():
        say(console, f"warning ({count(times, 'document')}): {warning}", "yellow")
    counts = f"{report.stored} stored, {report.unchanged} unchanged, {len(report.refused)} refused"
    if report.spooled:
        counts += f", {report.spooled} spooled"
        verb = "waits" if report.spooled == 1 else "wait"
        complain(
            f"{count(report.spooled, 'document')} {verb} in the spool, for: {report.spooled_for}\n"
            "the next 'push --spool' begins with what waits; 'scorehouse spool flush' sends it now"
        )
    if report.unreadable:
        counts += f", {count(len(report.unreadable), 'file')} not read"
    good = report.complete and not report.spooled
    say(console, f"{counts}; {count(report.questions, 'answer')}", "green" if good else "bold")


def _print_refusal(console: Console, verb: str, refusal: Refusal) -> None:
    say(console, f"{verb} {refusal.place}", "red")
    for reason in refusal.reasons:
        say(console, f"    {reason}")

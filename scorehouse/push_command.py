"""`scorehouse push`: the progress bar, the summary and the exit code."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import EXPECTED, Document
from scorehouse.push import PushReport, Refusal, bytes_under, documents_under, push_documents
from scorehouse.retries import Retries
from scorehouse.spool import Spool, SpoolError
from scorehouse.spool_command import flush_first
from scorehouse.terminal import INTERRUPTED, Waits, complain, count, out, progress_bar, say
from shared.results import ResultKind


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What the user chose."""

    url: str | None
    kind: ResultKind
    jobs: int
    patience_s: float
    spool: Spool | None = None


def run_push(paths: list[Path], options: PushOptions) -> int:
    """Push everything under `paths`, print what became of it; the exit code.

    What went into the spool is safe and not lost, so it is no failure: a runner goes on, and a warning says how many
    documents wait. It is one where waiting cannot help: a key that is not allowed this, an address that is not ours.
    """
    report = PushReport()
    try:
        asyncio.run(_push(paths, report, options))
    except KeyboardInterrupt:
        print_report(report)
        complain(f"interrupted{_unanswered(report)}; push again to go on, what is stored answers 'unchanged'")
        return INTERRUPTED
    except ScorehouseError as error:
        if report.documents or report.unreadable:
            print_report(report)
        rest = "; the rest is neither stored nor kept: push again when that is mended"
        complain(
            f"{error}{_unanswered(report) if report.documents else ''}{rest if isinstance(error, SpoolError) else ''}"
        )
        return 1
    if not report.documents and not report.unreadable:
        complain(f"no documents in {', '.join(map(str, paths))}; looked for {EXPECTED}")
        return 1
    print_report(report)
    needs_somebody = report.spooled_for is not None and report.spooled_for.is_lasting
    return 0 if report.complete and not needs_somebody else 1


async def _push(paths: list[Path], report: PushReport, options: PushOptions) -> None:
    with progress_bar() as bar:
        task = bar.add_task("pushing", total=None if bar.disable else bytes_under(paths), done=0)
        waits = Waits(bar.console, options.patience_s)

        def advance(document: Document) -> None:
            if report.away is None:
                waits.end()
            bar.update(task, advance=document.file_bytes, done=report.documents)

        retries = Retries(patience_s=options.patience_s)
        async with AsyncScorehouse(options.url, retries=retries, on_wait=waits.tell) as house:
            if options.spool is not None:
                report.away = report.spooled_for = await flush_first(house, options.spool)
            await push_documents(
                house,
                documents_under(paths),
                report,
                kind=options.kind,
                jobs=options.jobs,
                spool=options.spool,
                on_done=advance,
            )


def _unanswered(report: PushReport) -> str:
    if not report.under_way:
        return ""
    return f" ({count(report.under_way, 'document')} sent without an answer)"


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

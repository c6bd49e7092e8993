"""`scorehouse push`: the progress bar, the summary and the exit code."""

import asyncio
from pathlib import Path

from rich.console import Console

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import EXPECTED, Document
from scorehouse.push import PushReport, Refusal, bytes_under, documents_under, push_documents
from scorehouse.terminal import complain, out, progress_bar, say
from shared.results import ResultKind

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run_push(paths: list[Path], *, url: str | None, kind: ResultKind, jobs: int) -> int:
    """Push everything under `paths`, print what became of it; the exit code."""
    report = PushReport()
    try:
        asyncio.run(_push(paths, report, url=url, kind=kind, jobs=jobs))
    except KeyboardInterrupt:
        print_report(report)
        complain(f"interrupted{_unanswered(report)}; push again to go on, what is stored answers 'unchanged'")
        return INTERRUPTED
    except ScorehouseError as error:
        if report.documents or report.unreadable:
            print_report(report)
        complain(f"{error}{_unanswered(report) if report.documents else ''}")
        return 1
    if not report.documents and not report.unreadable:
        complain(f"no documents in {', '.join(map(str, paths))}; looked for {EXPECTED}")
        return 1
    print_report(report)
    return 0 if report.complete else 1


async def _push(paths: list[Path], report: PushReport, *, url: str | None, kind: ResultKind, jobs: int) -> None:
    with progress_bar() as bar:
        task = bar.add_task("pushing", total=None if bar.disable else bytes_under(paths), done=0)

        def advance(document: Document) -> None:
            bar.update(task, advance=document.file_bytes, done=report.documents)

        async with AsyncScorehouse(url) as house:
            await push_documents(house, documents_under(paths), report, kind=kind, jobs=jobs, on_done=advance)


def _unanswered(report: PushReport) -> str:
    if not report.under_way:
        return ""
    return f" ({_count(report.under_way, 'document')} sent without an answer)"


def print_report(report: PushReport) -> None:
    """Print the summary: what was refused and why, warnings once each, counts last."""
    console = out()
    for refusal in report.refused:
        _print_refusal(console, "refused", refusal)
    for refusal in report.unreadable:
        _print_refusal(console, "unreadable", refusal)
    for warning, times in report.warnings.most_common():
        say(console, f"warning ({_count(times, 'document')}): {warning}", "yellow")
    counts = f"{report.stored} stored, {report.unchanged} unchanged, {len(report.refused)} refused"
    if report.unreadable:
        counts += f", {_count(len(report.unreadable), 'file')} not read"
    say(console, f"{counts}; {_count(report.questions, 'answer')}", "green" if report.complete else "bold")


def _print_refusal(console: Console, verb: str, refusal: Refusal) -> None:
    say(console, f"{verb} {refusal.place}", "red")
    for reason in refusal.reasons:
        say(console, f"    {reason}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

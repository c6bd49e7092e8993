"""`scorehouse export`: the progress bar, the summary and the exit code."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from scorehouse.calls import ListFilters, ScorehouseError
from scorehouse.export import (
    EveryEvalEverWriter,
    ExportFormat,
    ExportReport,
    ParquetWriter,
    StateChoice,
    Writer,
    export_results,
    open_ndjson,
)
from scorehouse.result_download import ResultDownloads
from scorehouse.retries import Retries
from scorehouse.terminal import INTERRUPTED, Waits, complain, count, out, progress_bar, say
from shared.results import ResultKind, ResultSummary


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the user chose."""

    format: ExportFormat
    out: Path
    url: str | None
    kind: ResultKind
    filters: ListFilters
    state: StateChoice
    patience_s: float


class _Nothing(Exception):
    """No result passes the filters."""


def run_export(options: ExportOptions) -> int:
    """Write the results, print what became of them; the exit code."""
    report = ExportReport()
    try:
        with _writer(options) as writer:
            asyncio.run(_export(options, writer, report))
    except KeyboardInterrupt:
        _print(report, options)
        complain(f"interrupted; {_rest(options)}")
        return INTERRUPTED
    except _Nothing:
        left_out = f" ({_left_out(report)})" if report.left_out else ""
        complain(
            f"no result passes the filters, so nothing is written{left_out}; 'scorehouse export --help' lists them"
        )
        return 1
    except (ScorehouseError, OSError) as error:
        _print(report, options)
        complain(f"{error}; {_rest(options)}")
        return 1
    _print(report, options)
    return 1 if report.refused else 0


@contextmanager
def _writer(options: ExportOptions) -> Iterator[Writer]:
    """The writer of a format. OSError where its files cannot be written there, or not at all."""
    match options.format:
        case ExportFormat.NDJSON:
            if options.out.is_dir():
                raise IsADirectoryError(
                    f"{options.out} is a folder; ndjson is one file, such as {options.out}/all.ndjson"
                )
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with open_ndjson(options.out) as writer:
                yield writer
        case ExportFormat.EVERY_EVAL_EVER:
            yield EveryEvalEverWriter(_folder(options))
        case ExportFormat.PARQUET:
            if find_spec("pyarrow") is None:
                raise OSError("Parquet is written with pyarrow: pip install 'scorehouse[parquet]'")
            yield ParquetWriter(_folder(options))


def _folder(options: ExportOptions) -> Path:
    if options.out.exists() and not options.out.is_dir():
        raise NotADirectoryError(f"{options.out} is a file; {options.format} is a folder of files")
    return options.out


async def _export(options: ExportOptions, writer: Writer, report: ExportReport) -> None:
    with progress_bar() as bar:
        task = bar.add_task("exporting", total=None, done=0)
        waits = Waits(bar.console, options.patience_s)

        def advance(_result: ResultSummary) -> None:
            waits.end()
            bar.update(task, done=report.results)

        retries = Retries(patience_s=options.patience_s)
        async with ResultDownloads(options.url, retries=retries, on_wait=waits.tell) as house:
            await export_results(
                house, writer, report, kind=options.kind, filters=options.filters, state=options.state, on_done=advance
            )
    if not report.results:
        raise _Nothing  # so that no file is left without a document in it


def _rest(options: ExportOptions) -> str:
    """What to do after an export that ended early."""
    if options.format is ExportFormat.NDJSON:
        return f"{options.out} is not written; export again"
    return "export again to go on: what is written is whole, and is not fetched again"


def _left_out(report: ExportReport) -> str:
    return f"{count(report.left_out, 'result')} left out by --state, 'all' takes them too"


def _print(report: ExportReport, options: ExportOptions) -> None:
    """Print what could not be written, then the counts."""
    console = out()
    for name, reason in report.refused:
        say(console, f"not written {name}", "red")
        say(console, f"    {reason}")
    if not report.results:
        return
    counts = f"{report.written:,} written, {report.kept:,} there already"
    if report.refused:
        counts += f", {len(report.refused):,} not written"
    if report.left_out:
        counts += f", {_left_out(report)}"
    say(console, f"{counts}; {count(report.answers, 'answer')}", "bold" if report.refused else "green")
    if not report.refused:
        say(console, f"{options.format} in {options.out}; {_way_back(options)}")
    if options.kind is ResultKind.RAW:
        say(console, "files that are kept with raw inputs are not in it", "yellow")


def _way_back(options: ExportOptions) -> str:
    raw = " --raw" if options.kind is ResultKind.RAW else ""
    return f"'scorehouse push{raw}' takes it back and changes nothing by that"

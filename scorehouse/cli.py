"""The `scorehouse` command. What each subcommand does is in its own module."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from scorehouse.calls import RESULTS_URL, ListFilters, ScorehouseError
from scorehouse.check_command import CheckOptions, run_check
from scorehouse.compare_command import compare
from scorehouse.corrections_command import run_correction
from scorehouse.export import ExportFormat, StateChoice
from scorehouse.export_command import ExportOptions, run_export
from scorehouse.gate_command import EXIT_CODES as GATE_CODES
from scorehouse.gate_command import gate
from scorehouse.keys_command import keys_app
from scorehouse.lm_eval_command import LmEvalOptions, run_lm_eval
from scorehouse.options import PATIENCE_S, AnalysisUrl, Patience
from scorehouse.push_command import PushOptions, run_push
from scorehouse.rebuild_command import RebuildOptions, run_rebuild
from scorehouse.registry_command import registry_app
from scorehouse.spool import Spool
from scorehouse.spool_command import run_flush, run_list, spool_for
from scorehouse.terminal import EXIT_CODES, complain, out, say
from scorehouse.watch_command import WatchOptions, run_watch
from shared.formats.known import FORMATS
from shared.results import CorrectionAction, ResultKind
from shared.version import VERSION

app = typer.Typer(
    name="scorehouse",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Url = Annotated[
    str | None, typer.Option(envvar="SCOREHOUSE_RESULTS_URL", help=f"The results service; else {RESULTS_URL}.")
]
Raw = Annotated[bool, typer.Option("--raw", help="Raw inputs, not standardized results.")]
SpoolDir = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="The spool's folder; else one of your own for each service."),
]
ResultName = Annotated[str, typer.Argument(metavar="NAME", help="The result's name: timestamp-benchmark_name-run_id.")]
Reason = Annotated[str, typer.Option(help="Why; kept for ever.")]
Author = Annotated[str | None, typer.Option(help="Who says so; else your login name.", show_default=False)]


def _check_format(name: str | None) -> str | None:
    if name is not None and name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}")
    return name


FormatName = Annotated[
    str | None,
    typer.Option("--format", help=f"Look for this alone: {', '.join(FORMATS)}.", callback=_check_format),
]
ModelId = Annotated[str | None, typer.Option(help="The model, for files that do not name it or name it wrongly.")]
RunTime = Annotated[str | None, typer.Option(help="When it ran, for files that do not say: 2024-01-01T12:00:00Z.")]
Metric = Annotated[str | None, typer.Option(help="The metric to take as the score, not the task's first.")]
FilterName = Annotated[str | None, typer.Option("--filter", help="The filter (lm-eval) whose answers to take.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        say(out(), f"scorehouse {VERSION}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES + ", 130 interrupted.")
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep LLM benchmark results, and ask questions of them.

    [bold]Start here[/bold]

      scorehouse up --demo       both services here, with a synthetic sample
      scorehouse push results/   store your own results
      scorehouse push --help     what files of results look like
      scorehouse compare --help  which model is better, and which are tied

    For services that run elsewhere set SCOREHOUSE_RESULTS_URL,
    SCOREHOUSE_ANALYSIS_URL and SCOREHOUSE_API_KEY.
    """


def _named_path(text: str) -> Path:
    if not text:  # pathlib would read it as the folder one is in
        raise typer.BadParameter("a path is empty; is a variable of your shell not set?")
    return Path(text)


@app.command(
    epilog="Exit codes: 0 all is stored or, with --spool, safe on the disk; 1 something is not (it is said what); "
    "2 the command line is wrong; 130 interrupted."
)
def push(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Files, or folders of them.", show_default=False, parser=_named_path),
    ],
    url: Url = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Uploads at once.")] = 4,
    raw: Raw = False,
    patience: Patience = PATIENCE_S,
    spool: Annotated[
        bool, typer.Option("--spool", help="Keep on the disk what the service cannot take now; first send what waits.")
    ] = False,
    spool_dir: SpoolDir = None,
    format_: FormatName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what an import would take and lose.")] = False,
    model: ModelId = None,
    timestamp: RunTime = None,
    metric: Metric = None,
    filter_: FilterName = None,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write what was taken and lost here, as JSON.")
    ] = None,
) -> None:
    """Store results: what harnesses wrote, as it is, and documents of Scorehouse's own form.

    What harnesses wrote is recognised by its content:

      scorehouse push outputs/                    whatever harnesses are in it
      scorehouse push outputs/ --dry-run          only tell what would be taken
      scorehouse push log.eval results.zip --report report.json

    lm-evaluation-harness, Inspect, HELM, OpenCompass, EvalScope, lighteval,
    simple-evals and Every Eval Ever. Their files are kept unchanged, their
    samples become answers, and it is told what had no place and whether the
    stated scores come out of the samples.

    Documents are [bold].json[/bold] (one, or an array of them), [bold].ndjson[/bold] or
    [bold].jsonl[/bold] (one a line), or one of these with [bold].gz[/bold]. In folders, other
    files and hidden ones are passed by. --raw takes any JSON as it is.

      scorehouse push run.json
      scorehouse push results/ more/aime.ndjson.gz --jobs 8
      scorehouse push nightly.jsonl --url https://results.example.org
      scorehouse push --spool run.json      never lost, never fails a runner

    A document has run_id, benchmark_name, timestamp, model_id, source and
    data, which holds the questions. It is sent as it stands in the file.
    Pushing it again is safe: it answers 'unchanged'.

    A service that restarts is waited for. With --spool (or --spool-dir)
    what it cannot take is copied to the disk, and that is exit code 0 with
    a warning. See [bold]scorehouse spool --help[/bold].

    An API key is read from SCOREHOUSE_API_KEY.
    """
    kind = ResultKind.RAW if raw else ResultKind.STANDARDIZED
    chosen = _spool(url, spool_dir) if spool or spool_dir else None
    parameters = {
        "format": format_,
        "dry_run": "true" if dry_run else None,
        "model_id": model,
        "timestamp": timestamp,
        "metric": metric,
        "filter": filter_,
    }
    told = {name: value for name, value in parameters.items() if value is not None}
    options = PushOptions(url, kind, jobs, patience, chosen, recognise=not raw, parameters=told, report_file=report)
    raise typer.Exit(run_push(paths, options))


@app.command(epilog=EXIT_CODES + ".")
def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, show_default=False)],
    url: Url = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds from look to look.")] = 2,
    settle: Annotated[float, typer.Option(min=0, help="Seconds for which a finished output has not changed.")] = 10,
    abandoned: Annotated[
        float, typer.Option(min=0, help="The same for a run that is not whole; then it is pushed as it is.")
    ] = 600,
    once: Annotated[bool, typer.Option("--once", help="Push what is there now, and end.")] = False,
) -> None:
    """Push what harnesses write into a folder, as it appears, until stopped.

      scorehouse watch outputs/
      scorehouse watch outputs/ --once     from a scheduler

    An output is pushed when its files have not changed for a while, and again
    when they change. What was pushed is remembered, so that a restart goes on
    where it was; a service that is away is waited for. Documents of
    Scorehouse's own form are pushed too.
    """
    raise typer.Exit(run_watch(folder, WatchOptions(url, every, settle, abandoned, once)))


@app.command(
    "lm-eval",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog="Exit codes: those of lm_eval, 1 if what it wrote is neither stored nor kept; 2 the command line is wrong.",
)
def lm_eval(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ARGUMENTS…", help="What 'lm_eval' is called with.", show_default=False),
    ] = None,
    url: Url = None,
    spool_dir: SpoolDir = None,
    patience: Patience = PATIENCE_S,
) -> None:
    """Run lm-evaluation-harness, and push what it measured when it is done.

      scorehouse lm-eval -- run --model hf --model_args pretrained=gpt2 \\
          --tasks mmlu

    Samples are asked for, and a folder to write them to, where the
    arguments do not do so. They are shown as a run that is still going on
    while they are sent; then the files are imported as they are, and it is
    told what had no place. While the service is away they wait on the disk.
    See [bold]scorehouse spool --help[/bold].

    The harness is the one that is installed beside this command.
    """
    options = LmEvalOptions(url, _spool(url, spool_dir), patience)
    raise typer.Exit(run_lm_eval(arguments or [], options))


def _spool(url: str | None, folder: Path | None) -> Spool:
    try:
        return spool_for(url, folder)
    except ScorehouseError as error:
        complain(str(error))
        raise typer.Exit(1) from None


spool_app = typer.Typer(
    name="spool",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Documents that 'scorehouse push --spool' keeps on the disk while the service is away.",
    epilog=EXIT_CODES + ", 130 interrupted.",
)
app.add_typer(spool_app)


@spool_app.command("list", epilog=EXIT_CODES + ".")
def spool_list(url: Url = None, spool_dir: SpoolDir = None) -> None:
    """Show what waits, and what the service refused.

    Nothing is sent. A document leaves the spool when the service has it;
    'scorehouse spool flush' sends what waits.

      scorehouse spool list
      scorehouse spool list --spool-dir ~/run-7/spool
    """
    raise typer.Exit(run_list(_spool(url, spool_dir)))


@spool_app.command(
    "flush",
    epilog="Exit codes: 0 nothing waits and nothing was refused, 1 something is left, "
    "2 the command line is wrong, 130 interrupted.",
)
def spool_flush(url: Url = None, spool_dir: SpoolDir = None, patience: Patience = PATIENCE_S) -> None:
    """Send what waits, oldest first; then what live runs left.

    What is stored leaves the spool; what is refused moves to 'rejected',
    with the service's answer beside it.

      scorehouse spool flush
      scorehouse spool flush --url https://results.example.org --patience 600
    """
    raise typer.Exit(run_flush(url, _spool(url, spool_dir), patience))


@app.command(epilog=EXIT_CODES + ", 130 interrupted.")
def invalidate(name: ResultName, reason: Reason, author: Author = None, raw: Raw = False, url: Url = None) -> None:
    """Say that a result does not count.

    It stays as it is, and leaves every analysis within a second. What was
    said is kept for ever; saying it twice changes nothing.

      scorehouse invalidate 2024-01-01T12:00:00Z-mmlu-run-7 --reason "bad key"

    An API key with the scope results:write is read from SCOREHOUSE_API_KEY.
    """
    kind = ResultKind.RAW if raw else ResultKind.STANDARDIZED
    raise typer.Exit(
        run_correction(CorrectionAction.INVALIDATED, name, author=author, reason=reason, kind=kind, url=url)
    )


@app.command(epilog=EXIT_CODES + ", 130 interrupted.")
def restore(name: ResultName, reason: Reason, author: Author = None, raw: Raw = False, url: Url = None) -> None:
    """Say that an invalidated result counts after all.

    It is back in the analysis within a second.

      scorehouse restore 2024-01-01T12:00:00Z-mmlu-run-7 --reason "key is fine"

    An API key with the scope results:write is read from SCOREHOUSE_API_KEY.
    """
    kind = ResultKind.RAW if raw else ResultKind.STANDARDIZED
    raise typer.Exit(run_correction(CorrectionAction.RESTORED, name, author=author, reason=reason, kind=kind, url=url))


@app.command(epilog=EXIT_CODES + ", 130 interrupted.")
def export(
    file_format: Annotated[
        ExportFormat, typer.Option("--format", help="What to write.", show_default=False, case_sensitive=False)
    ],
    out_path: Annotated[
        Path,
        typer.Option("--out", help="The file (ndjson) or folder to write.", show_default=False, parser=_named_path),
    ],
    benchmark: Annotated[str | None, typer.Option(help="Only of this benchmark.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model_id.", show_default=False)] = None,
    run: Annotated[str | None, typer.Option(help="Only with this run_id.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on: RFC 3339 with an offset.", show_default=False)
    ] = None,
    state: Annotated[StateChoice, typer.Option(help="By whether they count.")] = StateChoice.VALID,
    raw: Raw = False,
    url: Url = None,
    patience: Patience = PATIENCE_S,
) -> None:
    """Give stored results back as files that 'scorehouse push' takes again.

    [bold]ndjson[/bold]           the documents as they were pushed, one a line (.gz, .zst)
    [bold]every_eval_ever[/bold]  a folder of Every Eval Ever 0.3.0 files
    [bold]parquet[/bold]          a folder of files, one a result, one row an answer

      scorehouse export --format ndjson --out all.ndjson.gz
      scorehouse export --format parquet --out mmlu/ --benchmark mmlu
      scorehouse export --format every_eval_ever --out eee/ --model gpt-4o

    Pushing an export answers 'unchanged'. A file is whole or not there; a
    folder that was begun is gone on with. What was invalidated is left out.

    An API key with the scope results:read is read from SCOREHOUSE_API_KEY.
    """
    if raw and file_format is not ExportFormat.NDJSON:
        raise typer.BadParameter("raw inputs have no questions to be put in rows; use --format ndjson")
    kind = ResultKind.RAW if raw else ResultKind.STANDARDIZED
    filters = ListFilters(benchmark_name=benchmark, model_id=model, run_id=run, since=since)
    raise typer.Exit(run_export(ExportOptions(file_format, out_path, url, kind, filters, state, patience)))


app.command(epilog=EXIT_CODES + ", 130 interrupted.")(compare)
app.command(epilog=GATE_CODES)(gate)


@app.command(epilog=EXIT_CODES + ", 130 interrupted.")
def check(
    url: Url = None,
    analysis_url: AnalysisUrl = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs; without it nothing is written.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not make sums again from the answers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON, for programs.")] = False,
) -> None:
    """Compare both stores: each result in the feed once, each applied once.

    The results service compares its results with the feed, the analysis
    service the feed with what it has applied, and each run's sums with its
    answers. Nothing stops meanwhile.

      scorehouse check             exit code 1 if they differ
      scorehouse check --quick     the same without sums: seconds
      scorehouse check --repair    and mend it; results are never touched
      scorehouse check --json | jq .analysis.findings

    An API key with the scope admin is read from SCOREHOUSE_API_KEY.
    """
    raise typer.Exit(run_check(CheckOptions(url, analysis_url, repair, quick, as_json)))


@app.command(epilog=EXIT_CODES + ", 130 interrupted, which stops only the looking on.")
def rebuild(
    benchmark: Annotated[str | None, typer.Option(help="Only this benchmark's results.", show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Begin nothing; show what is being applied.")] = False,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait where nothing moves.")] = PATIENCE_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of it as JSON, for programs.")] = False,
    analysis_url: AnalysisUrl = None,
) -> None:
    """Apply every result anew: the analysis made again from the results.

    Each result is read from the results service and replaced in one step.
    Answers stay right meanwhile, and new results go on appearing. It goes on
    in the service, after a restart too, and this looks on until all is done.

      scorehouse rebuild                    everything
      scorehouse rebuild --benchmark mmlu
      scorehouse rebuild --watch            also how an empty SQL store fills

    Nothing of this is needed day by day: a new registry is taken in by
    itself, and 'scorehouse check' tells whether anything is wrong.

    An API key with the scope admin is read from SCOREHOUSE_API_KEY.
    """
    if watch and benchmark is not None:
        raise typer.BadParameter("--watch begins nothing, so there is no --benchmark to choose")
    raise typer.Exit(run_rebuild(RebuildOptions(analysis_url, benchmark, watch, patience, as_json)))


@app.command(epilog=EXIT_CODES + ". Ctrl-C and SIGTERM are the way to end it: 0.")
def up(
    data_dir: Annotated[Path, typer.Option(help="Where the results are kept.", file_okay=False)] = Path(
        "scorehouse-data"
    ),
    results_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the results service.")] = 8000,
    analysis_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the analysis service.")] = 8001,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Push a synthetic sample, show a first answer; without a terminal, end then."),
    ] = False,
) -> None:
    """Run both services on this machine, for this machine alone, until Ctrl-C.

    Starts a MongoDB of its own and keeps everything in one directory.
    API keys are disabled, and only 127.0.0.1 listens. If a part dies, the
    others are stopped and its last words are shown.

      scorehouse up
      scorehouse up --data-dir ~/scores --results-port 9000
      scorehouse up --demo
    """
    if sys.platform == "win32":
        complain("'up' needs Linux or macOS; on Windows run it in WSL")
        raise typer.Exit(1)
    missing = [name for name in ("uvicorn", "fastapi", "motor", "aiosqlite") if find_spec(name) is None]
    if missing:
        complain(f"'up' needs the services ({', '.join(missing)} missing); install: pip install 'scorehouse[local]'")
        raise typer.Exit(1)
    from scorehouse.up import UpOptions, run_up  # noqa: PLC0415 - the services' packages come with an extra

    raise typer.Exit(run_up(UpOptions(data_dir, results_port, analysis_port, demo)))


app.add_typer(keys_app, name="keys")
app.add_typer(registry_app, name="registry")

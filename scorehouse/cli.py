"""The `scorehouse` command. What each subcommand does is in its own module."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from scorehouse.calls import ANALYSIS_URL, RESULTS_URL, ScorehouseError
from scorehouse.check_command import run_check
from scorehouse.corrections_command import run_correction
from scorehouse.keys_command import keys_app
from scorehouse.push_command import PushOptions, run_push
from scorehouse.retries import Retries
from scorehouse.spool import Spool
from scorehouse.spool_command import run_flush, run_list, spool_for
from scorehouse.terminal import EXIT_CODES, complain, out, say
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
Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for a service that is away or busy.")]
SpoolDir = Annotated[
    Path | None,
    typer.Option(file_okay=False, help="The spool's folder; else one of your own for each service."),
]
ResultName = Annotated[str, typer.Argument(metavar="NAME", help="The result's name: timestamp-benchmark_name-run_id.")]
Reason = Annotated[str, typer.Option(help="Why; kept for ever.")]
Author = Annotated[str | None, typer.Option(help="Who says so; else your login name.", show_default=False)]
PATIENCE_S = Retries().patience_s


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

    For services that run elsewhere set SCOREHOUSE_RESULTS_URL and
    SCOREHOUSE_API_KEY.
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
) -> None:
    """Store results: standardized documents from files, or from all files in folders.

    A file is [bold].json[/bold] (one document, or an array of them), [bold].ndjson[/bold] or
    [bold].jsonl[/bold] (one document a line), or one of these with [bold].gz[/bold]. In folders,
    other files and hidden ones are passed by.

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
    raise typer.Exit(run_push(paths, PushOptions(url, kind, jobs, patience, chosen)))


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
    """Send what waits, oldest first.

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
def check(
    url: Url = None,
    analysis_url: Annotated[
        str | None,
        typer.Option(envvar="SCOREHOUSE_ANALYSIS_URL", help=f"The analysis service; else {ANALYSIS_URL}."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs; without it nothing is written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON, for programs.")] = False,
) -> None:
    """Compare both stores: each result in the feed once, each applied once.

    The results service compares its results with the feed, the analysis
    service the feed with what it has applied. Nothing stops meanwhile.

      scorehouse check             exit code 1 if they differ
      scorehouse check --repair    and mend it; results are never touched
      scorehouse check --json | jq .analysis.findings

    An API key with the scope admin is read from SCOREHOUSE_API_KEY.
    """
    raise typer.Exit(run_check(url, analysis_url, repair=repair, as_json=as_json))


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

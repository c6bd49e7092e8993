"""The `scorehouse` command. What each subcommand does is in its own module."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from scorehouse.calls import RESULTS_URL
from scorehouse.push_command import run_push
from scorehouse.terminal import complain, out, say
from shared.results import ResultKind
from shared.version import VERSION

app = typer.Typer(
    name="scorehouse",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EXIT_CODES = "Exit codes: 0 all went well, 1 something did not (it is said what), 2 the command line is wrong"


def _print_version(wanted: bool) -> None:
    if wanted:
        say(out(), f"scorehouse {VERSION}")
        raise typer.Exit


@app.callback(epilog=_EXIT_CODES + ", 130 interrupted.")
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


@app.command(epilog=_EXIT_CODES + ", 130 interrupted.")
def push(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Files, or folders of them.", show_default=False, parser=_named_path),
    ],
    url: Annotated[
        str | None,
        typer.Option(envvar="SCOREHOUSE_RESULTS_URL", help=f"The results service; else {RESULTS_URL}."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Uploads at once.")] = 4,
    raw: Annotated[bool, typer.Option("--raw", help="Push raw inputs, not standardized results.")] = False,
) -> None:
    """Store results: standardized documents from files, or from all files in folders.

    A file is [bold].json[/bold] (one document, or an array of them), [bold].ndjson[/bold] or
    [bold].jsonl[/bold] (one document a line), or one of these with [bold].gz[/bold]. In folders,
    other files and hidden ones are passed by.

      scorehouse push run.json
      scorehouse push results/ more/aime.ndjson.gz --jobs 8
      scorehouse push nightly.jsonl --url https://results.example.org

    A document has run_id, benchmark_name, timestamp, model_id, source and
    data, which holds the questions. It is sent as it stands in the file.
    Pushing it again is safe: it answers 'unchanged'.

    An API key is read from SCOREHOUSE_API_KEY.
    """
    kind = ResultKind.RAW if raw else ResultKind.STANDARDIZED
    raise typer.Exit(run_push(paths, url=url, kind=kind, jobs=jobs))


@app.command(epilog=_EXIT_CODES + ". Ctrl-C and SIGTERM are the way to end it: 0.")
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

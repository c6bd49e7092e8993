"""`scorehouse gate`: a verdict for CI, as lines and an exit code."""

import json
import os
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated

import typer

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.gate import ACCEPTABLE, Gate, GateCode, as_junit, as_markdown, warnings_of
from scorehouse.options import (
    PATIENCE_S,
    AnalysisUrl,
    AsJson,
    Benchmarks,
    ClusterBy,
    Confidence,
    HowCorrected,
    Patience,
)
from scorehouse.retries import Retries
from scorehouse.terminal import INTERRUPTED, Waits, complain, err, out, say
from shared.significance import Accepted
from shared.statistics import Correction, Verdict

LOOK_EVERY_S = 0.2
EXIT_CODES = (
    "Exit codes: 0 the gate is open; 1 something went wrong (it is said what), and there is no verdict; 2 the command "
    "line is wrong; 3 closed: worse, or known to be something else that is not accepted; 4 closed: inconclusive; "
    "130 interrupted."
)
_STYLES = {Verdict.BETTER: "green", Verdict.EQUIVALENT: "green", Verdict.WORSE: "red", Verdict.INCONCLUSIVE: "yellow"}


def _accepted(text: str) -> frozenset[Accepted]:
    words = {word.strip() for word in text.split(",")}
    for word in sorted(words - set(ACCEPTABLE)):
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(ACCEPTABLE)}", param_hint="--accept")
    return frozenset(known for known in ACCEPTABLE if known in words)


def gate(
    benchmarks: Benchmarks,
    candidate: Annotated[
        str | None, typer.Argument(metavar="CANDIDATE", help="A model, by id or alias.", show_default=False)
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model that it is held against.", show_default=False)
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of CANDIDATE: a result.", show_default=False)
    ] = None,
    baseline_run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of --baseline: a result.", show_default=False)
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="Differences up to this do not matter.")] = 0.01,
    accept: Annotated[
        str, typer.Option(help=f"What opens the gate, with commas between: {', '.join(ACCEPTABLE)}.", metavar="WORDS")
    ] = "better,equivalent",
    cluster_by: ClusterBy = None,
    correction: HowCorrected = Correction.HOLM,
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
    junit: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write a JUnit report there too.", show_default=False)
    ] = None,
    analysis_url: AnalysisUrl = None,
    patience: Patience = PATIENCE_S,
) -> None:
    """Let a candidate pass if it is not worse than a baseline; for CI.

    On each benchmark both are compared on the questions that they share,
    and the exit code tells whether the candidate may pass on all of them:

      scorehouse gate my-model-v2 --baseline my-model-v1 --benchmark mmlu
      scorehouse gate my-model-v2 --baseline my-model-v1 --benchmark mmlu \\
          --benchmark math500 --margin 0.02 --accept not-worse
      scorehouse gate --run NAME --baseline-run NAME --benchmark mmlu

    [bold]better[/bold]        a difference in its favour, more than chance makes
    [bold]worse[/bold]         a difference against it, more than chance makes
    [bold]equivalent[/bold]    neither, and shown to differ by less than --margin
    [bold]inconclusive[/bold]  none of these: too few questions to tell
    [bold]not-worse[/bold]     shown to be less than --margin below, if at all

    What was pushed before is waited for until the analysis has it. In a
    job of GitHub Actions the table goes into the job's summary as well.

    An API key with the scope analysis:read is read from SCOREHOUSE_API_KEY.
    """
    accepted = _accepted(accept)
    tested = _contender(candidate, run, "CANDIDATE", "--run")
    held_against = _contender(baseline, baseline_run, "--baseline", "--baseline-run")
    waits = Waits(err(), patience)
    try:
        with Scorehouse(None, analysis_url, retries=Retries(patience_s=patience), on_wait=waits.tell) as house:
            _wait_until_applied(house, patience)
            answer = house.significance(
                benchmarks=benchmarks,
                candidate=tested,
                baseline=held_against,
                margin=margin,
                cluster_by=cluster_by,
                correction=correction,
                confidence=confidence,
            )
        judged = Gate(answer, accepted)
        _tell(judged, title=f"{candidate or run} against {baseline or baseline_run}", as_json=as_json, junit=junit)
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except ScorehouseError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(judged.code)


def _contender(model: str | None, run: str | None, model_name: str, run_name: str) -> dict[str, str]:
    match model, run:
        case str(), None:
            return {"model": model}
        case None, str():
            return {"run": run}
        case _:
            raise typer.BadParameter(f"give either {model_name} or {run_name}")


def _wait_until_applied(house: Scorehouse, patience_s: float) -> None:
    """Return when the analysis has what was stored before: a job pushes first, and is not judged by an older run."""
    began, head = monotonic(), None
    while True:
        feed = house.analysis_health().feed
        if feed.position is None or feed.lag is None:
            say(err(), "the analysis cannot reach the results service: what was pushed last may be missing", "yellow")
            return
        if head is None:
            head = feed.position + feed.lag
            if feed.lag:
                say(err(), f"waiting until the analysis has applied what was pushed ({feed.lag:,} to go) …")
        if feed.position >= head:
            return
        if monotonic() - began >= patience_s:
            why = feed.stopped or "wait longer with --patience"
            raise ScorehouseError(f"the analysis has not applied what was pushed, so there is no verdict yet ({why})")
        sleep(LOOK_EVERY_S)


def _tell(judged: Gate, *, title: str, as_json: bool, junit: Path | None) -> None:
    """Print the verdicts and write the reports; ScorehouseError if the one that was asked for cannot be written."""
    if as_json:
        document = {
            "open": judged.code is GateCode.OPEN,
            "exit_code": judged.code,
            "accepted": sorted(judged.accepted),
            "refused": [verdict.benchmark for verdict in judged.refused],
            "significance": judged.answer.model_dump(mode="json"),
        }
        say(out(), json.dumps(document, ensure_ascii=False, indent=2))
    else:
        print_gate(judged)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as stream:
                stream.write(as_markdown(judged, title))
        except OSError as error:  # the verdict stands
            complain(f"the summary {summary} cannot be written: {error.strerror or error}")
    if junit is not None:
        try:
            junit.write_bytes(as_junit(judged, title))
        except OSError as error:
            raise ScorehouseError(f"the report {junit} cannot be written: {error.strerror or error}") from None


def print_gate(judged: Gate) -> None:
    """Print a line a benchmark, what to do where it is refused, warnings, and whether the gate is open."""
    console = out()
    for verdict in judged.answer.verdicts:
        say(console, f"{verdict.verdict:<12}  {verdict.sentence}", _STYLES[verdict.verdict])
        if hint := judged.hint(verdict):
            say(console, f"{'':<12}  {hint}")
    for warning in warnings_of(judged.answer):
        say(console, f"warning: {warning}", "yellow")
    say(console, judged.sentence, "bold green" if judged.code is GateCode.OPEN else "bold red")

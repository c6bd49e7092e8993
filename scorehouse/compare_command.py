"""`scorehouse compare`: which model is better, question by question."""

from typing import Annotated

import typer

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.comparison_tables import print_comparison
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
from shared.statistics import Correction


def compare(
    names: Annotated[list[str], typer.Argument(metavar="MODEL", help="Models by id or alias.", show_default=False)],
    benchmarks: Benchmarks,
    runs: Annotated[bool, typer.Option("--runs", help="What is named are results, not models.")] = False,
    cluster_by: ClusterBy = None,
    correction: HowCorrected = Correction.HOLM,
    confidence: Confidence = 0.95,
    contested: Annotated[int, typer.Option(min=0, max=200, help="Show so many of the contested questions.")] = 0,
    as_json: AsJson = False,
    analysis_url: AnalysisUrl = None,
    patience: Patience = PATIENCE_S,
) -> None:
    """Compare models question by question, and tell which are tied.

    Each pair is compared on the questions that both were asked: the
    difference with its interval, a p-value that allows for the number of
    pairs, and how many questions each of them wins. Ranks are told with the
    ranks that are not ruled out.

      scorehouse compare gpt-4o claude-3.5-sonnet --benchmark mmlu-redux
      scorehouse compare gpt-4 gpt-4o phi-4 --benchmark mmlu \\
          --benchmark math500 --contested 10
      scorehouse compare --runs NAME NAME --benchmark mmlu
      scorehouse compare a b --benchmark mmlu --json | jq .pairs

    Of a model it is the latest run that counts. [bold]--cluster-by[/bold] is for
    questions that belong together, such as those about one text.

    An API key with the scope analysis:read is read from SCOREHOUSE_API_KEY.
    """
    if len(names) < 2:
        raise typer.BadParameter("to compare takes two at least", param_hint="MODEL")
    waits = Waits(err(), patience)
    try:
        with Scorehouse(None, analysis_url, retries=Retries(patience_s=patience), on_wait=waits.tell) as house:
            answer = house.compare(
                benchmarks=benchmarks,
                **{"runs" if runs else "models": names},
                cluster_by=cluster_by,
                correction=correction,
                confidence=confidence,
                contested=contested,
            )
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except ScorehouseError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    if as_json:
        say(out(), answer.model_dump_json(indent=2))
    else:
        print_comparison(answer)

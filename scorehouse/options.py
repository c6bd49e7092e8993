"""Options that several commands have."""

from typing import Annotated

import typer

from scorehouse.calls import ANALYSIS_URL
from scorehouse.retries import Retries
from shared.statistics import Correction

AnalysisUrl = Annotated[
    str | None,
    typer.Option(envvar="SCOREHOUSE_ANALYSIS_URL", help=f"The analysis service; else {ANALYSIS_URL}."),
]
Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for a service that is away or busy.")]
PATIENCE_S = Retries().patience_s

Benchmarks = Annotated[
    list[str], typer.Option("--benchmark", help="On this benchmark; give it again for more.", show_default=False)
]
ClusterBy = Annotated[
    str | None,
    typer.Option(help="A metadata field whose questions are not independent.", metavar="FIELD", show_default=False),
]
Confidence = Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of intervals; 1 − the level of tests.")]
HowCorrected = Annotated[
    Correction, typer.Option("--correction", help="How p-values allow for the number of tests.", case_sensitive=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for programs.")]

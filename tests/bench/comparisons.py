"""How long it takes to compare two models question by question, and that the counts are right."""

import json
import statistics
import sys

import numpy as np

from tests.bench.figures import Figure, limited
from tests.bench.group_bys import Asker
from tests.bench.latency import in_turns, timed
from tests.bench.mmlu import BENCHMARK, MadeUpRun
from tests.bench.servers import Service

P95_LIMIT_MS = 100.0


def measure_comparison(analysis: Service, one: MadeUpRun, other: MadeUpRun, *, calls: int) -> Figure:
    """POST /comparison of the models of two runs that are their latest, to a service that keeps no answers."""
    asker = Asker(analysis.port, "/comparison")
    request = {"benchmark": BENCHMARK, "models": [one.model, other.model]}
    _check(asker.ask_well(request), one, other)
    times = in_turns(calls, {"two": timed(lambda: asker.ask_well(request))})["two"]
    p50_ms, p95_ms = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    what = f"/comparison of two models on {len(one.asked):,} questions, p95 of {calls} (p50 {p50_ms:.1f} ms)"
    return limited(what, p95_ms, P95_LIMIT_MS, "ms")


def _check(answer: bytes, one: MadeUpRun, other: MadeUpRun) -> None:
    """End the bench unless wins, losses and ties are those of the runs."""
    [pair] = json.loads(answer)["pairs"]
    found = [pair["wins"], pair["losses"], pair["ties"]]
    differences = one.scores - other.scores  # NaN where either has none
    wanted = [int(np.sum(is_so)) for is_so in (differences > 0, differences < 0, differences == 0)]
    if found != wanted:
        sys.exit(f"comparison of {one.model} and {other.model}: {found}, and the runs have {wanted}")

"""How soon an acknowledged run is in the answers, while others read."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.bench.group_bys import Asker
from tests.bench.mmlu import BENCHMARK, MadeUpMmlu, MadeUpRun, Numbers
from tests.bench.servers import Service

LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Visible:
    """Milliseconds of each push until it was acknowledged, and from then until it was in an answer."""

    acknowledged_ms: Sequence[float]
    visible_ms: Sequence[float]


def measure_visible(
    results: Service, analysis: Service, mmlu: MadeUpMmlu, asked: Numbers, numbers: Sequence[int]
) -> Visible:
    """Push runs of these numbers, one after the other, and ask for each until it is there, whole."""
    asker = Asker(analysis.port)
    acknowledged, visible = [], []
    with httpx.Client(base_url=results.url, timeout=60) as client:
        for number in numbers:
            run = mmlu.run(number, asked, prefix=f"visible-{len(asked)}")
            began = time.perf_counter()
            answer = client.post("/standardized_output", content=run.document)
            stored = time.perf_counter()
            if answer.status_code != 201:
                sys.exit(f"a push was answered {answer.status_code}: {answer.text[:500]}")
            _wait(asker, run)
            visible.append((time.perf_counter() - stored) * 1000)
            acknowledged.append((stored - began) * 1000)
            if len(asked) == len(mmlu.ids):
                _check_latest(asker, run)
    return Visible(acknowledged, visible)


def _wait(asker: Asker, run: MadeUpRun) -> None:
    """Ask for all runs of the model, again and again, until this one is among them."""
    request = {"benchmark": BENCHMARK, "level1": "run", "models": [run.model], "runs": "all"}
    wanted = int((run.statuses == 0).sum())
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        counts = {row["run"]: row["n"] for row in json.loads(asker.ask_well(request))["rows"]}
        if counts.get(run.result_name, wanted) != wanted:
            sys.exit(f"{run.result_name} has {wanted} scored answers, and was seen with {counts[run.result_name]}")
        if run.result_name in counts:
            return
    sys.exit(f"{run.result_name} did not become visible within {LIMIT_S} s")


def _check_latest(asker: Asker, run: MadeUpRun) -> None:
    """A full run that is newer than all others of its model is the latest as soon as it is seen."""
    answer = asker.ask_well({"benchmark": BENCHMARK, "level1": "run", "models": [run.model]})
    if [row["run"] for row in json.loads(answer)["rows"]] != [run.result_name]:
        sys.exit(f"{run.result_name} was seen, and the latest run of {run.model} is another: {answer[:500]!r}")

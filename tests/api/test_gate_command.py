"""`scorehouse gate` and `scorehouse compare` against both services: pushed, judged, let through or not."""

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from analysis_service.app import create_app as create_analysis
from analysis_service.settings import AnalysisSettings
from results_service.app import create_app as create_results
from results_service.settings import ResultsSettings
from scorehouse.client import AsyncScorehouse
from shared.submission import Envelope
from tests.api.conftest import serve, until

MakeResult = Callable[..., dict[str, Any]]
ASKED = 600


def scores(right: int, *, changed: int = 0) -> list[int]:
    """Of ASKED questions the first `right` are right; then `changed` of each kind change places, which ties allow."""
    told = [int(number < right) for number in range(ASKED)]
    for place in range(changed):
        told[place], told[right + place] = 0, 1
    return told


MODELS = {
    "old": scores(400),
    "twin": scores(400, changed=1),
    "close": scores(403, changed=40),
    "better": scores(470),
    "worse": scores(330),
    "few": scores(400)[:10],
}


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Services:
    """Both services over HTTP, with a run of each model."""

    results_url: str
    analysis_url: str
    make_result: MakeResult

    async def push(self, model: str, told: list[int], **changes: Any) -> str:
        """Push a run; its name."""
        questions = [{"question_id": f"q{number}", "score": score} for number, score in enumerate(told)]
        random.Random(model).shuffle(questions)
        document = self.make_result(run_id=model, model_id=model, data={"questions": questions}, **changes)
        async with httpx.AsyncClient(base_url=self.results_url) as client:
            response = await client.post("/standardized_output", content=json.dumps(document))
        assert response.status_code == 201, response.text
        return str(response.json()["result_name"])

    async def applied(self) -> None:
        """Wait until the analysis has it all."""
        async with httpx.AsyncClient() as client:

            async def follows() -> bool:
                head = (await client.get(f"{self.results_url}/health")).json()["feed_head"]
                return bool((await client.get(f"{self.analysis_url}/health")).json()["feed"]["position"] == head)

            await until(follows)

    async def run(self, *words: str | Path) -> Done:
        """A command, as a user types it: a process of its own, for services print into this one's output."""
        told = [*map(str, words), "--analysis-url", self.analysis_url]
        environment = {name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scorehouse", *told), env=environment, stdout=PIPE, stderr=PIPE
        )
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, stdout.decode(), stderr.decode())

    async def gate(self, candidate: str, *words: str | Path) -> Done:
        """`scorehouse gate` against `old` on mmlu."""
        return await self.run("gate", candidate, "--baseline", "old", "--benchmark", "mmlu", *words)


@pytest.fixture
async def services(
    mongo_url: str, mongo_database: str, tmp_path: Path, make_result: MakeResult
) -> AsyncIterator[Services]:
    """Both services, with everything applied."""
    results = create_results(ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled"))
    async with serve(results) as results_url:
        settings = AnalysisSettings(
            auth="disabled", analysis_store="sqlite", sqlite_path=tmp_path / "analysis.sqlite", results_url=results_url
        )
        async with serve(create_analysis(settings)) as analysis_url:
            running = Services(results_url, analysis_url, make_result)
            for model, told in MODELS.items():
                await running.push(model, told)
            await running.applied()
            yield running


async def test_every_verdict_and_its_exit_code(services: Services) -> None:
    cases = [
        ("better", [], 0, "better"),
        ("worse", [], 3, "worse"),
        ("worse", ["--accept", "not-worse"], 3, "worse"),
        ("worse", ["--accept", "not-worse", "--margin", "0.2"], 0, "worse"),
        ("twin", ["--margin", "0.02"], 0, "equivalent"),
        ("twin", ["--margin", "0.02", "--accept", "better"], 3, "equivalent"),
        ("close", [], 4, "inconclusive"),
        ("close", ["--accept", "better,inconclusive"], 0, "inconclusive"),
        ("few", [], 4, "inconclusive"),
    ]
    for candidate, words, code, verdict in cases:
        done = await services.gate(candidate, *words)
        first, *_, last = done.stdout.splitlines()
        case = (candidate, words, done)
        assert (done.exit_code, done.stderr) == (code, ""), case
        assert first.startswith(f"{verdict} "), case
        assert last.startswith("the gate is open" if code == 0 else f"the gate is closed: {verdict} on mmlu"), case


async def test_what_was_just_pushed_is_what_is_judged(services: Services) -> None:
    name = await services.push("fresh", MODELS["worse"])
    assert (await services.gate("fresh")).exit_code == 3
    await services.push("fresh", MODELS["better"], timestamp="2024-02-01T12:00:00Z")
    assert (await services.gate("fresh")).exit_code == 0
    old = "2024-01-01T12:00:00Z-mmlu-old"
    by_name = await services.run("gate", "--run", name, "--baseline-run", old, "--benchmark", "mmlu", "--json")
    told = json.loads(by_name.stdout)
    assert (by_name.exit_code, told["open"], told["refused"]) == (3, False, ["mmlu"])
    assert told["significance"]["verdicts"][0]["candidate_runs"][0]["result_name"] == name


async def test_a_run_that_is_going_on_can_be_judged_by_its_name(services: Services) -> None:
    envelope = services.make_result(run_id="live", model_id="live", data=None)
    # In an order that has nothing to do with the scores, as such a verdict supposes.
    order = random.Random(1).sample(range(ASKED), 300)
    questions = [{"question_id": f"q{number}", "score": int(number >= 400 or number % 8 > 0)} for number in order]
    async with AsyncScorehouse(services.results_url) as house:
        name = (await house.open_live_run(Envelope.model_validate(envelope))).result_name
        await house.push_part(name, 1, json.dumps(questions).encode())
    done = await services.run("gate", "--run", name, "--baseline", "old", "--benchmark", "mmlu")
    assert done.exit_code == 0, done
    assert done.stdout.startswith(f"better        So far {name} is better than old on mmlu: ")
    assert "; decided at question " in done.stdout


async def test_nobody_of_that_name_is_an_error_and_no_verdict(services: Services, tmp_path: Path) -> None:
    report = tmp_path / "gate.xml"
    done = await services.gate("nobody", "--junit", report)
    assert (done.exit_code, done.stdout, report.exists()) == (1, "", False)
    assert "nobody" in done.stderr


async def test_a_comparison_tells_ranks_pairs_and_who_is_tied(services: Services) -> None:
    done = await services.run("compare", "old", "twin", "better", "worse", "--benchmark", "mmlu", "--contested", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "mmlu: 4 compared, 600 questions shared by all; 95 % confidence"
    assert {line.split()[0]: line.split()[1] for line in lines[3:7]} == {
        "better": "1",
        "old": "2",
        "twin": "2",
        "worse": "4",
    }
    assert lines[-1] == "better is better than all others; old and twin are not told apart."
    [pair] = [line for line in lines if line.split()[:2] == ["old", "worse"]]
    assert pair.split()[2:] == ["+0.117", *pair.split()[3:6], "<0.001", "70", "0", "530", "better"]


async def test_too_few_shared_questions_are_no_comparison(services: Services) -> None:
    done = await services.run("compare", "old", "few", "--benchmark", "mmlu")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "old" in done.stderr
    assert "few" in done.stderr

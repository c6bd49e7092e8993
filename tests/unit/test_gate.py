"""`scorehouse gate`: which verdicts open it, its exit codes, what it prints and writes for CI."""

import json
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import yaml
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

from scorehouse.cli import app
from scorehouse.gate import Gate, GateCode
from scorehouse.terminal import INTERRUPTED
from shared.significance import SignificanceAnswer
from shared.statistics import Verdict
from tests.pairs import pair

URL = "http://analysis.test"
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = (verdict.value for verdict in Verdict)


def told(benchmark: str, verdict: str, *, not_worse: bool = False, within: bool = False, **changes: Any) -> Any:
    """The verdict on a benchmark; `changes` are the pair's."""
    return {
        "benchmark": benchmark,
        "verdict": verdict,
        "within_margin": within,
        "not_worse": not_worse,
        "pair": pair("new", "old", **{"p_adjusted": 0.002, **changes}),
        "ci_within_low": None,
        "ci_within_high": None,
        "live": None,
        "candidate_runs": [],
        "baseline_runs": [],
        "sentence": f"new is {verdict} on {benchmark}",
    }


def answer(*verdicts: Any, **changes: Any) -> dict[str, Any]:
    """What the service says."""
    usual = {
        "verdict": "worse",
        "verdicts": list(verdicts),
        "n_tests": len(verdicts),
        "correction": "holm",
        "confidence": 0.95,
        "margin": 0.01,
        "warnings": [],
        "data_version": "v",
    }
    return usual | changes


def health(position: int | None = 5, lag: int | None = 0, stopped: str | None = None) -> dict[str, Any]:
    """The state of an analysis service that is as far as that."""
    pool = dict.fromkeys(("size", "in_use", "free", "overflow", "waiting"), 0)
    feed = {"position": position, "lag": lag, "applying": None, "stopped": stopped}
    store = {"engine": "sqlite", "reachable": True}
    return {"status": "ok", "store": store, "pool": pool, "feed": feed, "version": "1"}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[respx.MockRouter]:
    """An analysis service that has applied everything, behind respx."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        router.get("/health").respond(200, json=health())
        yield router


def run(*words: str | Path, environment: dict[str, str] | None = None) -> Result:
    """The command, for `new` against `old` on mmlu unless the words say otherwise."""
    named = ["new", "--baseline", "old", "--benchmark", "mmlu"]
    return CliRunner().invoke(app, ["gate", *named, *map(str, words), "--analysis-url", URL], env=environment)


TABLE = [
    # verdicts, accepted, exit code
    ([told("mmlu", BETTER, not_worse=True)], None, 0),
    ([told("mmlu", EQUIVALENT, not_worse=True, within=True)], None, 0),
    ([told("mmlu", WORSE)], None, 3),
    ([told("mmlu", INCONCLUSIVE)], None, 4),
    ([told("mmlu", WORSE, not_worse=True, within=True)], None, 3),
    ([told("mmlu", WORSE, not_worse=True, within=True)], "not-worse", 0),
    ([told("mmlu", WORSE)], "better,equivalent,inconclusive,not-worse", 3),
    ([told("mmlu", INCONCLUSIVE)], "better, inconclusive", 0),
    ([told("mmlu", INCONCLUSIVE, not_worse=True)], "not-worse", 0),
    ([told("mmlu", INCONCLUSIVE)], "not-worse", 4),
    ([told("mmlu", BETTER)], "not-worse", 0),
    ([told("mmlu", BETTER, not_worse=True)], "equivalent", 3),
    ([told("mmlu", EQUIVALENT, not_worse=True, within=True)], "better", 3),
    ([told("mmlu", EQUIVALENT, not_worse=True, within=True)], "not-worse", 0),
    ([told("mmlu", BETTER, not_worse=True), told("aime", INCONCLUSIVE)], None, 4),
    ([told("mmlu", INCONCLUSIVE), told("aime", WORSE)], None, 3),
    ([told("mmlu", BETTER, not_worse=True), told("aime", EQUIVALENT, not_worse=True)], None, 0),
    ([told("mmlu", INCONCLUSIVE), told("aime", EQUIVALENT, not_worse=True)], "better", 3),
]


@pytest.mark.parametrize(("verdicts", "accepted", "code"), TABLE)
def test_exit_codes(service: respx.MockRouter, verdicts: list[Any], accepted: str | None, code: int) -> None:
    service.post("/significance").respond(200, json=answer(*verdicts))
    done = run(*(("--accept", accepted) if accepted else ()))
    assert (done.exit_code, done.stderr) == (code, "")
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("the gate is open" if code == 0 else "the gate is closed: ")
    assert [line.split()[0] for line in lines if "new is" in line] == [told["verdict"] for told in verdicts]


def test_lines_on_a_pipe(service: respx.MockRouter) -> None:
    small = told("mmlu", WORSE, within=True, not_worse=True, warnings=["grader: exact → model", "asked twice"])
    told_twice = told("aime", INCONCLUSIVE) | {"live": live(["the order is sorted by year"])}
    service.post("/significance").respond(200, json=answer(small, told_twice, warnings=["asked twice"]))
    done = run("--benchmark", "aime")
    assert done.stdout.splitlines() == [
        "worse         new is worse on mmlu",
        "              it does not matter by the margin given: --accept not-worse lets it through",
        "inconclusive  new is inconclusive on aime",
        "warning: asked twice",
        "warning: mmlu: grader: exact → model",
        "warning: aime: the order is sorted by year",
        "the gate is closed: worse on mmlu, inconclusive on aime",
    ]


def live(warnings: list[str], *path: dict[str, Any]) -> dict[str, Any]:
    """What is told of a run that is going on."""
    known: dict[str, Any] = {"verdict": INCONCLUSIVE, "decided_at": None, "method": "m", "of": 30}
    return known | {"warnings": warnings, "path": list(path)}


def test_what_is_asked_for(service: respx.MockRouter) -> None:
    route = service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    words = ["--margin", "0.02", "--cluster-by", "subject", "--correction", "bh", "--confidence", "0.9"]
    run("--benchmark", "aime", *words)
    assert json.loads(route.calls.last.request.content) == {
        "benchmarks": ["mmlu", "aime"],
        "margin": 0.02,
        "cluster_by": "subject",
        "correction": "bh",
        "confidence": 0.9,
        "candidate": {"model": "new"},
        "baseline": {"model": "old"},
    }


def test_results_by_name(service: respx.MockRouter) -> None:
    route = service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    words = ["gate", "--run", "r2", "--baseline-run", "r1", "--benchmark", "mmlu", "--analysis-url", URL]
    assert CliRunner().invoke(app, words).exit_code == 0
    sent = json.loads(route.calls.last.request.content)
    assert (sent["candidate"], sent["baseline"]) == ({"run": "r2"}, {"run": "r1"})


@pytest.mark.parametrize(
    "words",
    [
        ["new", "--benchmark", "mmlu"],
        ["--baseline", "old", "--benchmark", "mmlu"],
        ["new", "--run", "r", "--baseline", "old", "--benchmark", "mmlu"],
        ["new", "--baseline", "old", "--baseline-run", "r", "--benchmark", "mmlu"],
        ["new", "--baseline", "old"],
        ["new", "--baseline", "old", "--benchmark", "mmlu", "--accept", "better,worse"],
        ["new", "--baseline", "old", "--benchmark", "mmlu", "--accept", ""],
        ["new", "--baseline", "old", "--benchmark", "mmlu", "--margin", "-1"],
        ["new", "--baseline", "old", "--benchmark", "mmlu", "--confidence", "95"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(words: list[str]) -> None:
    assert CliRunner().invoke(app, ["gate", *words, "--analysis-url", URL]).exit_code == 2


def test_a_refusal_is_exit_code_1_and_no_verdict(service: respx.MockRouter) -> None:
    problem = {"type": "x", "title": "Invalid", "status": 422, "detail": "no model is called 'new'"}
    service.post("/significance").respond(422, json=problem, headers={"content-type": "application/problem+json"})
    done = run()
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "scorehouse: Invalid: no model is called 'new'\n")


def test_a_service_that_is_away_is_exit_code_1() -> None:
    words = ["gate", "new", "--baseline", "old", "--benchmark", "mmlu", "--analysis-url", "http://127.0.0.1:9"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "cannot reach the analysis service" in done.stderr


def test_what_was_pushed_before_is_waited_for_and_what_comes_meanwhile_is_not(service: respx.MockRouter) -> None:
    states = [health(5, 2), health(6, 9), health(7, 40)]
    looks = service.get("/health").mock(side_effect=[httpx.Response(200, json=state) for state in states])
    asked = service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    done = run()
    assert (done.exit_code, looks.call_count, asked.call_count) == (0, 3, 1)
    assert done.stderr == "waiting until the analysis has applied what was pushed (2 to go) …\n"


def test_there_is_no_verdict_on_an_older_run_when_waiting_is_in_vain(service: respx.MockRouter) -> None:
    service.get("/health").respond(200, json=health(5, 2, "r9: no such field"))
    asked = service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    done = run("--patience", "0")
    assert (done.exit_code, asked.called) == (1, False)
    assert "has not applied what was pushed, so there is no verdict yet (r9: no such field)" in done.stderr


def test_where_the_results_service_is_away_it_is_told(service: respx.MockRouter) -> None:
    service.get("/health").respond(200, json=health(5, None))
    service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    done = run()
    assert done.exit_code == 0
    assert "what was pushed last may be missing" in done.stderr


def test_json_for_programs(service: respx.MockRouter) -> None:
    said = answer(told("mmlu", BETTER), told("aime", INCONCLUSIVE))
    service.post("/significance").respond(200, json=said)
    done = run("--json")
    document = json.loads(done.stdout)
    assert SignificanceAnswer.model_validate(document.pop("significance")) == SignificanceAnswer.model_validate(said)
    assert document == {"open": False, "exit_code": 4, "accepted": ["better", "equivalent"], "refused": ["aime"]}


def test_the_summary_of_a_job_is_added_to(service: respx.MockRouter, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    odd = told("a|b", WORSE, delta=None, ci_low=None, ci_high=None, p_adjusted=None)
    service.post("/significance").respond(200, json=answer(told("mmlu", BETTER), odd, warnings=["other\ngrader"]))
    run(environment={"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text() == (
        "before\n"
        "### new against old\n\n**the gate is closed: worse on a|b**\n\n"
        "| benchmark | verdict | difference | 95 % interval | p | shared questions |  |\n"
        "| --- | --- | ---: | --- | ---: | ---: | --- |\n"
        "| mmlu | better | +0.031 | +0.012 to +0.050 | 0.002 | 5,700 | accepted |\n"
        "| a\\|b | worse | - | - | - | 5,700 | **not accepted** |\n\n"
        "- new is better on mmlu\n- new is worse on a\\|b\n- other grader\n"
    )


def test_of_a_live_run_the_summary_has_what_may_be_looked_at_any_time(
    service: respx.MockRouter, tmp_path: Path
) -> None:
    looked_at = {"n": 1212, "delta": 0.1, "ci_low": 0.02, "ci_high": 0.18}
    verdicts = [told("mmlu", BETTER) | {"live": live([], looked_at)}, told("aime", INCONCLUSIVE) | {"live": live([])}]
    service.post("/significance").respond(200, json=answer(*verdicts))
    run(environment={"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")})
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert "| mmlu | better | +0.100 | +0.020 to +0.180 | - | 1,212 so far | accepted |" in lines
    assert "| aime | inconclusive | - | - | - | 0 | **not accepted** |" in lines


def test_a_summary_that_cannot_be_written_changes_no_verdict(service: respx.MockRouter, tmp_path: Path) -> None:
    service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    done = run(environment={"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert done.exit_code == 0
    assert "cannot be written" in done.stderr


def test_a_report_for_ci_that_reads_junit(service: respx.MockRouter, tmp_path: Path) -> None:
    service.post("/significance").respond(200, json=answer(told("mmlu", BETTER), told("aime", INCONCLUSIVE)))
    report = tmp_path / "gate.xml"
    assert run("--junit", report).exit_code == 4
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - the command has just written it
    assert suite is not None
    assert suite.attrib == {"name": "scorehouse gate", "tests": "2", "failures": "1"}
    passed, failed = suite
    assert (passed.attrib, passed.find("failure")) == ({"classname": "new against old", "name": "mmlu"}, None)
    failure = failed.find("failure")
    assert failure is not None
    assert failure.attrib == {"type": "inconclusive", "message": "new is inconclusive on aime"}


def test_a_report_that_was_asked_for_and_cannot_be_written_is_exit_code_1(
    service: respx.MockRouter, tmp_path: Path
) -> None:
    service.post("/significance").respond(200, json=answer(told("mmlu", BETTER)))
    done = run("--junit", tmp_path / "no" / "gate.xml")
    assert done.exit_code == 1
    assert "gate.xml cannot be written: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("verdict", "accepted", "hinted"),
    [
        (told("mmlu", WORSE, within=True, not_worse=True), "better", True),
        (told("mmlu", WORSE, within=True, not_worse=True), "not-worse", False),
        (told("mmlu", WORSE), "better", False),
        (told("mmlu", INCONCLUSIVE, within=False), "better", False),
    ],
)
def test_a_margin_that_would_do_is_pointed_out(verdict: Any, accepted: Any, hinted: bool) -> None:
    gate = Gate(SignificanceAnswer.model_validate(answer(verdict)), frozenset({accepted}))
    assert (gate.hint(gate.answer.verdicts[0]) is not None) is hinted


PAGE = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")


def test_the_documentation_has_each_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(code) for code, _ in rows] == [GateCode.OPEN, 1, 2, GateCode.WORSE, GateCode.INCONCLUSIVE, INTERRUPTED]


def test_the_documentation_shows_jobs_and_commands_that_can_be_read() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    github, gitlab = (yaml.safe_load(block) for block in blocks)
    steps = [step["run"] for step in github["jobs"]["gate"]["steps"] if "run" in step]
    shown = re.findall(r"^    (scorehouse .+)$", PAGE, re.MULTILINE)
    lines = [line for line in (*steps, *gitlab["gate"]["script"], *shown) if line.startswith("scorehouse ")]
    assert {line.split()[1] for line in lines} == {"compare", "gate", "push"}
    commands = get_command(app)
    assert isinstance(commands, TyperGroup)
    for line in lines:
        _, name, *words = shlex.split(line)
        words = ["." if word == "outputs/" else word for word in words]  # a folder that is there
        commands.commands[name].make_context(name, words)
    assert gitlab["gate"]["allow_failure"]["exit_codes"] == GateCode.INCONCLUSIVE

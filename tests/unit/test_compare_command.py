"""`scorehouse compare`: what it asks for, the tables it prints, and which models it calls tied."""

import json
from itertools import combinations
from typing import Any

import pytest
import respx
from typer.testing import CliRunner, Result

from scorehouse.cli import app
from scorehouse.comparison_tables import tie_sentence
from shared.comparisons import ComparisonAnswer
from tests.pairs import pair

URL = "http://analysis.test"


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """One of those compared."""
    usual = {
        "name": name,
        "model": name,
        "runs": [],
        "n": 5700,
        "n_questions": 5700,
        "mean": 0.8614,
        "se": 0.0046,
        "ci_low": 0.8522,
        "ci_high": 0.8701,
        "method": "wilson",
        "reason": None,
        "rank": 1,
        "rank_low": 1,
        "rank_high": 2,
        "tie_group": 1,
        "p_best": 0.934,
    }
    return usual | changes


def answer(groups: dict[str, int | None], other: set[str] | None = None, **changes: Any) -> dict[str, Any]:
    """A comparison of some models with their tie groups.

    Those of different groups are told apart, and those of one are not; with the pairs `other` it is the other way.
    """
    pairs = [
        pair(a, b, significant=(groups[a] != groups[b]) is not (a + b in (other or ())))
        for a, b in combinations(groups, 2)
    ]
    usual = {
        "benchmarks": ["mmlu-redux"],
        "entries": [entry(name, tie_group=group) for name, group in groups.items()],
        "pairs": pairs,
        "n_shared_by_all": 5700,
        "n_tests": len(pairs),
        "correction": "holm",
        "confidence": 0.95,
        "draws": 2000,
        "seed": 0,
        "contested": [],
        "n_contested": 7,
        "warnings": [],
        "data_version": "v",
    }
    return usual | changes


def run(*words: str) -> Result:
    """The command."""
    return CliRunner().invoke(app, ["compare", *words, "--analysis-url", URL])


@pytest.mark.parametrize(
    ("groups", "other", "sentence"),
    [
        ({"a": 1, "b": 1}, set(), "a and b are not told apart."),
        ({"a": 1, "b": 2}, set(), "a is better than b."),
        ({"a": 1, "b": 1, "c": 1}, set(), "a, b and c are not told apart."),
        ({"a": 1, "b": 1, "c": 1}, {"bc"}, "b and c are not told apart from a."),
        ({"a": 1, "b": 2, "c": 2}, set(), "a is better than all others; b and c are not told apart."),
        (
            {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3},
            set(),
            "a and b are not told apart; c and d are not told apart.",
        ),
        ({"a": 1, "b": 2, "c": 3}, set(), "a is better than all others; no two of them are tied."),
        (
            {"a": 1, "b": 2, "c": 2, "d": 3},
            {"cd"},
            "a is better than all others; b and c are not told apart; across groups, not told apart: c and d.",
        ),
        (
            {"a": 1, "b": 1, "c": 2, "d": 2},
            {"ac", "ad", "bc", "bd"},
            "a and b are not told apart; c and d are not told apart; across groups, not told apart: 4 pairs.",
        ),
        ({"a": None, "b": None}, set(), "There are no ranks: all share too few questions."),
        ({"a": 1, "b": 1, "c": None}, set(), "a and b are not told apart."),
    ],
)
def test_which_are_tied(groups: dict[str, int | None], other: set[str], sentence: str) -> None:
    assert tie_sentence(ComparisonAnswer.model_validate(answer(groups, other))) == sentence


def test_ties_do_not_hang_on_the_correction_of_pairs() -> None:
    told = answer({"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}, {"ab", "de", "cd"}, correction="none")
    assert tie_sentence(ComparisonAnswer.model_validate(told)) == (
        "b and c are not told apart from a; d and e are not told apart "
        "(ranks and ties always allow for all pairs, as holm does)."
    )


@respx.mock
def test_tables_on_a_pipe_are_plain_lines() -> None:
    body = answer({"gpt-4o": 1, "모델": 2})
    body["entries"][1] |= {"rank": 2, "rank_low": 2, "rank_high": 2, "p_best": None}
    body["pairs"] += [
        pair("모델", "x", significant=False, delta=-0.001, ci_low=-0.01, p_adjusted=0.71, questions_needed=123_456)
    ]
    respx.post(f"{URL}/comparison").respond(200, json=body)
    done = run("gpt-4o", "모델", "--benchmark", "mmlu-redux")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "mmlu-redux: 2 compared, 5,700 questions shared by all; 95 % confidence",
        "",
        "        rank  rank interval   mean   95 % interval  questions  tie group  first",
        "gpt-4o     1         1 to 2  0.861  0.852 to 0.870      5,700          1    93%",
        "모델       2              2  0.861  0.852 to 0.870      5,700          2      -",
        "",
        "              difference     95 % interval  p (holm)   wins  losses   ties",
        "gpt-4o  모델      +0.031  +0.012 to +0.050    <0.001  1,204     381  4,115  better",
        "모델    x         -0.001  -0.010 to +0.050     0.710  1,204     381  4,115  not told apart; "
        "about 130,000 questions would tell",
        "",
        "gpt-4o is better than 모델.",
    ]


@respx.mock
def test_what_could_not_be_compared_is_told_with_its_reason_and_warnings_once() -> None:
    nothing = dict.fromkeys(("delta", "se", "ci_low", "ci_high", "p", "p_adjusted", "significant"))
    reason = "only 3 questions are shared, and it takes 20"
    body = answer({"a": 1, "b": 1, "c": None}, warnings=["other harness"])
    body["pairs"] = [
        pair("a", "b", significant=False, reason="clusters are not bootstrapped", warnings=["other harness"]),
        pair("a", "c", **nothing, reason=reason, warnings=["grader: exact → model"]),
        pair("b", "c", **nothing, reason=reason),
    ]
    respx.post(f"{URL}/comparison").respond(200, json=body)
    lines = run("a", "b", "c", "--benchmark", "mmlu-redux").stdout.splitlines()
    assert [line.rsplit("  ", 1)[1] for line in lines if line.startswith(("a  c", "b  c"))] == ["not compared"] * 2
    assert lines[-6:] == [
        "",
        "warning: other harness",
        f"warning: a and c; b and c: {reason}",
        "warning: a and c: grader: exact → model",
        "",
        "a and b are not told apart.",
    ]


@respx.mock
def test_contested_questions_are_shown_where_asked_for() -> None:
    asked = {"question_id": "law/7", "content_hash": None, "metadata": {}, "scores": {"a": 1.0, "b": 0.25}}
    body = answer({"a": 1, "b": 1}, benchmarks=["mmlu", "aime"], contested=[{"benchmark": "mmlu", **asked}])
    route = respx.post(f"{URL}/comparison").respond(200, json=body)
    lines = run("a", "b", "--benchmark", "mmlu", "--benchmark", "aime", "--contested", "5").stdout.splitlines()
    assert json.loads(route.calls.last.request.content)["contested"] == 5
    start = lines.index("7 questions not scored the same by all; the widest apart:")
    assert lines[start + 1 : start + 4] == ["", "               a     b", "mmlu law/7  1.00  0.25"]


@respx.mock
def test_options_are_what_is_asked_for() -> None:
    route = respx.post(f"{URL}/comparison").respond(200, json=answer({"r1": 1, "r2": 1}))
    words = ["--cluster-by", "subject", "--correction", "bh", "--confidence", "0.9"]
    done = run("--runs", "r1", "r2", "--benchmark", "mmlu", "--json", *words)
    assert json.loads(route.calls.last.request.content) == {
        "benchmarks": ["mmlu"],
        "runs": ["r1", "r2"],
        "cluster_by": "subject",
        "correction": "bh",
        "confidence": 0.9,
        "contested": 0,
    }
    assert ComparisonAnswer.model_validate_json(done.stdout).entries[0].name == "r1"


@pytest.mark.parametrize(
    "words", [["a", "--benchmark", "mmlu"], ["a", "b"], ["a", "b", "--benchmark", "mmlu", "--correction", "tukey"]]
)
def test_a_wrong_command_line_is_exit_code_2(words: list[str]) -> None:
    assert run(*words).exit_code == 2


@respx.mock
def test_a_refusal_is_exit_code_1_and_told() -> None:
    problem = {"type": "x", "title": "Too few", "status": 422, "detail": "a and b share 3 questions"}
    respx.post(f"{URL}/comparison").respond(422, json=problem, headers={"content-type": "application/problem+json"})
    done = run("a", "b", "--benchmark", "mmlu")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "scorehouse: Too few: a and b share 3 questions\n")

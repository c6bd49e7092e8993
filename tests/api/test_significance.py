"""POST /significance through both services: verdicts, corrections, margins, live runs, and what is refused."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from tests.api.conftest import run_stack

if TYPE_CHECKING:
    from tests.api.conftest import Stack

Scores = Sequence[float]
SUBJECTS = ("Algebra", "Geometry", "Precalculus", "Prealgebra", "Number Theory", "Counting & Probability")
LIVE = "2024-06-01T00:00:00Z-math500-live"


def right(*counts: int) -> Scores:
    """So many right answers, then so many wrong ones, and so on."""
    return [float(1 - place % 2) for place, count in enumerate(counts) for _ in range(count)]


def answers(scores: Scores, attempts: int = 1, **metadata: Any) -> list[dict[str, Any]]:
    """One or more attempts at each question, of which the first question's number is 0; subjects in turn."""
    return [
        {
            "question_id": f"q{number}",
            "attempt": attempt,
            "score": score,
            "metadata": {"subject": SUBJECTS[number % len(SUBJECTS)], **metadata},
        }
        for number, score in enumerate(scores)
        for attempt in range(attempts)
    ]


def result(model: str, scores: Scores, benchmark: str = "math500", attempts: int = 1) -> dict[str, Any]:
    """A finished run of a model."""
    envelope = {"run_id": model, "benchmark_name": benchmark, "timestamp": "2024-01-01T00:00:00Z", "source": "tests"}
    return envelope | {"model_id": model, "data": {"questions": answers(scores, attempts)}}


def hashed(questions: list[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    """The same with the texts of the first ones told, which nobody else tells."""
    return [
        question | ({"content_hash": f"sha256:{number}"} if number < first else {})
        for number, question in enumerate(questions)
    ]


BASE = right(240, 160)  # of 400 questions of math500
BETTER = right(300, 100)  # + 60
WORSE = right(210, 190)  # − 30
SAME = right(239, 1, 1, 159)  # one won, one lost
UNCLEAR = right(230, 10, 15, 145)  # 15 won, 10 lost
FRACTIONS = [place / 400 for place in range(400)]


@pytest.fixture(scope="module")
async def judged(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["Stack"]:
    """Models that are better, worse, the same and not told apart from `base`; only for tests that change nothing."""
    sqlite = tmp_path_factory.mktemp("significance") / "analysis.sqlite"
    by_model = {"better": BETTER, "worse": WORSE, "same": SAME, "unclear": UNCLEAR}
    async with run_stack(mongo_url, "significance", sqlite) as stack:
        await stack.push(
            *(result(model, scores) for model, scores in by_model.items()),
            result("few", right(15)),
            result("failed", []) | {"data": {"questions": [{"question_id": "q1", "status": "error"}]}},
            result("elsewhere", SAME) | {"provenance": {"harness": "inspect", "config": {"temperature": 1}}},
            result("other-texts", SAME) | {"data": {"questions": hashed(answers(SAME), 40)}},
            result("stated", []) | {"data": {"score": 0.5}},
            # Of 40 questions 11 won and 2 lost, 8 and 1, 1 and 1: p is 0.022, 0.039 and 1.
            result("base", BASE) | {"provenance": {"harness": "lm-eval", "config": {"temperature": 0}}},
            result("base", right(20, 20), "hle"),
            result("better", right(18, 2, 11, 9), "hle"),
            result("base", right(20, 20), "ds-mmlu"),
            result("better", right(19, 1, 8, 12), "ds-mmlu"),
            result("base", right(20, 20), "mmlu-redux"),
            result("better", right(19, 1, 1, 19), "mmlu-redux"),
            result("fractions", FRACTIONS, "mmlu"),
            result("the-same-fractions", FRACTIONS, "mmlu", attempts=3),
            result("more", [min(score + 0.001 * (place % 7), 1) for place, score in enumerate(FRACTIONS)], "mmlu"),
        )
        yield stack


async def ask(
    stack: "Stack", candidate: str = "", baseline: str = "base", *, run: str | None = None, **changes: Any
) -> dict[str, Any]:
    """The answer about two models, or the `run` and a model; on math500 unless told otherwise."""
    contender = {"model": candidate} if run is None else {"run": run}
    body = {"benchmarks": ["math500"], "candidate": contender, "baseline": {"model": baseline}} | changes
    response = await stack.analysis.post("/v1/significance", json=body)
    assert response.status_code == 200, response.text
    return dict(json.loads(response.text, parse_constant=pytest.fail))


@pytest.mark.parametrize(
    ("candidate", "changes", "verdict", "within", "not_worse"),
    [
        ("better", {}, "better", False, True),
        ("better", {"margin": 0.3}, "better", True, True),
        ("worse", {}, "worse", False, False),
        ("worse", {"margin": 0.3}, "worse", True, True),
        ("same", {}, "equivalent", True, True),
        ("same", {"margin": 0.005}, "inconclusive", False, False),
        ("same", {"margin": 0.015}, "equivalent", True, True),
        ("same", {"margin": 0}, "inconclusive", False, False),
        ("unclear", {"margin": 0.03}, "inconclusive", False, True),
        ("unclear", {"margin": 0.04}, "equivalent", True, True),
        ("unclear", {}, "inconclusive", False, True),
        ("unclear", {"margin": 0.005}, "inconclusive", False, False),
        ("unclear", {"margin": 0.04, "confidence": 0.99}, "inconclusive", False, True),
    ],
)
async def test_verdicts(
    judged: "Stack", candidate: str, changes: dict[str, Any], verdict: str, within: bool, not_worse: bool
) -> None:
    answer = await ask(judged, candidate, **changes)
    (own,) = answer["verdicts"]
    assert (own["verdict"], own["within_margin"], own["not_worse"]) == (verdict, within, not_worse)
    assert (answer["verdict"], answer["n_tests"], own["live"]) == (verdict, 1, None)
    assert [run["model"] for run in own["candidate_runs"] + own["baseline_runs"]] == [candidate, "base"]


async def test_the_numbers_are_those_of_a_slow_computation(judged: "Stack") -> None:
    own = (await ask(judged, "unclear", margin=0.04))["verdicts"][0]
    pair = own["pair"]
    wins, losses, n = 15, 10, 400
    assert (pair["a"], pair["b"]) == ("unclear", "base")
    assert (pair["n_shared"], pair["wins"], pair["losses"], pair["delta"]) == (n, wins, losses, pytest.approx(0.0125))
    assert pair["p"] == pair["p_adjusted"] == pytest.approx(mcnemar([[0, wins], [losses, 0]], exact=True).pvalue)
    assert (own["ci_within_low"], own["ci_within_high"]) == pytest.approx(slow_tango(wins, losses, n, 0.9), abs=1e-9)
    assert (pair["ci_low"], pair["ci_high"]) == pytest.approx(slow_tango(wins, losses, n, 0.95), abs=1e-9)
    assert own["sentence"] == (
        "unclear and base are within 0.04 of each other on math500: "
        f"+0.013 (90 % interval {own['ci_within_low']:+.3f} to {own['ci_within_high']:+.3f}, 400 shared questions)"
    )


async def test_a_pair_is_told_as_by_a_comparison(judged: "Stack") -> None:
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        ("math500", "unclear", "base", {}),
        ("mmlu", "more", "fractions", {}),
        ("math500", "better", "base", {"cluster_by": "subject", "seed": 5}),
    ]
    for benchmark, a, b, changes in asked:
        body = {"benchmark": benchmark, "models": [a, b], **changes}
        (compared,) = (await judged.analysis.post("/comparison", json=body)).json()["pairs"]
        (own,) = (await ask(judged, a, b, benchmarks=[benchmark], **changes))["verdicts"]
        assert own["pair"] == compared


def slow_tango(wins: int, losses: int, n: int, confidence: float) -> tuple[float, float]:
    """The differences whose score statistic is the normal quantile, by bisection (Tango 1998)."""
    z = stats.norm.ppf((1 + confidence) / 2)

    def statistic(delta: float) -> float:
        first = -wins - losses + (2 * n - wins + losses) * delta
        q = (np.sqrt(first**2 + 8 * n * losses * delta * (1 - delta)) - first) / (4 * n)
        return float((wins - losses - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta))))

    def solve(target: float) -> float:
        low, high = -0.999, 0.999
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if statistic(middle) > target else (low, middle)
        return low

    return solve(z), solve(-z)


async def test_p_values_allow_for_the_benchmarks_looked_at(judged: "Stack") -> None:
    names = ["hle", "ds-mmlu", "mmlu-redux"]
    alone = await ask(judged, "better", benchmarks=names, correction="none")
    assert [own["verdict"] for own in alone["verdicts"]] == ["better", "better", "inconclusive"]
    p = [own["pair"]["p"] for own in alone["verdicts"]]
    for correction, method, verdicts in (
        ("holm", "holm", ["inconclusive"] * 3),
        ("bh", "fdr_bh", ["inconclusive"] * 3),
    ):
        together = await ask(judged, "better", benchmarks=names, correction=correction)
        adjusted = [own["pair"]["p_adjusted"] for own in together["verdicts"]]
        assert adjusted == pytest.approx(multipletests(p, method=method)[1])
        assert [own["verdict"] for own in together["verdicts"]] == verdicts
        assert together["n_tests"] == 3
    told = (await ask(judged, "better", benchmarks=names))["verdicts"][0]["sentence"]
    assert told.endswith("alone it would count, but not among 3 benchmarks that are looked at together")
    assert (await ask(judged, "better", benchmarks=["math500", "hle"]))["verdict"] == "better"
    assert (await ask(judged, "better", benchmarks=["math500", "hle", "mmlu-redux"]))["verdict"] == "inconclusive"


async def test_too_few_shared_questions_are_inconclusive_and_say_so(judged: "Stack") -> None:
    answer = await ask(judged, "few")
    (own,) = answer["verdicts"]
    assert (answer["verdict"], answer["n_tests"]) == ("inconclusive", 0)
    assert own["pair"]["n_shared"] == 15
    assert own["pair"]["delta"] is own["pair"]["p"] is own["ci_within_low"] is None
    assert own["sentence"].startswith("few and base cannot be compared on math500: 15 shared questions")
    assert (own["within_margin"], own["not_worse"]) == (False, False)
    assert any("under 95 %" in warning for warning in answer["warnings"])


async def test_a_run_without_a_scored_question_is_inconclusive(judged: "Stack") -> None:
    (own,) = (await ask(judged, "failed"))["verdicts"]
    assert (own["verdict"], own["pair"]["n_shared"], own["pair"]["mean_a"]) == ("inconclusive", 0, None)
    assert own["pair"]["reason"]


async def test_what_makes_two_runs_hard_to_compare_is_warned_of(judged: "Stack") -> None:
    (own,) = (await ask(judged, "elsewhere"))["verdicts"]
    assert [word in " ".join(own["pair"]["warnings"]) for word in ("lm-eval", "inspect", "settings")] == [True] * 3
    (own,) = (await ask(judged, "other-texts"))["verdicts"]
    assert own["pair"]["n_shared"] == 360
    assert [warning for warning in own["pair"]["warnings"] if "40 questions of the same id" in warning]
    assert (await ask(judged, "same"))["verdicts"][0]["pair"]["warnings"] == []


async def test_equal_scores_of_several_attempts_are_equivalent(judged: "Stack") -> None:
    answer = await ask(judged, "the-same-fractions", "fractions", benchmarks=["mmlu"], margin=0.02)
    (own,) = answer["verdicts"]
    assert own["verdict"] == "equivalent"
    assert (own["pair"]["delta"], own["pair"]["p"]) == (0, 1)
    assert own["ci_within_high"] == -own["ci_within_low"] == pytest.approx(1 - 0.05 ** (1 / 400))
    assert (await ask(judged, "the-same-fractions", "fractions", benchmarks=["mmlu"], margin=0.001))["verdict"] == (
        "inconclusive"
    )


async def test_scores_that_are_not_right_or_wrong(judged: "Stack") -> None:
    differences = np.array([min(s + 0.001 * (i % 7), 1) - s for i, s in enumerate(FRACTIONS)]).round(12)
    answer = await ask(judged, "more", "fractions", benchmarks=["mmlu"])
    (own,) = answer["verdicts"]
    low, high = stats.t.interval(0.9, 399, loc=differences.mean(), scale=stats.sem(differences))
    assert own["verdict"] == "better"
    assert own["within_margin"]
    assert (own["ci_within_low"], own["ci_within_high"]) == pytest.approx((low, high))
    assert "though by less than the margin of 0.01" in own["sentence"]


async def test_filters_and_clusters(judged: "Stack") -> None:
    some = (await ask(judged, "better", filters={"subject": ["Algebra"]}))["verdicts"][0]
    assert some["pair"]["n_shared"] == 67
    clustered = (await ask(judged, "better", cluster_by="subject"))["verdicts"][0]
    assert (clustered["pair"]["n_clusters"], clustered["verdict"]) == (6, "better")
    assert any("6 clusters" in warning for warning in clustered["pair"]["warnings"])
    few = await ask(judged, "better", cluster_by="subject", filters={"subject": ["Algebra", "Geometry"]})
    (own,) = few["verdicts"]
    assert (own["verdict"], own["pair"]["p"], own["ci_within_low"]) == ("inconclusive", None, None)
    assert "clusters" in own["pair"]["reason"]


async def test_by_names_of_results_and_from_the_cache(judged: "Stack") -> None:
    own = (await ask(judged, run="2024-01-01T00:00:00+00:00-math500-better"))["verdicts"][0]
    assert (own["pair"]["a"], own["verdict"]) == ("2024-01-01T00:00:00Z-math500-better", "better")
    body = {"benchmarks": ["math500"], "candidate": {"model": "better"}, "baseline": {"model": "base"}}
    once = await judged.analysis.post("/significance", json=body)
    again = await judged.analysis.post("/significance", json=body, headers={"If-None-Match": once.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"benchmarks": []}, "benchmarks"),
        ({"benchmarks": ["math501"]}, "benchmarks[0]"),
        ({"candidate": {"model": "bettr"}}, "candidate.model"),
        ({"candidate": {"model": "better", "run": "r"}}, "candidate"),
        ({"baseline": {}}, "baseline"),
        ({"baseline": {"run": "no-such"}}, "baseline.run"),
        ({"baseline": {"model": "stated"}}, "baseline.model"),
        ({"baseline": {"model": "better"}}, "candidate"),
        ({"benchmarks": ["math500", "aime"]}, "candidate.model"),
        ({"filters": {"subjct": ["Algebra"]}}, "filters.subjct"),
        ({"filters": {"subject": []}}, "filters.subject"),
        ({"cluster_by": "model"}, "cluster_by"),
        ({"margin": -0.1}, "margin"),
        ({"margin": True}, "margin"),
        ({"margin": "0.02"}, "margin"),
        ({"confidence": "0.95"}, "confidence"),
        ({"confidence": 1}, "confidence"),
        ({"seed": 2**70}, "seed"),
        ({"draws": 10**9}, "draws"),
        ({"correction": "bonferroni"}, "correction"),
        ({"alpha": 0.05}, "alpha"),
    ],
)
async def test_what_is_refused_is_named(judged: "Stack", changes: dict[str, Any], place: str) -> None:
    body = {"benchmarks": ["math500"], "candidate": {"model": "better"}, "baseline": {"model": "base"}} | changes
    response = await judged.analysis.post("/significance", json=body)
    assert response.status_code == 422, response.text
    assert place in [fault["place"] for fault in response.json()["faults"]]


async def test_more_draws_than_there_is_time_for_are_refused(judged: "Stack", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis_service.significance.judge.DRAWN_MAX", 400 * 1999)
    body = {"benchmarks": ["mmlu"], "candidate": {"model": "more"}, "baseline": {"model": "fractions"}, "seed": 7}
    refused = await judged.analysis.post("/significance", json=body)
    assert refused.status_code == 422
    assert "at most 1,999 draws" in refused.json()["detail"]
    assert (await ask(judged, "better"))["verdict"] == "better", "right or wrong, it takes no time"


async def test_the_ends_of_what_may_be_asked(judged: "Stack") -> None:
    for changes in ({"confidence": 0.5}, {"confidence": 0.9999}, {"margin": 1e9}, {"seed": 2**63 - 1}, {"draws": 0}):
        for candidate in ("better", "same", "few"):
            assert (await ask(judged, candidate, **changes))["verdicts"][0]["sentence"]


# --- Live runs.


async def send(stack: "Stack", number: int, questions: list[dict[str, Any]]) -> None:
    """Send a part of LIVE, and wait until it is applied."""
    response = await stack.results.post(f"/live_runs/{LIVE}/parts/{number}", json={"questions": questions})
    assert response.status_code == 201, response.text
    await stack.settle()


async def test_a_live_verdict_stays_what_it_was_once_decided(stack: "Stack") -> None:
    rng = np.random.default_rng(6)
    base = (rng.random(400) < 0.5).astype(float).tolist()
    await stack.push(result("base", base))
    envelope = {"run_id": "live", "benchmark_name": "math500", "timestamp": "2024-06-01T00:00:00Z"}
    opened = await stack.results.post("/live_runs", json=envelope | {"model_id": "candidate", "source": "tests"})
    assert opened.status_code == 201, opened.text
    questions = answers((rng.random(400) < 0.65).astype(float).tolist())
    order = rng.permutation(400).tolist()
    looks = []
    for part in range(8):
        await send(stack, part + 1, [questions[place] for place in order[50 * part : 50 * part + 50]])
        answer = await ask(stack, run=LIVE)
        (own,) = answer["verdicts"]
        live = own["live"]
        assert (live["of"], live["path"][-1]["n"]) == (400, 50 * part + 50)
        assert (own["verdict"], answer["verdict"]) == (live["verdict"], live["verdict"])
        assert own["pair"]["p"] is not None
        assert own["pair"]["p_adjusted"] is own["pair"]["significant"] is own["ci_within_low"] is None
        assert any("single look" in warning for warning in own["pair"]["warnings"])
        assert own["sentence"].startswith("So far ")
        assert live["warnings"] == []
        looks.append(live)
    decided = [look["decided_at"] for look in looks]
    first = next(place for place, at in enumerate(decided) if at is not None)
    assert 0 < first < 7, "this seed is to show both"
    assert {look["verdict"] for look in looks[:first]} == {"inconclusive"}
    assert {look["verdict"] for look in looks[first:]} == {"better"}
    assert set(decided[first:]) == {decided[first]}
    differences = np.array([questions[place]["score"] - base[place] for place in order])
    for look in looks[-1]["path"]:
        assert look["delta"] == pytest.approx(differences[: look["n"]].mean())
        assert look["ci_low"] <= look["delta"] <= look["ci_high"]

    by_model = await stack.analysis.post(
        "/significance",
        json={"benchmarks": ["math500"], "candidate": {"model": "candidate"}, "baseline": {"model": "base"}},
    )
    assert by_model.status_code == 422
    assert LIVE in by_model.json()["detail"], "a live run is nobody's latest, but it is told"

    await stack.results.post(f"/live_runs/{LIVE}/finish", json={"parts": 8})
    await stack.settle()
    (own,) = (await ask(stack, run=LIVE))["verdicts"]
    assert (own["live"], own["verdict"], own["pair"]["significant"]) == (None, "better", True)
    assert own["sentence"].startswith(f"{LIVE} is better than base on math500: ")


async def test_live_questions_in_blocks_are_warned_of(stack: "Stack") -> None:
    await stack.push(result("base", right(100, 100)))
    envelope = {"run_id": "live", "benchmark_name": "math500", "timestamp": "2024-06-01T00:00:00Z"}
    await stack.results.post("/live_runs", json=envelope | {"model_id": "candidate", "source": "tests"})
    questions = sorted(answers(right(200)), key=lambda question: str(question["metadata"]["subject"]))
    await send(stack, 1, questions)
    (own,) = (await ask(stack, run=LIVE))["verdicts"]
    assert ["blocks by subject" in warning for warning in own["live"]["warnings"]] == [True]
    (own,) = (await ask(stack, run=LIVE, cluster_by="subject"))["verdicts"]
    assert ["independent" in warning for warning in own["live"]["warnings"]] == [False, True]
    refused = await stack.analysis.post(
        "/significance",
        json={"benchmarks": ["math500"], "candidate": {"model": "base"}, "baseline": {"run": LIVE}},
    )
    assert refused.status_code == 422
    assert refused.json()["faults"][0]["place"] == "baseline.run"


async def test_a_live_run_without_shared_questions(stack: "Stack") -> None:
    await stack.push(result("base", right(100, 100)))
    envelope = {"run_id": "live", "benchmark_name": "math500", "timestamp": "2024-06-01T00:00:00Z"}
    await stack.results.post("/live_runs", json=envelope | {"model_id": "candidate", "source": "tests"})
    await send(stack, 1, [{"question_id": "another", "score": 1.0}])
    (own,) = (await ask(stack, run=LIVE))["verdicts"]
    assert (own["verdict"], own["live"]["path"], own["live"]["decided_at"]) == ("inconclusive", [], None)
    assert "no question yet" in own["sentence"]

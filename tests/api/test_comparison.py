"""POST /comparison against both services; what it says is worked out again from the pushed documents, by scipy."""

import json
import random
from collections.abc import AsyncIterator, Mapping
from itertools import combinations
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tests.api.conftest import Stack, run_stack

POINTS = """
name = "points"
title = { en = "Points" }
description = { en = "Scores from 0 to 100." }
score_max = 100.0
[[fields]]
name = "subject"
type = "category"
description = { en = "What it is about." }
"""
SUBJECTS = ["Algebra", "Geometry", "Prealgebra", "Precalculus", "Number Theory", "Counting & Probability"]
THREE = ["gpt-4", "gpt-4o", "deepseek-r1"]

Question = dict[str, Any]
Documents = Mapping[tuple[str, str], list[Question]]
"""(Benchmark, model) → the questions of its run."""


def question(number: int, score: float | None, *, subject: str | None = None, **more: Any) -> Question:
    metadata = {"subject": SUBJECTS[number % 6] if subject is None else subject, "level": 1 + number % 5}
    told = {"score": score} if score is not None else {"status": "error"}
    return {"question_id": f"q{number}", "metadata": metadata, **told, **more}


def made_up() -> Documents:
    chance = random.Random(6)

    def right(share: float) -> float:
        return float(chance.random() < share)

    def repeated(number: int, shift: float) -> list[Question]:
        attempts = [round(min(1.0, max(0.0, chance.gauss(0.5 + shift, 0.2))), 2) for _ in range(3)]
        return [question(number, score, attempt=attempt) for attempt, score in enumerate(attempts)]

    return {
        ("math500", "gpt-4"): [question(number, right(0.5)) for number in range(300)],
        ("math500", "gpt-4o"): [question(number, right(0.62)) for number in range(20, 320)],
        ("math500", "deepseek-r1"): [
            question(number, right(0.95) if number % 10 else None) for number in reversed(range(300))
        ],
        ("math500", "repeats/a"): [attempt for number in range(40) for attempt in repeated(number, 0.1)],
        ("math500", "repeats/b"): [attempt for number in range(60) for attempt in repeated(number, 0.0)],
        ("math500", "perfect/a"): [question(number, 1.0) for number in range(30)],
        ("math500", "perfect/b"): [question(number, 1.0) for number in range(30)],
        ("math500", "zero"): [question(number, 0.0) for number in range(30)],
        ("math500", "few/a"): [question(number, 1.0) for number in range(19)],
        ("math500", "elsewhere"): [question(number, 1.0) for number in range(600, 650)],
        ("math500", "failed"): [question(number, None) for number in range(30)],
        ("mmlu-redux", "gpt-4"): [question(number, right(0.6), subject="anatomy") for number in range(80)],
        ("mmlu-redux", "gpt-4o"): [question(number, right(0.7), subject="anatomy") for number in range(100)],
        ("points", "gpt-4"): [question(number, 100 * right(0.6)) for number in range(50)],
        ("points", "gpt-4o"): [question(number, 100 * right(0.4)) for number in range(50)],
    }


DOCUMENTS = made_up()


def document(benchmark: str, model: str, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "run_id": model.replace("/", "-"),
        "benchmark_name": benchmark,
        "timestamp": "2024-01-01T00:00:00Z",
        "model_id": model,
        "source": "tests",
        "data": data,
        **changes,
    }


def name_of(benchmark: str, model: str) -> str:
    return f"2024-01-01T00:00:00Z-{benchmark}-{model.replace('/', '-')}"


@pytest.fixture(scope="session")
async def compared(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack with `DOCUMENTS`; only for tests that change nothing."""
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "points.toml").write_text(POINTS)
    async with run_stack(mongo_url, "comparison", folder / "a.sqlite", scorehouse_registry_dir=folder) as stack:
        await stack.push(
            *(document(*key, {"questions": questions}) for key, questions in DOCUMENTS.items()),
            document("math500", "stated", {"accuracy": 0.5}),
        )
        yield stack


async def compare(stack: Stack, **request: Any) -> dict[str, Any]:
    response = await stack.analysis.post("/comparison", json={"benchmark": "math500", **request})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert all(isfinite(number) for number in numbers_in(answer))
    return answer


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for inner in value for number in numbers_in(inner)]
    return [value] if isinstance(value, float) else []


def means(benchmark: str, model: str, documents: Documents = DOCUMENTS) -> dict[str, float]:
    """The slow way: question → the mean of its scored attempts."""
    scored: dict[str, list[float]] = {}
    for asked in documents[benchmark, model]:
        if "score" in asked:
            scored.setdefault(asked["question_id"], []).append(asked["score"])
    return {name: sum(scores) / len(scores) for name, scores in scored.items()}


def differences(benchmark: str, a: str, b: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    own, other = means(benchmark, a), means(benchmark, b)
    return np.array([own[name] - other[name] for name in sorted(own.keys() & other.keys())])


def check_pair(pair: dict[str, Any], values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """What any pair says of its differences."""
    n, delta, se = len(values), values.mean(), values.std(ddof=1) / sqrt(len(values))
    wins, losses = int((values > 1e-9).sum()), int((values < -1e-9).sum())
    assert (pair["n_shared"], pair["wins"], pair["losses"], pair["ties"]) == (n, wins, losses, n - wins - losses)
    assert (pair["delta"], pair["se"]) == pytest.approx((delta, se), rel=1e-9)
    assert pair["mean_a"] - pair["mean_b"] == pytest.approx(delta, abs=1e-12)
    told_by = stats.norm if pair["df"] is None else stats.t(pair["df"])
    # Scores are told right or wrong on scales from 0 to 1 here.
    answer = pair["test"] == "exact mcnemar"
    assert pair["mde80"] == pytest.approx((told_by.ppf(0.975) + told_by.ppf(0.8)) * se + answer / n, rel=1e-9)
    plain = ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * se / delta) ** 2 * n
    assert pair["questions_needed"] == ceil(plain / 4 * (1 + sqrt(1 + 4 * answer / (plain * abs(delta)))) ** 2)
    assert pair["bootstrap_low"] == pytest.approx(delta - 1.96 * se, abs=0.3 * se)
    assert pair["bootstrap_high"] == pytest.approx(delta + 1.96 * se, abs=0.3 * se)
    assert pair["reason"] is None


async def test_right_or_wrong_answers(compared: Stack) -> None:
    """All pairs of three, of which each was asked something else."""
    answer = await compare(compared, models=THREE)
    assert [(pair["a"], pair["b"]) for pair in answer["pairs"]] == list(combinations(THREE, 2))
    p = []
    for pair in answer["pairs"]:
        values = differences("math500", pair["a"], pair["b"])
        check_pair(pair, values)
        p.append(stats.binomtest(pair["wins"], pair["wins"] + pair["losses"]).pvalue)
        assert pair["p"] == pytest.approx(p[-1], rel=1e-9)
        assert (pair["method"], pair["test"], pair["df"]) == ("tango", "exact mcnemar", None)
        # Tango's limits are the differences that a score test at this level does not reject.
        for limit in (pair["ci_low"], pair["ci_high"]):
            assert abs(score_statistic(pair["wins"], pair["losses"], pair["n_shared"], limit)) == pytest.approx(
                stats.norm.ppf(0.975), rel=1e-6
            )
        assert pair["ci_low"] < pair["delta"] < pair["ci_high"]
    adjusted = multipletests(p, method="holm")[1]
    assert [pair["p_adjusted"] for pair in answer["pairs"]] == pytest.approx(adjusted, rel=1e-9)
    assert [pair["significant"] for pair in answer["pairs"]] == (adjusted <= 0.05).tolist() == [True, True, True]
    assert (answer["n_tests"], answer["correction"], answer["confidence"]) == (3, "holm", 0.95)


def score_statistic(wins: int, losses: int, n: int, delta: float) -> float:
    """Tango 1998, eq. 4 and 5, as they are printed."""
    a, b = 2 * n, -wins - losses + (2 * n - wins + losses) * delta
    lost = (sqrt(b * b - 4 * a * -losses * delta * (1 - delta)) - b) / (2 * a)
    return (wins - losses - n * delta) / sqrt(n * (2 * lost + delta * (1 - delta)))


async def test_entries_and_their_ranks(compared: Stack) -> None:
    answer = await compare(compared, models=THREE)
    all_share = set.intersection(*(set(means("math500", model)) for model in THREE))
    assert answer["n_shared_by_all"] == len(all_share)
    assert [entry["name"] for entry in answer["entries"]] == ["deepseek-r1", "gpt-4o", "gpt-4"]
    for entry in answer["entries"]:
        own = list(means("math500", entry["name"]).values())
        n, right = len(own), int(sum(own))
        assert (entry["n"], entry["n_questions"], entry["method"]) == (n, n, "wilson")
        assert entry["mean"] == pytest.approx(right / n, rel=1e-12)
        assert (entry["ci_low"], entry["ci_high"]) == pytest.approx(proportion_confint(right, n, method="wilson"))
        assert entry["se"] == pytest.approx(np.std(own) / sqrt(n), rel=1e-9)
        assert [run["result_name"] for run in entry["runs"]] == [name_of("math500", entry["name"])]
    assert [(entry["rank"], entry["tie_group"]) for entry in answer["entries"]] == [(1, 1), (2, 2), (3, 3)]
    assert [(entry["rank_low"], entry["rank_high"]) for entry in answer["entries"]] == [(1, 1), (2, 2), (3, 3)]
    assert sum(entry["p_best"] for entry in answer["entries"]) == pytest.approx(1)
    assert answer["entries"][0]["p_best"] > 0.99


async def test_who_is_not_told_apart_is_tied(compared: Stack) -> None:
    """At a confidence that leaves nothing certain but the very best."""
    models = ["gpt-4", "gpt-4o", "perfect/a", "perfect/b"]
    answer = await compare(compared, models=models, draws=0, correction="none")
    entries = {entry["name"]: entry for entry in answer["entries"]}
    assert answer["n_shared_by_all"] < 20, "so there are no ranks"
    assert {entry["rank"] for entry in answer["entries"]} == {None}
    assert "10 questions are shared by all, and 20 are needed" in entries["gpt-4"]["reason"]
    answer = await compare(compared, models=["gpt-4", "perfect/a", "perfect/b", "zero"], draws=0)
    entries = {entry["name"]: entry for entry in answer["entries"]}
    told = {name: (own["rank"], own["rank_low"], own["rank_high"], own["tie_group"]) for name, own in entries.items()}
    assert told == {"perfect/a": (1, 1, 2, 1), "perfect/b": (1, 1, 2, 1), "gpt-4": (3, 3, 3, 2), "zero": (4, 4, 4, 3)}
    assert entries["zero"]["p_best"] is None
    assert "no bootstrap draws" in entries["zero"]["reason"]


async def test_ranks_are_about_what_all_share(compared: Stack) -> None:
    """gpt-4 and gpt-4o are told apart on 280 questions; of these everyone was asked 40, which do not tell."""
    models = ["gpt-4", "gpt-4o", "repeats/b"]
    answer = await compare(compared, models=models)
    scores = {model: means("math500", model) for model in models}
    all_share = sorted(set.intersection(*map(set, scores.values())))
    assert answer["n_shared_by_all"] == len(all_share) == 40
    ups, downs = (
        sum(scores[a][name] > scores[b][name] for name in all_share)
        for a, b in (("gpt-4o", "gpt-4"), ("gpt-4", "gpt-4o"))
    )
    assert stats.binomtest(ups, ups + downs).pvalue > 0.05 > answer["pairs"][0]["p_adjusted"]
    assert {(entry["rank_low"], entry["rank_high"], entry["tie_group"]) for entry in answer["entries"]} == {(1, 3, 1)}
    means_of_all = {model: np.mean([scores[model][name] for name in all_share]) for model in models}
    assert [entry["name"] for entry in answer["entries"]] == sorted(models, key=lambda model: -means_of_all[model])


async def test_means_of_several_attempts(compared: Stack) -> None:
    answer = await compare(compared, models=["repeats/a", "repeats/b"])
    [pair] = answer["pairs"]
    values = differences("math500", "repeats/a", "repeats/b")
    check_pair(pair, values)
    assert (pair["method"], pair["df"]) == ("paired t", 39)
    assert pair["test"].startswith("sign flips")
    reach = stats.t.ppf(0.975, 39) * values.std(ddof=1) / sqrt(40)
    assert (pair["ci_low"], pair["ci_high"]) == pytest.approx((values.mean() - reach, values.mean() + reach))
    assert pair["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    entries = {entry["name"]: entry for entry in answer["entries"]}
    assert (entries["repeats/b"]["n"], entries["repeats/b"]["n_questions"]) == (180, 60)
    assert {entry["method"] for entry in answer["entries"]} == {"wilson on effective n"}
    own = list(means("math500", "repeats/b").values())
    assert entries["repeats/b"]["mean"] == pytest.approx(np.mean(own))
    assert entries["repeats/b"]["se"] == pytest.approx(np.std(own, ddof=1) / sqrt(60))


async def test_the_other_way_round_everything_changes_its_sign(compared: Stack) -> None:
    """And nothing hangs on who else is compared, or on the way in which they are named."""
    [one] = (await compare(compared, models=["repeats/a", "repeats/b"], seed=2**62))["pairs"]
    [other] = (await compare(compared, models=["repeats/b", "repeats/a"], seed=2**62))["pairs"]
    runs = [name_of("math500", model) for model in ("repeats/a", "gpt-4", "repeats/b")]
    by_run = {(pair["a"], pair["b"]): pair for pair in (await compare(compared, runs=runs, seed=2**62))["pairs"]}
    again = by_run[runs[0], runs[2]]
    for name in ("delta", "ci_low", "bootstrap_low"):
        assert one[name] == again[name] == -other[name.replace("low", "high")]
    assert one["p"] == other["p"] == again["p"]
    assert (one["wins"], one["losses"]) == (other["losses"], other["wins"])
    [reseeded] = (await compare(compared, models=["repeats/a", "repeats/b"], seed=1))["pairs"]
    assert reseeded["bootstrap_low"] != one["bootstrap_low"]
    assert reseeded["ci_low"] == one["ci_low"]


async def test_benchmarks_are_pooled_question_by_question(compared: Stack) -> None:
    asked = {"benchmark": None, "benchmarks": ["math500", "mmlu-redux"], "models": ["gpt-4", "openai/gpt-4o"]}
    answer = await compare(compared, **asked)
    values = np.concatenate([differences(benchmark, "gpt-4", "gpt-4o") for benchmark in asked["benchmarks"] or []])
    check_pair(answer["pairs"][0], values)
    assert answer["n_shared_by_all"] == len(values) == 360
    assert [entry["name"] for entry in answer["entries"]] == ["gpt-4o", "gpt-4"], "an alias names its model"
    assert [len(entry["runs"]) for entry in answer["entries"]] == [2, 2]
    assert answer["benchmarks"] == asked["benchmarks"]
    partly = await compare(compared, **(asked | {"models": ["gpt-4", "gpt-4o", "deepseek-r1"]}))
    assert "mmlu-redux: no run of deepseek-r1" in partly["warnings"]
    assert [pair["n_shared"] for pair in partly["pairs"]] == [360, 270, 252]


@pytest.mark.parametrize(
    "asked",
    [
        {"filters": {"level": [1]}},
        {"benchmark": None, "benchmarks": ["math500", "points"], "weights": {"math500": 1.0, "points": 0.006}},
    ],
)
async def test_entries_do_not_hang_on_their_order(compared: Stack, asked: dict[str, Any]) -> None:
    some, others = [await compare(compared, models=models, draws=2000, **asked) for models in (THREE[:2], THREE[1::-1])]
    assert some["entries"] == others["entries"]
    assert some["entries"][1]["p_best"] > 0, "else any draws would do"


async def test_benchmarks_may_have_weights(compared: Stack) -> None:
    weights = {"math500": 1.0, "mmlu-redux": 2.5, "points": 0.5}
    asked = {"benchmark": None, "benchmarks": list(weights), "models": ["gpt-4", "gpt-4o"], "weights": weights}
    answer = await compare(compared, **asked)
    [pair] = answer["pairs"]
    values = {benchmark: differences(benchmark, "gpt-4", "gpt-4o") for benchmark in weights}
    delta = sum(weights[name] * own.mean() for name, own in values.items()) / 4
    se = sqrt(sum((weights[name] * own.std(ddof=1)) ** 2 / len(own) for name, own in values.items())) / 4
    assert (pair["delta"], pair["se"]) == pytest.approx((delta, se))
    assert pair["mean_a"] - pair["mean_b"] == pytest.approx(delta)
    alone = [(await compare(compared, benchmark=name, models=["gpt-4", "gpt-4o"]))["pairs"][0] for name in weights]
    below, above = (
        sqrt(
            sum((weight * (own[end] - own["delta"])) ** 2 for weight, own in zip(weights.values(), alone, strict=True))
        )
        / 4
        for end in ("ci_low", "ci_high")
    )
    assert (pair["ci_low"], pair["ci_high"]) == pytest.approx((delta - below, delta + above)), "MOVER"
    reach = below if delta > 0 else above
    assert pair["p"] == pytest.approx(2 * stats.norm.sf(stats.norm.ppf(0.975) * abs(delta) / reach))
    assert (pair["bootstrap_low"], pair["bootstrap_high"]) == pytest.approx(
        stats.norm.interval(0.95, delta, se), abs=0.2 * se
    )
    assert pair["n_shared"] == answer["n_shared_by_all"] == sum(map(len, values.values())) == 410
    entry = next(entry for entry in answer["entries"] if entry["name"] == "gpt-4")
    own = {benchmark: list(means(benchmark, "gpt-4").values()) for benchmark in weights}
    assert entry["mean"] == pytest.approx(sum(weights[name] * np.mean(scores) for name, scores in own.items()) / 4)
    assert entry["se"] == pytest.approx(
        sqrt(sum((weights[name] * np.std(scores)) ** 2 / len(scores) for name, scores in own.items())) / 4
    )
    assert pair["method"] == pair["test"] == "mover over weighted benchmarks"
    missing = await compare(compared, **(asked | {"models": ["gpt-4", "gpt-4o", "deepseek-r1"]}))
    assert missing["pairs"][0]["delta"] == pair["delta"]
    assert missing["pairs"][1]["delta"] is None
    assert "0 of mmlu-redux and 0 of points" in missing["pairs"][1]["reason"]


async def test_questions_may_belong_together(compared: Stack) -> None:
    """Six subjects: told, with a warning; Student's t over them by statsmodels, but for its degrees of freedom."""
    answer = await compare(compared, models=["gpt-4", "gpt-4o"], cluster_by="subject")
    [pair] = answer["pairs"]
    assert (pair["method"], pair["test"], pair["n_clusters"]) == ("clustered t (CR2)", "clustered t", 6)
    assert any("only 6 clusters" in warning for warning in pair["warnings"])
    values = differences("math500", "gpt-4", "gpt-4o")
    clusters = [int(name[1:]) % 6 for name in sorted(means("math500", "gpt-4").keys() & means("math500", "gpt-4o"))]
    totals = [sum(value for value, own in zip(values, clusters, strict=True) if own == c) for c in range(6)]
    sizes = [clusters.count(c) for c in range(6)]
    n, delta = len(values), values.mean()
    squares = [(total - size * delta) ** 2 / (1 - size / n) for total, size in zip(totals, sizes, strict=True)]
    se = sqrt(sum(squares)) / n
    assert (pair["delta"], pair["se"]) == pytest.approx((delta, se))
    assert 4 < pair["df"] <= 5
    assert pair["p"] == pytest.approx(2 * stats.t.sf(abs(delta / se), pair["df"]))
    assert pair["bootstrap_low"] is None
    assert "clusters are not bootstrapped" in pair["reason"]
    assert {entry["method"] for entry in answer["entries"]} == {"wilson on effective n (CR2)"}
    both = {"benchmark": None, "benchmarks": ["math500", "mmlu-redux"], "models": ["gpt-4", "gpt-4o"]}
    assert (await compare(compared, **both, cluster_by="subject"))["pairs"][0]["n_clusters"] == 7
    few = await compare(
        compared, models=["gpt-4", "gpt-4o"], cluster_by="subject", filters={"level": [1], "subject": SUBJECTS[:4]}
    )
    assert few["pairs"][0]["p"] is None
    assert "4 clusters tell too little" in few["pairs"][0]["reason"]
    assert "fewer than 5 values of subject" in few["entries"][0]["reason"]
    alone = await compare(compared, models=["gpt-4", "gpt-4o"], cluster_by="proof_required")
    assert alone["pairs"][0]["n_clusters"] == 280
    assert alone["pairs"][0]["se"] == pytest.approx(values.std(ddof=1) / sqrt(280))
    assert any("320 questions have no proof_required" in warning for warning in alone["warnings"])


async def test_filters_keep_questions(compared: Stack) -> None:
    answer = await compare(compared, models=["gpt-4", "gpt-4o"], filters={"level": [2, 3, 4], "subject": ["Algebra"]})
    kept = [number for number in range(20, 300) if number % 5 in (1, 2, 3) and number % 6 == 0]
    assert answer["pairs"][0]["n_shared"] == len(kept)
    assert answer["entries"][0]["n_questions"] == len(
        [number for number in range(20, 320) if number % 5 in (1, 2, 3) and number % 6 == 0]
    )
    assert all(question["metadata"]["subject"] == "Algebra" for question in answer["contested"])


async def test_contested_questions(compared: Stack) -> None:
    answer = await compare(compared, models=THREE, contested=200)
    scores = {model: means("math500", model) for model in THREE}
    all_share = set.intersection(*map(set, scores.values()))
    divided = {name for name in all_share if len({scores[model][name] for model in THREE}) > 1}
    assert answer["n_contested"] == len(divided)
    assert {question["question_id"] for question in answer["contested"]} <= divided
    assert len(answer["contested"]) == min(200, len(divided))
    for told in answer["contested"]:
        name = told["question_id"]
        assert told["scores"] == {model: scores[model][name] for model in THREE}
        number = int(name[1:])
        assert told["metadata"] == {"subject": SUBJECTS[number % 6], "level": 1 + number % 5}
        assert (told["benchmark"], told["content_hash"]) == ("math500", None)
    repeats = (await compare(compared, models=["repeats/a", "repeats/b"], contested=40))["contested"]
    spreads = [abs(told["scores"]["repeats/a"] - told["scores"]["repeats/b"]) for told in repeats]
    assert spreads == pytest.approx(sorted(spreads, reverse=True))
    assert spreads[0] > spreads[-1] > 0
    assert (await compare(compared, models=THREE, contested=0))["contested"] == []


async def test_what_cannot_be_told_is_null_with_its_reason(compared: Stack) -> None:
    answer = await compare(compared, models=["perfect/a", "perfect/b", "zero", "few/a", "gpt-4", "failed"])
    pairs = {(pair["a"], pair["b"]): pair for pair in answer["pairs"]}
    same = pairs["perfect/a", "perfect/b"]
    assert (same["delta"], same["p"], same["se"], same["mde80"], same["questions_needed"]) == (0, 1, None, None, None)
    assert "differ by the same on all shared questions" in same["reason"]
    apart = pairs["perfect/a", "zero"]
    assert (apart["delta"], apart["se"]) == (1, None)
    assert apart["p"] < 1e-6
    few = pairs["few/a", "gpt-4"]
    assert (few["n_shared"], few["delta"], few["p"], few["p_adjusted"], few["significant"]) == (19, *[None] * 4)
    assert few["reason"] == "19 shared questions; fewer than 20 are not compared"
    assert answer["n_tests"] == sum(pair["p"] is not None for pair in answer["pairs"]) == 6
    failed = next(entry for entry in answer["entries"] if entry["name"] == "failed")
    assert (failed["n"], failed["mean"], failed["ci_low"]) == (0, None, None)
    assert "no attempt was scored" in failed["reason"]


async def test_no_two_share_enough(compared: Stack) -> None:
    for models, told in (
        (["gpt-4", "few/a"], "gpt-4 and few/a share 19 scored questions of math500, and a comparison needs 20"),
        (["gpt-4", "elsewhere"], "gpt-4 and elsewhere share 0"),
        (["gpt-4", "failed"], "gpt-4 and failed share 0"),
        (["elsewhere", "gpt-4", "few/a"], "gpt-4 and few/a share 19"),
    ):
        response = await compared.analysis.post("/comparison", json={"benchmark": "math500", "models": models})
        assert response.status_code == 422
        assert response.json()["type"] == "urn:scorehouse:problem:too-few-shared-questions"
        assert told in response.json()["detail"]


TWO = {"models": ["gpt-4", "gpt-4o"]}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "body", "name either `models` or `runs`"),
    ({**TWO, "runs": ["x"]}, "body", "name either `models` or `runs`"),
    ({**TWO, "benchmarks": ["math500"]}, "body", "name either `benchmark` or `benchmarks`"),
    ({**TWO, "benchmark": "maths500"}, "benchmark", "did you mean 'math500'"),
    ({**TWO, "benchmark": None, "benchmarks": ["math500", "x"]}, "benchmarks[1]", "no benchmark 'x'"),
    ({**TWO, "benchmark": None, "benchmarks": []}, "benchmarks", "at least 1"),
    ({"models": ["gpt-4"]}, "models", "at least two"),
    ({"models": []}, "models", "at least 1"),
    ({"models": ["gpt-4", "gpt-4"]}, "models[1]", "is named already"),
    ({"models": ["gpt-4", "openai/gpt-4"]}, "models[1]", "'openai/gpt-4' is 'gpt-4', which is named already"),
    ({"models": ["gpt-4", "gpt-4oo"]}, "models[1]", "did you mean 'gpt-4o'"),
    ({"models": ["gpt-4", "llama-4-maverick"]}, "models[1]", "has no finished run with questions of math500"),
    ({"models": ["gpt-4", "stated"]}, "models[1]", "has no finished run with questions"),
    ({"models": [f"m{number}" for number in range(51)]}, "models", "at most 50 are compared at once, these are 51"),
    ({"runs": [name_of("math500", "gpt-4")]}, "runs", "at least two"),
    ({"runs": [name_of("math500", "gpt-4")] * 2}, "runs[1]", "is named already"),
    ({"runs": [name_of("math500", "gpt-4"), "x"]}, "runs[1]", "no valid run of math500 'x'"),
    (
        {"runs": [name_of("math500", "gpt-4"), name_of("mmlu-redux", "gpt-4")]},
        "runs[1]",
        "is a result of mmlu-redux, not of math500",
    ),
    ({"runs": [name_of("math500", "gpt-4"), name_of("math500", "stated")]}, "runs[1]", "holds no questions"),
    ({**TWO, "benchmark": None, "benchmarks": ["math500", "points"]}, "benchmarks", "0 to 1 and 0 to 100"),
    ({**TWO, "weights": {"math500": 1, "aime": 1}}, "weights.aime", "no benchmark of this comparison 'aime'"),
    (
        {**TWO, "benchmark": None, "benchmarks": ["math500", "points"], "weights": {"points": 1}},
        "weights.math500",
        "is required",
    ),
    ({**TWO, "weights": {"math500": 0}}, "weights.math500", "greater than 0"),
    ({**TWO, "weights": {"math500": True}}, "weights.math500", "valid number"),
    ({**TWO, "weights": {"math500": 1e400}}, "weights.math500", ""),
    ({**TWO, "cluster_by": "passage"}, "cluster_by", "no field of math500 'passage'"),
    ({**TWO, "filters": {"levl": [1]}}, "filters.levl", "did you mean 'level'"),
    ({**TWO, "filters": {"model": ["gpt-4"]}}, "filters.model", "no field of math500"),
    ({**TWO, "filters": {"level": ["one"]}}, "filters.level[0]", "a whole number"),
    ({**TWO, "filters": {"level": []}}, "filters.level", "at least one value"),
    ({**TWO, "seed": 2**70}, "seed", "less than or equal to"),
    ({**TWO, "seed": -1}, "seed", "greater than or equal to 0"),
    ({**TWO, "seed": 1.5}, "seed", "integer"),
    ({**TWO, "confidence": 1}, "confidence", "less than or equal to 0.9999"),
    ({**TWO, "draws": 10**6}, "draws", "less than or equal to 20000"),
    ({**TWO, "contested": 201}, "contested", "less than or equal to 200"),
    ({**TWO, "correction": "bonferroni"}, "correction", "'holm', 'bh' or 'none'"),
    ({**TWO, "model": "x"}, "model", "is not a field of this request"),
]


@pytest.mark.parametrize(("request_", "place", "words"), REFUSED)
async def test_what_is_wrong_is_named(compared: Stack, request_: dict[str, Any], place: str, words: str) -> None:
    body = {"benchmark": "math500", **request_}
    content = json.dumps(body).replace("Infinity", "1e400")
    response = await compared.analysis.post("/comparison", content=content)
    assert response.status_code == 422, response.text
    faults = {fault["place"]: fault["detail"] for fault in response.json()["faults"]}
    assert words in faults[place]


async def test_nan_is_no_number(compared: Stack) -> None:
    body = '{"benchmark": "math500", "models": ["gpt-4", "gpt-4o"], "weights": {"math500": NaN}}'
    assert (await compared.analysis.post("/comparison", content=body)).status_code == 400


async def test_corrections(compared: Stack) -> None:
    models = ["gpt-4", "gpt-4o", "repeats/a", "repeats/b"]
    p = [pair["p"] for pair in (await compare(compared, models=models, correction="none"))["pairs"]]
    for name, method in (("holm", "holm"), ("bh", "fdr_bh")):
        answer = await compare(compared, models=models, correction=name, confidence=0.8)
        adjusted = multipletests(p, alpha=0.2, method=method)[1]
        assert [pair["p_adjusted"] for pair in answer["pairs"]] == pytest.approx(adjusted)
        assert [pair["significant"] for pair in answer["pairs"]] == (adjusted <= 0.2).tolist()
    unchanged = await compare(compared, models=models, correction="none")
    assert [pair["p_adjusted"] for pair in unchanged["pairs"]] == p


async def test_what_makes_two_hard_to_compare_is_told(stack: Stack) -> None:
    def pushed(model: str, provenance: dict[str, Any] | None, texts: str) -> dict[str, Any]:
        questions = [
            question(number, float(number % 3 == 0), content_hash=f"{texts if number < 7 else 'same'}-{number}")
            for number in range(40)
        ]
        return document("math500", model, {"questions": questions}, provenance=provenance)

    settings = {"harness": "lm-eval", "harness_version": "0.4.8", "task_version": "1", "grader": "exact"}
    other = {"harness": "lm-eval", "harness_version": "0.4.9", "task_version": "2", "grader": "judge"}
    await stack.push(
        pushed("gpt-4", settings | {"config": {"temperature": 0, "seed": 1}}, "x"),
        pushed("gpt-4o", other | {"config": {"temperature": 0.7, "seed": 2}}, "y"),
        pushed("deepseek-r1", settings | {"config": {"seed": 3, "temperature": 0.0}}, "x"),
        pushed("claude-3.5-sonnet", {"harness": "helm", "harness_version": "0.4.8"}, "x"),
        pushed("silent", None, "x"),
    )
    models = ["gpt-4", "gpt-4o", "deepseek-r1", "claude-3.5-sonnet", "silent"]
    answer = await compare(stack, models=models)
    warnings = {(pair["a"], pair["b"]): pair["warnings"] for pair in answer["pairs"]}
    assert warnings["gpt-4", "gpt-4o"] == [
        "math500: other versions of the harness, '0.4.8' and '0.4.9'",
        "math500: other versions of the task, '1' and '2'",
        "math500: other graders, 'exact' and 'judge'",
        "math500: other settings, such as the prompt or sampling (`provenance.config`)",
        "math500: 7 questions of the same id are not shared: their texts differ, or only one of the two says what they "
        "are",
    ]
    assert warnings["gpt-4", "deepseek-r1"] == warnings["gpt-4", "silent"] == []
    assert warnings["gpt-4", "claude-3.5-sonnet"] == ["math500: other harnesses, 'lm-eval' and 'helm'"]
    assert {pair["n_shared"] for pair in answer["pairs"]} == {33, 40}
    assert "not in the model registry: silent" in answer["warnings"]
    assert answer["contested"] == []
    assert [pair["p"] for pair in answer["pairs"]] == [1] * 10


async def test_an_answer_holds_until_something_changes(stack: Stack, tmp_path: Path) -> None:
    questions = [question(number, float(number % 2)) for number in range(30)]
    await stack.push(*(document("math500", model, {"questions": questions}) for model in ("gpt-4", "gpt-4o")))
    body = {"benchmark": "math500", "models": ["gpt-4", "gpt-4o"]}
    first = await stack.analysis.post("/comparison", json=body)
    again = await stack.analysis.post("/v1/comparison", json=body, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    answers = stack.app.state.answers
    assert (answers.hits, answers.misses) == (1, 1)
    later = [question(number, 1.0) for number in range(500)]
    await stack.push(
        document("math500", "gpt-4", {"questions": later}, run_id="later", timestamp="2025-01-01T00:00:00Z")
    )
    changed = (await stack.analysis.post("/comparison", json=body)).json()
    assert changed["pairs"][0]["wins"] == 15
    assert changed["data_version"] != first.json()["data_version"]


async def test_a_live_run_counts_where_it_is_asked_for(stack: Stack) -> None:
    questions = [question(number, float(number % 2)) for number in range(30)]
    await stack.push(document("math500", "gpt-4o", {"questions": questions}, provenance={"harness": "other"}))
    envelope = document("math500", "gpt-4", {}, provenance={"harness": "own"})
    envelope.pop("data")
    name = name_of("math500", "gpt-4")
    for path, content in (
        ("/live_runs", envelope),
        (f"/live_runs/{name}/parts/1", {"questions": [question(number, 1.0) for number in range(25)]}),
    ):
        response = await stack.results.post(path, json=content)
        assert response.is_success, response.text
    await stack.settle()
    body = {"benchmark": "math500", "models": ["gpt-4", "gpt-4o"]}
    refused = await stack.analysis.post("/comparison", json=body)
    assert "no finished run" in refused.json()["detail"]
    for asked in ({"models": ["gpt-4", "gpt-4o"], "live": True}, {"runs": [name, name_of("math500", "gpt-4o")]}):
        answer = await compare(stack, **asked)
        assert (answer["pairs"][0]["n_shared"], answer["pairs"][0]["wins"]) == (25, 13)
        assert f"still going on: {name}" in answer["warnings"]
        assert answer["pairs"][0]["warnings"] == ["math500: other harnesses, 'own' and 'other'"]

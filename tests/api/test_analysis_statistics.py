"""POST /analysis with statistics: intervals, ledger, macro means, clusters, a baseline, and what is refused."""

import json
from typing import Any

import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from analysis_service.group_by.analyze import analyze
from scorehouse.sample import sample_documents
from shared.analysis import AnalysisRequest
from tests.api.conftest import Stack

STATISTICS = [
    "se", "ci_low", "ci_high", "method", "confidence", "n_clusters",
    "macro_mean", "macro_se", "macro_ci_low", "macro_ci_high",
    "n_asked", "n_answered", "n_scored", "n_refused", "n_truncated", "n_error", "n_unscored",
]  # fmt: skip
DELTAS = [
    "n_shared", "delta", "delta_se", "delta_ci_low", "delta_ci_high", "delta_method", "p", "p_adjusted", "significant",
]  # fmt: skip


def result(model: str, questions: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "run_id": model,
        "benchmark_name": "math500",
        "timestamp": "2024-01-01T00:00:00Z",
        "model_id": model,
        "source": "tests",
        "data": {"questions": questions},
    } | changes


def question(number: int, score: float | None, *, status: str = "scored", **changes: Any) -> dict[str, Any]:
    told = {"question_id": f"q{number}", "status": status, "metadata": {"subject": "Algebra", "level": number % 5 + 1}}
    return told | ({} if score is None else {"score": score}) | changes


async def rows_of(stack: Stack, **request: Any) -> list[dict[str, Any]]:
    response = await stack.analyze(**request)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["rows"]
    return rows


async def test_every_row_has_its_interval_and_nothing_else_changes(sample_stack: Stack) -> None:
    request = {"benchmark": "math500", "level1": "subject", "level2": "level", "order_by": "-mean", "limit": 100}
    plain = (await sample_stack.analyze(**request)).json()
    answer = (await sample_stack.analyze(**request, statistics=True)).json()
    keys = list(plain["rows"][0])
    assert list(answer["rows"][0]) == [*keys, *STATISTICS, "reason"]
    assert [{name: row[name] for name in keys} for row in answer["rows"]] == plain["rows"]
    assert {name: value for name, value in answer.items() if name not in ("rows", "macro_over")} == {
        name: value for name, value in plain.items() if name != "rows"
    }
    for row in answer["rows"]:
        low, high = proportion_confint(round(row["n"] * row["mean"]), row["n"], 0.05, "wilson")
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=1e-9)
        assert (row["method"], row["confidence"], row["n_clusters"]) == ("wilson", 0.95, None)
        assert row["n_asked"] == sum(row[name] for name in ("n_answered", "n_refused", "n_truncated", "n_error"))
        assert row["n_answered"] == row["n_scored"] + row["n_unscored"]
        assert row["n_scored"] == row["n"]
        assert (row["se"] is None) == (row["n"] == 1) == (row["reason"] is not None)


async def test_what_is_sent_is_what_the_model_says(sample_stack: Stack) -> None:
    for more in ({}, {"statistics": True}, {"statistics": True, "baseline_model": "gpt-4", "macro_over": "level"}):
        request: dict[str, Any] = {"benchmark": "math500", "level1": "subject", **more}
        sent = await sample_stack.analyze(**request)
        told = await analyze(sample_stack.app.state.reader, AnalysisRequest.model_validate(request))
        assert sent.text == told.model_dump_json()


async def test_attempts_that_failed_are_counted_and_bounded(stack: Stack) -> None:
    statuses = ["refused"] * 4 + ["truncated"] * 3 + ["error"] * 2 + ["unscored"]
    failed = [question(100 + number, None, status=status) for number, status in enumerate(statuses)]
    await stack.push(result("gpt-4", [*(question(number, int(number % 4 > 0)) for number in range(40)), *failed]))
    request: dict[str, Any] = {"benchmark": "math500", "level1": "subject", "statistics": True}
    [row] = await rows_of(stack, **request)
    ledger = {name: row[name] for name in STATISTICS if name.startswith("n_") and name != "n_clusters"}
    assert ledger == {
        "n_asked": 50, "n_answered": 41, "n_scored": 40, "n_refused": 4, "n_truncated": 3, "n_error": 2,
        "n_unscored": 1,
    }  # fmt: skip
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(proportion_confint(30, 40, 0.05, "wilson"))
    [row] = await rows_of(stack, **request, error_policy="wrong")
    assert (row["n"], row["mean"]) == (49, pytest.approx(30 / 49))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(proportion_confint(30, 49, 0.05, "wilson"))
    [row] = await rows_of(stack, **request, error_policy="bounds")
    assert (row["mean"], row["mean_low"], row["mean_high"]) == (0.75, 0.6, 0.8)
    low, high = proportion_confint(30, 50, 0.05, "beta")[0], proportion_confint(40, 50, 0.05, "beta")[1]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high)), "whatever the failed ones would have scored"


async def test_several_attempts_at_a_question_are_not_so_many_questions(stack: Stack) -> None:
    once = [question(number, number % 2) for number in range(40)]
    again = [question(number, number % 2, attempt=attempt) for number in range(40) for attempt in range(5)]
    await stack.push(result("gpt-4", once), result("gpt-4o", again))
    request: dict[str, Any] = {"benchmark": "math500", "level1": "model", "statistics": True, "explain": True}
    answer = (await stack.analyze(**request)).json()
    single, repeated = answer["rows"]
    assert (single["method"], single["n_clusters"]) == ("wilson", None)
    assert (repeated["method"], repeated["n"], repeated["n_clusters"]) == ("wilson on effective n", 200, 40)
    assert repeated["se"] == pytest.approx(0.5 / 39**0.5), "as of 40 questions"
    assert answer["plan"]["kind"] == "answers"
    assert "1 of 2 runs may have several attempts at a question in one row" in answer["plan"]["reason"]
    [pooled] = await rows_of(
        stack, benchmark="math500", level1="subject", by_model=False, models=["gpt-4"], statistics=True
    )
    assert {name: pooled[name] for name in STATISTICS} == {name: single[name] for name in STATISTICS} | {
        name: pooled[name] for name in STATISTICS if name.startswith("macro")
    }
    [both] = await rows_of(stack, benchmark="math500", level1="subject", by_model=False, statistics=True)
    assert (both["n"], both["n_clusters"]) == (240, 40), "the questions of both models are the same"


async def test_fractions_have_a_t_interval(stack: Stack) -> None:
    scores = [number / 29 for number in range(30)]
    await stack.push(
        result("gpt-4", [question(number, score) for number, score in enumerate(scores)]),
        result("gpt-4o", [question(number, 0.5) for number in range(30)]),
        result("deepseek-r1", [question(0, 0.5)]),
        result("claude-3-opus", [question(0, None, status="error")]),
    )
    request: dict[str, Any] = {"benchmark": "math500", "level1": "model", "statistics": True, "confidence": 0.9}
    rows = {row["model"]: row for row in await rows_of(stack, **request)}
    some = rows["gpt-4"]
    low, high = stats.t.interval(0.9, 29, some["mean"], stats.sem(scores))
    assert (some["ci_low"], some["ci_high"], some["se"]) == pytest.approx((low, high, stats.sem(scores)))
    assert (some["method"], some["confidence"], some["reason"]) == ("t", 0.9, None)
    for model, reason in (
        ("gpt-4o", "all scores are equal"),
        ("deepseek-r1", "one question tells nothing of the error"),
        ("claude-3-opus", "no attempt was scored"),
    ):
        assert (rows[model]["ci_low"], rows[model]["ci_high"], rows[model]["method"]) == (None, None, None)
        assert rows[model]["reason"].startswith(reason)


async def test_macro_means_are_over_the_next_level(sample_stack: Stack) -> None:
    answer = (await sample_stack.analyze(benchmark="mmlu", level1="category", statistics=True)).json()
    parts = await rows_of(sample_stack, benchmark="mmlu", level1="category", level2="subject")
    assert answer["macro_over"] == "subject"
    for row in answer["rows"]:
        means = [part["mean"] for part in parts if all(part[name] == row[name] for name in ("model", "category"))]
        assert row["macro_mean"] == pytest.approx(sum(means) / len(means), abs=1e-9)
        assert row["macro_ci_low"] is None or row["macro_ci_low"] <= row["macro_mean"] <= row["macro_ci_high"]
    over = {
        "model": (await sample_stack.analyze(benchmark="mmlu", level1="model", statistics=True)).json()["macro_over"],
        "subject": (await sample_stack.analyze(benchmark="mmlu", level1="subject", statistics=True))
        .json()
        .get("macro_over"),
    }
    assert over == {"model": "category", "subject": None}
    both: dict[str, Any] = {"benchmarks": ["mmlu", "hle"], "level1": "category", "statistics": True}
    answer = (await sample_stack.analyze(**both)).json()
    assert ("macro_over" in answer, {row["macro_mean"] for row in answer["rows"]}) == (False, {None})
    assert any("name one as macro_over" in warning for warning in answer["warnings"])
    same = (await sample_stack.analyze(**both | {"benchmarks": ["mmlu", "mmlu-redux"]})).json()
    assert (same["macro_over"], None in {row["macro_mean"] for row in same["rows"]}) == ("subject", False)


async def test_clusters_are_the_values_of_a_field(stack: Stack) -> None:
    def told(number: int, places: int) -> dict[str, Any]:
        return question(number, number % places % 2, metadata={"subject": f"s{number % places}", "level": 1})

    await stack.push(
        result("gpt-4", [told(number, 30) for number in range(300)]),
        result("gpt-4o", [told(number, 8) for number in range(300)]),
        result("deepseek-r1", [told(number, 4) for number in range(300)]),
    )
    request: dict[str, Any] = {"benchmark": "math500", "level1": "model", "statistics": True, "cluster_by": "subject"}
    answer = (await stack.analyze(**request, explain=True)).json()
    assert (answer["plan"]["kind"], answer["plan"]["answers"]) == ("sums", 0)
    rows = {row["model"]: row for row in answer["rows"]}
    many, some, few = rows["gpt-4"], rows["gpt-4o"], rows["deepseek-r1"]
    # Within a cluster all answers are alike, so that 30 of them are worth 30 questions.
    assert (many["se"], many["n_clusters"]) == (pytest.approx(0.5 / 29**0.5), 30)
    assert many["method"] == some["method"] == "wilson on effective n (CR2)"
    assert any("cluster_by: 1 of 3 rows have fewer than 20 values of subject" in told for told in answer["warnings"])
    assert (few["se"], few["ci_low"], few["n_clusters"]) == (None, None, 4)
    assert few["reason"].startswith("fewer than 5 values of subject to cluster by")


async def test_a_baseline_is_compared_question_by_question(sample_stack: Stack) -> None:
    request: dict[str, Any] = {
        "benchmark": "mmlu", "level1": "category", "statistics": True, "baseline_model": "openai/gpt-4",
    }  # fmt: skip
    answer = (await sample_stack.analyze(**request, order_by="p", limit=20)).json()
    everything = (await sample_stack.analyze(**request, correction="none")).json()
    assert list(everything["rows"][0])[-len(DELTAS) - 1 :] == [*DELTAS[:-2], "reason", *DELTAS[-2:]]
    rows = [row for row in everything["rows"] if row["p"] is not None]
    assert (answer["baseline_model"], answer["correction"], answer["n_tests"]) == ("gpt-4", "holm", len(rows))
    assert (everything["correction"], everything["n_tests"]) == ("none", len(rows))
    assert len(answer["rows"]) == 20 < len(rows)
    adjusted = multipletests([row["p"] for row in rows], method="holm")[1]
    expected = {(row["model"], row["category"]): p for row, p in zip(rows, adjusted, strict=True)}
    for row in answer["rows"]:
        assert row["p_adjusted"] == pytest.approx(expected[row["model"], row["category"]], rel=1e-9), "over all cells"
        assert row["significant"] is (row["p_adjusted"] <= 0.05)
    scores = {
        document["model_id"]: {
            (told["metadata"].get("category"), told["question_id"]): told["score"]
            for told in document["data"]["questions"]
            if told.get("status", "scored") == "scored"
        }
        for document in sample_documents()
        if document["benchmark_name"] == "mmlu"
        and f"{document['timestamp']}-mmlu-{document['run_id']}" in {run["result_name"] for run in answer["runs"]}
    }
    for row in everything["rows"]:
        if row["model"] == "gpt-4":
            assert (row["delta"], row["p"], row["reason"]) == (None, None, "delta: this is the baseline")
            continue
        own, other = scores[row["model"]], scores["gpt-4"]
        shared = [key for key in own if key in other and key[0] == row["category"]]
        wins, losses = (sum(sign * (own[key] - other[key]) > 0 for key in shared) for sign in (1, -1))
        assert row["n_shared"] == len(shared)
        assert row["delta"] == pytest.approx((wins - losses) / len(shared))
        assert row["p"] == pytest.approx(mcnemar([[0, wins], [losses, 0]], exact=True).pvalue)
        assert row["delta_method"] == "tango"
        assert row["delta_ci_low"] <= row["delta"] <= row["delta_ci_high"]


async def test_few_shared_questions_are_not_tested(stack: Stack) -> None:
    await stack.push(
        result("gpt-4", [question(number, number % 2) for number in range(100)]),
        result("gpt-4o", [question(number, int(number % 3 == 0)) for number in range(81, 200)]),
        result("deepseek-r1", [question(number, int(number % 3 == 0)) for number in range(80, 200)]),
    )
    request: dict[str, Any] = {"benchmark": "math500", "level1": "model", "statistics": True, "baseline_model": "gpt-4"}
    answer = (await stack.analyze(**request, explain=True)).json()
    rows = {row["model"]: row for row in answer["rows"]}
    assert (rows["gpt-4o"]["n_shared"], rows["deepseek-r1"]["n_shared"], answer["n_tests"]) == (19, 20, 1)
    assert [rows["gpt-4o"][name] for name in DELTAS[1:]] == [None] * (len(DELTAS) - 1)
    assert rows["gpt-4o"]["reason"] == "delta: fewer than 20 questions are shared with the baseline"
    assert rows["deepseek-r1"]["p_adjusted"] is not None
    assert "differences to a baseline are of questions" in answer["plan"]["reason"]
    assert [statement["name"] for statement in answer["plan"]["statements"]][-2:] == ["packed sums", "packed answers"]


async def test_questions_without_a_cluster_are_clusters_of_their_own(stack: Stack) -> None:
    def told(number: int, score: int, subject: str | None) -> dict[str, Any]:
        return question(number, score, metadata={"level": 1} | ({} if subject is None else {"subject": subject}))

    own, other = [number % 3 % 2 for number in range(60)], [number % 2 for number in range(60)]
    for model, scores in (("gpt-4", other), ("gpt-4o", own)):
        await stack.push(result(model, [told(number, score, None) for number, score in enumerate(scores)]))
    request: dict[str, Any] = {
        "benchmark": "math500", "level1": "model", "statistics": True, "cluster_by": "subject",
        "baseline_model": "gpt-4", "explain": True,
    }  # fmt: skip
    answer = (await stack.analyze(**request)).json()
    _, row = answer["rows"]
    differences = [one - base for one, base in zip(own, other, strict=True)]
    assert (row["n_clusters"], row["delta_method"]) == (60, "clustered t (CR2)")
    assert (row["se"], row["delta_se"]) == pytest.approx((stats.sem(own), stats.sem(differences)))
    assert row["p"] == pytest.approx(stats.ttest_rel(own, other).pvalue)
    some = [told(number, score, f"s{number % 6}") for number, score in enumerate(own)]
    await stack.push(result("gpt-4o", [*some[:30], *[told(n, own[n], None) for n in range(30, 60)]], run_id="later",
                            timestamp="2024-02-01T00:00:00Z"))  # fmt: skip
    _, row = (await stack.analyze(**request)).json()["rows"]
    assert row["n_clusters"] == 6 + 30
    del request["baseline_model"]
    plan = (await stack.analyze(**request)).json()["plan"]
    assert "2 of 2 runs have questions without subject, each a cluster of its own" in plan["reason"]


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"confidence": 0.9}, "confidence", "needs statistics: true"),
    ({"cluster_by": "level"}, "cluster_by", "needs statistics: true"),
    ({"macro_over": "level"}, "macro_over", "needs statistics: true"),
    ({"baseline_model": "gpt-4"}, "baseline_model", "needs statistics: true"),
    ({"correction": "bh"}, "correction", "needs statistics: true"),
    ({"statistics": True, "confidence": 0.4}, "confidence", "greater than or equal to 0.5"),
    ({"statistics": True, "confidence": 1}, "confidence", "less than or equal to 0.9999"),
    ({"statistics": True, "cluster_by": "levl"}, "cluster_by", "did you mean 'level'"),
    ({"statistics": True, "cluster_by": "subject"}, "cluster_by", "'subject' is a level already"),
    ({"statistics": True, "cluster_by": "model"}, "cluster_by", "no field of math500"),
    ({"statistics": True, "macro_over": "subject"}, "macro_over", "'subject' is a level already"),
    ({"statistics": True, "macro_over": "nothing"}, "macro_over", "no field of math500"),
    ({"statistics": True, "baseline_model": "gpt-5"}, "baseline_model", "no model among the chosen runs 'gpt-5'"),
    ({"statistics": True, "baseline_model": "gpt-4", "by_model": False}, "baseline_model", "needs rows by model"),
    ({"statistics": True, "baseline_model": "gpt-4", "models": ["gpt-4o"]}, "baseline_model", "did you mean 'gpt-4o'"),
    ({"statistics": True, "correction": "sidak"}, "correction", "'holm', 'bh' or 'none'"),
    ({"statistics": True, "order_by": "delta"}, "order_by", "no column 'delta'"),
    ({"order_by": "se"}, "order_by", "no column 'se'"),
]


@pytest.mark.parametrize(("more", "place", "detail"), BAD)
async def test_bad_requests_are_told_what_and_where(
    sample_stack: Stack, more: dict[str, Any], place: str, detail: str
) -> None:
    plain = {"benchmark": "math500", "level1": "subject"}
    await sample_stack.analyze(**plain)  # which is kept, and must not answer this
    response = await sample_stack.analyze(**plain, **more)
    assert response.status_code == 422, response.text
    assert [fault["place"] for fault in response.json()["faults"]] == [place]
    assert detail in response.json()["detail"]


async def test_statistics_of_an_empty_store(stack: Stack) -> None:
    answer = (await stack.analyze(benchmark="mmlu", level1="subject", statistics=True)).json()
    assert (answer["rows"], answer["total_rows"]) == ([], 0)
    response = await stack.analyze(benchmark="mmlu", level1="subject", statistics=True, baseline_model="gpt-4")
    assert (response.status_code, response.json()["faults"][0]["place"]) == (422, "baseline_model")


async def test_rows_may_be_ordered_by_their_statistics(sample_stack: Stack) -> None:
    request: dict[str, Any] = {"benchmark": "math500", "level1": "subject", "statistics": True}
    for column in ("-ci_low", "se", "-macro_mean", "n_asked"):
        told = [row[column.removeprefix("-")] for row in await rows_of(sample_stack, **request, order_by=column)]
        known = [value for value in told if value is not None]
        assert told == sorted(known, reverse=column.startswith("-")) + [None] * (len(told) - len(known))
    rows = await rows_of(sample_stack, **request, baseline_model="gpt-4", order_by="p_adjusted")
    told = [row["p_adjusted"] for row in rows if row["p_adjusted"] is not None]
    assert told == sorted(told)
    assert json.dumps(rows, allow_nan=False)

"""Verdicts on finished runs: the truth table, who is held against whom, and the words."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import scipy.stats

from analysis_service.catalog import BenchmarkRuns
from analysis_service.runs import Run
from analysis_service.significance.contenders import find_matches
from analysis_service.significance.sentences import tell_verdict
from analysis_service.significance.verdicts import (
    Interval,
    MarginTests,
    margin_interval,
    overall_verdict,
    verdict_of,
    within_margin,
)
from shared.comparisons import PairComparison
from shared.problems import InvalidRequest
from shared.registry.load import load_registry
from shared.significance import SignificanceRequest
from shared.statistics import Verdict

REGISTRY = load_registry()
SPEC = REGISTRY.benchmarks["math500"]
PERCENT = SPEC.model_copy(update={"score_max": 100.0})
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = Verdict


def pair(**changes: Any) -> PairComparison:
    """A comparison of right-or-wrong answers to 500 questions."""
    values: dict[str, Any] = dict.fromkeys(PairComparison.model_fields)
    values |= {"a": "gpt-4o", "b": "gpt-4", "n_shared": 500, "wins": 60, "losses": 40, "ties": 400, "delta": 0.04}
    values |= {"se": 0.02, "ci_low": 0.001, "ci_high": 0.079, "confidence": 0.95, "method": "tango", "warnings": []}
    return PairComparison(**(values | changes))


@pytest.mark.parametrize(
    ("delta", "significant", "interval", "verdict", "within", "not_worse"),
    [
        # Told from none: the sign decides, whatever the margin says.
        (0.04, True, (0.01, 0.07), BETTER, False, True),
        (0.004, True, (0.001, 0.007), BETTER, True, True),
        (-0.04, True, (-0.07, -0.01), WORSE, False, False),
        (-0.004, True, (-0.007, -0.001), WORSE, True, True),
        # Not told from none: equivalent if both tests for the margin say so.
        (0.001, False, (-0.005, 0.007), EQUIVALENT, True, True),
        (0.0, False, (-0.01, 0.01), EQUIVALENT, True, True),
        (0.001, False, (-0.005, 0.011), INCONCLUSIVE, False, True),
        (-0.001, False, (-0.011, 0.005), INCONCLUSIVE, False, False),
        (0.02, False, (-0.02, 0.06), INCONCLUSIVE, False, False),
        # Neither tested nor an interval.
        (None, None, None, INCONCLUSIVE, False, False),
        (0.02, None, None, INCONCLUSIVE, False, False),
    ],
)
def test_the_truth_table(
    delta: float | None,
    significant: bool | None,
    interval: tuple[float, float] | None,
    verdict: Verdict,
    within: bool,
    not_worse: bool,
) -> None:
    tests = within_margin(None if interval is None else Interval(*interval), 0.01)
    assert tests == MarginTests(within=within, not_worse=not_worse)
    assert verdict_of(pair(delta=delta, significant=significant), is_within=tests.within) is verdict


def test_nothing_is_within_a_margin_of_nothing() -> None:
    assert within_margin(Interval(0, 0), 0) == MarginTests(within=False, not_worse=True)
    assert within_margin(Interval(-0.001, 0.01), 0) == MarginTests(within=False, not_worse=False)


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        ([BETTER, EQUIVALENT], BETTER),
        ([BETTER, EQUIVALENT, INCONCLUSIVE], INCONCLUSIVE),
        ([BETTER, EQUIVALENT, INCONCLUSIVE, WORSE], WORSE),
        ([BETTER, WORSE], WORSE),
        ([EQUIVALENT, EQUIVALENT], EQUIVALENT),
        ([INCONCLUSIVE], INCONCLUSIVE),
    ],
)
def test_the_overall_verdict_is_the_worst_news(verdicts: list[Verdict], overall: Verdict) -> None:
    assert overall_verdict(verdicts) is overall
    assert overall_verdict(verdicts[::-1]) is overall


def test_the_one_sided_interval_is_of_the_pairs_own_kind() -> None:
    """Tango's solves (b − c − nΔ)² = z² × n × variance at Δ, with z of 90 %; that of t is t's."""
    interval = margin_interval(pair(), SPEC)
    assert interval is not None
    for limit in interval:  # the score statistic at the limit, by Tango's restricted estimate
        b, c, n = 60, 40, 500
        first, second = -b - c + (2 * n - b + c) * limit, -c * limit * (1 - limit)
        q = (np.sqrt(first**2 - 8 * n * second) - first) / (4 * n)
        z = (b - c - n * limit) / np.sqrt(n * (2 * q + limit * (1 - limit)))
        assert abs(z) == pytest.approx(scipy.stats.norm.ppf(0.95), abs=1e-6)
    assert margin_interval(pair(delta=4.0), PERCENT) == pytest.approx([100 * limit for limit in interval])
    measured = margin_interval(pair(method="paired t", df=499.0), SPEC)
    assert measured == pytest.approx(scipy.stats.t.interval(0.9, 499, loc=0.04, scale=0.02))
    normal = margin_interval(pair(method="weighted"), SPEC)
    assert normal == pytest.approx(scipy.stats.norm.interval(0.9, loc=0.04, scale=0.02))


def test_equal_differences_still_have_an_interval() -> None:
    """No question of 500 is any different: at most 0.6 % of all are, by the rule of three at 95 %."""
    none = {"method": None, "se": None, "ci_low": None, "ci_high": None}
    same = margin_interval(pair(delta=0.0, **none), SPEC)
    assert same == pytest.approx((-(1 - 0.05 ** (1 / 500)), 1 - 0.05 ** (1 / 500)))
    ahead = margin_interval(pair(delta=0.25, **none), SPEC)
    assert ahead is not None
    assert 0.24 < ahead.low < 0.25 < ahead.high < 0.26
    in_clusters = margin_interval(pair(delta=0.0, ties=500, n_clusters=30, **none), SPEC)
    assert in_clusters == pytest.approx((-(1 - 0.05 ** (1 / 30)), 1 - 0.05 ** (1 / 30)))
    assert margin_interval(pair(delta=0.0, n_clusters=30, **none), SPEC) is None, "clusters alike, but not questions"
    assert margin_interval(pair(delta=None), SPEC) is None


# --- Who is held against whom.


def run(model: str, benchmark: str = "math500", name: str = "", **changes: Any) -> Run:
    values: dict[str, Any] = dict.fromkeys(field.name for field in fields(Run))
    values |= {"result_name": name or f"{benchmark}-{model}", "benchmark": benchmark, "model_id": model, "model": model}
    values |= {"run_no": 1, "time_key": "2024", "timestamp": "2024", "seq": 1}
    values |= {"n_questions": 500, "coverage": 1.0, "registered": True, "live": False}
    return Run(**(values | changes))


STORED: Mapping[str, BenchmarkRuns] = {
    name: BenchmarkRuns(
        name,
        1,
        (
            run("gpt-4", name),
            run("gpt-4o", name),
            *(
                (
                    run("gpt-4o", name, "going", live=True),
                    run("stated", name, n_questions=0),
                    run("live-only", name, "first", live=True),
                )
                if name == "math500"
                else ()
            ),
        ),
        500,
    )
    if name in ("math500", "mmlu-redux")
    else BenchmarkRuns(name, 0, (), 0)
    for name in REGISTRY.benchmarks
}


def matches(**changes: Any) -> list[tuple[str, str, str]]:
    """(Benchmark, the candidate's result, the baseline's)."""
    body = {"benchmarks": ["math500"], "candidate": {"model": "gpt-4o"}, "baseline": {"model": "gpt-4"}} | changes
    found = find_matches(REGISTRY, SignificanceRequest.model_validate(body), STORED)
    return [(match.spec.name, match.candidate.result_name, match.baseline.result_name) for match in found]


def test_models_have_their_latest_runs_and_runs_their_names() -> None:
    assert matches(benchmarks=["mmlu-redux", "math500", "mmlu-redux"]) == [
        ("mmlu-redux", "mmlu-redux-gpt-4o", "mmlu-redux-gpt-4"),
        ("math500", "math500-gpt-4o", "math500-gpt-4"),
    ]
    assert matches(candidate={"run": "going"}) == [("math500", "going", "math500-gpt-4")]
    assert matches(baseline={"model": "openai/gpt-4"}) == [("math500", "math500-gpt-4o", "math500-gpt-4")]


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"benchmarks": ["math500", "math50"]}, "benchmarks[1]", "did you mean 'math500'"),
        ({"candidate": {"model": "gpt-5x"}}, "candidate.model", "no model 'gpt-5x'"),
        (
            {"baseline": {"model": "claude-3-opus"}},
            "baseline.model",
            "has no finished run with questions of math500",
        ),
        ({"baseline": {"model": "stated"}}, "baseline.model", "holds no questions"),
        ({"baseline": {"run": "math500-stated"}}, "baseline.run", "holds no questions"),
        ({"candidate": {"model": "live-only"}}, "candidate.model", "name it as a run: 'first'"),
        ({"candidate": {"run": "no-such"}}, "candidate.run", "no valid run of math500 'no-such'"),
        ({"candidate": {"run": "mmlu-redux-gpt-4o"}}, "candidate.run", "is a result of mmlu-redux, not of math500"),
        ({"benchmarks": ["aime", "math500"], "candidate": {"run": "going"}}, "candidate.run", "of math500 alone"),
        ({"benchmarks": ["math500", "aime"]}, "candidate.model", "'gpt-4o' has no finished run with questions of aime"),
        ({"baseline": {"run": "going"}}, "baseline.run", "still going on"),
        ({"baseline": {"run": "math500-gpt-4o"}}, "candidate", "what the baseline is, too"),
        ({"filters": {"model": ["gpt-4"]}}, "filters.model", "no field of math500 'model'"),
        ({"filters": {"subjct": ["Algebra"]}}, "filters.subjct", "did you mean 'subject'"),
        ({"filters": {"level": ["high"]}}, "filters.level[0]", "takes a whole number"),
        ({"cluster_by": "subjct"}, "cluster_by", "did you mean 'subject'"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        matches(**changes)
    assert place in [fault.place for fault in refused.value.faults]
    assert words in refused.value.detail


# --- Words.


@pytest.mark.parametrize(
    ("verdict", "changes", "margin", "sentence"),
    [
        (
            BETTER,
            {"significant": True},
            0.01,
            "gpt-4o is better than gpt-4 on math500: +0.040 (95 % interval +0.001 to +0.079, 500 shared questions)",
        ),
        (
            WORSE,
            {"significant": True, "delta": -0.04, "ci_low": -0.079, "ci_high": -0.0001},
            0.01,
            "gpt-4o is worse than gpt-4 on math500: -0.040 (95 % interval -0.079 to -0.0001, 500 shared questions)",
        ),
        (
            BETTER,
            {"significant": True},
            0.08,
            "gpt-4o is better than gpt-4 on math500: +0.040 (95 % interval +0.001 to +0.079, 500 shared questions), "
            "though by less than the margin of 0.08",
        ),
        (
            BETTER,
            {"significant": True, "p": 0.049, "ci_low": -0.0002},
            0.01,
            "gpt-4o is better than gpt-4 on math500: +0.040 (95 % interval -0.0002 to +0.079, 500 shared questions); "
            "the interval just holds 0, but the test, which decides, tells a difference (p 0.049)",
        ),
        (
            EQUIVALENT,
            {"significant": False},
            0.1,
            "gpt-4o and gpt-4 are within 0.1 of each other on math500: +0.040 (90 % interval +0.007 to +0.073, "
            "500 shared questions)",
        ),
        (
            INCONCLUSIVE,
            {"significant": False, "p": 0.058, "questions_needed": 3421},
            0.01,
            "gpt-4o and gpt-4 are not told apart on math500: +0.040 (95 % interval +0.001 to +0.079, 500 shared "
            "questions); the interval just leaves 0 out, but the test is the stricter one (p 0.058)",
        ),
        (
            INCONCLUSIVE,
            {"significant": False, "p": 0.06, "ci_low": -0.001, "questions_needed": 3421},
            0.01,
            "gpt-4o and gpt-4 are not told apart on math500: +0.040 (95 % interval -0.001 to +0.079, 500 shared "
            "questions); about 3,500 questions would tell such a difference",
        ),
        (
            INCONCLUSIVE,
            {"significant": False, "p": 0.03, "p_adjusted": 0.09, "questions_needed": 3421},
            0.01,
            "gpt-4o and gpt-4 are not told apart on math500: +0.040 (95 % interval +0.001 to +0.079, 500 shared "
            "questions); alone it would count, but not among 3 benchmarks that are looked at together",
        ),
        (
            INCONCLUSIVE,
            {"ci_low": None, "ci_high": None, "reason": "4 clusters; 5 are needed"},
            0.01,
            "gpt-4o and gpt-4 are not told apart on math500: +0.040 (500 shared questions); 4 clusters; 5 are needed",
        ),
        (
            INCONCLUSIVE,
            {"delta": None, "reason": "12 shared questions, and 20 are needed"},
            0.01,
            "gpt-4o and gpt-4 cannot be compared on math500: 12 shared questions, and 20 are needed",
        ),
    ],
)
def test_sentences(verdict: Verdict, changes: dict[str, Any], margin: float, sentence: str) -> None:
    interval = Interval(0.007, 0.073)
    assert tell_verdict(verdict, pair(**changes), interval, SPEC, margin=margin, n_tests=3) == sentence


@pytest.mark.parametrize(
    ("delta", "told"),
    [(1e-17, "+0.000"), (-1e-17, "+0.000"), (-0.0004, "-0.0004"), (0.0, "+0.000"), (-0.031, "-0.031")],
)
def test_there_is_no_minus_nothing(delta: float, told: str) -> None:
    sentence = tell_verdict(INCONCLUSIVE, pair(delta=delta), None, SPEC, margin=0.01, n_tests=1)
    assert f"on math500: {told} (95 %" in sentence


def test_sentences_have_the_digits_of_the_scale() -> None:
    told = tell_verdict(BETTER, pair(delta=4.0, ci_low=0.12, ci_high=7.9), None, PERCENT, margin=1, n_tests=1)
    assert "+4.0 (95 % interval +0.1 to +7.9, 500 shared questions)" in told

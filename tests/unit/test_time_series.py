"""Lines of a time series: where they break, the intervals of their points, and the search for steps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyroaring import BitMap
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis_service.question_scores import QuestionScores
from analysis_service.runs import Run
from analysis_service.stats.intervals import clustered_wilson
from analysis_service.time_series.lines import Line, LineValues, draw_lines, find_breaks
from analysis_service.time_series.points import measure_points
from analysis_service.time_series.search import Searched, join_scores, search_lines
from shared.registry.load import load_registry
from shared.statistics import Correction

F = NDArray[np.float64]

SPEC = load_registry().benchmarks["math500"]
RUN = Run(
    run_no=1, result_name="r", benchmark="math500", model_id="gpt-4", source="tests", timestamp="2025-01-01T00:00:00Z",
    time_key="2025-01-01T00:00:00", seq=1, set_no=1, layout_no=1, n_cells=1, n_questions=4, n_answers=4, n_scored=4,
    score_sum=1.0, stated_score=None, harness=None, harness_version=None, task_version=None, grader=None,
    config_hash=None, live=False, model="gpt-4", vendor=None, family=None, registered=True, coverage=1.0,
)  # fmt: skip
ASKED = BitMap([1, 2, 3, 4])


def score(means: Sequence[float], *, counts: Sequence[int] | None = None, first: int = 1) -> QuestionScores:
    """A run's scores of the questions from `first` on; NaN of those that it lacks."""
    mean = np.array(means, dtype=np.float64)
    kept = ~np.isnan(mean)
    number = np.arange(first, first + len(mean), dtype=np.int32)[kept]
    count = np.ones(len(mean), dtype=np.int32) if counts is None else np.array(counts, dtype=np.int32)
    return QuestionScores(RUN, number, mean[kept], count[kept], np.zeros_like(number), number)


CHANGES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {"seq": 2, "model": "gpt-4o", "source": "others"}, []),
    ({"harness": "helm"}, {"harness": "lm-eval"}, ["harness: helm → lm-eval"]),
    ({}, {"harness_version": "0.4.9"}, ["harness_version: not told → 0.4.9"]),
    (
        {"task_version": "1", "grader": "ada"},
        {"task_version": "2", "grader": None},
        ["task_version: 1 → 2", "grader: ada → not told"],
    ),
    ({"config_hash": "a" * 64}, {"config_hash": "b" * 64}, ["config_hash: aaaaaaaaaaaa → bbbbbbbbbbbb"]),
]


@pytest.mark.parametrize(("before", "after", "reasons"), CHANGES)
def test_a_line_breaks_where_runs_were_made_differently(
    before: dict[str, Any], after: dict[str, Any], reasons: list[str]
) -> None:
    runs = [replace(RUN, **before), replace(RUN, **before), replace(RUN, **after)]
    assert find_breaks(runs, [ASKED] * 3) == ([(2, reasons)] if reasons else [])


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        ([1, 2, 3, 4, 5], "1 of 5 are others"),
        ([1, 2, 3], "1 fewer than before"),
        ([1, 2, 3, 7], "1 of 4 are others"),
        ([1, 9], "1 of 2 are others, 2 fewer than before"),
        ([], "4 fewer than before"),
    ],
)
def test_a_line_breaks_where_the_questions_changed(questions: list[int], told: str) -> None:
    assert find_breaks([RUN, RUN], [ASKED, BitMap(questions)]) == [(1, [f"questions: {told}"])]


def test_a_line_goes_through_the_runs_that_have_its_questions() -> None:
    runs = [replace(RUN, layout_no=1), replace(RUN, layout_no=2), replace(RUN, layout_no=1, grader="ada")]
    values = LineValues(["a", "b"], None, [{1: BitMap([1]), 2: BitMap([1])}, {1: BitMap([2])}])
    first, second = draw_lines(values, runs)
    assert (first.value, first.places, [own.place for own in first.breaks]) == ("a", [0, 1, 2], [2])
    assert (second.value, second.places, [own.place for own in second.breaks]) == ("b", [0, 2], [1])
    assert (first.segments, second.segments) == ([range(2), range(2, 3)], [range(1), range(1, 2)])
    assert draw_lines(LineValues([None], None, [{}]), runs)[0].segments == [range(0)]


def test_scores_are_joined_by_question() -> None:
    nan = float("nan")
    rows = [score([0.1, nan, 0.3, 0.4]), score([0.5, 0.6], first=3), score([1.0] * 9, first=5), score([nan])]
    expected = [[0.1, nan, 0.3, 0.4], [nan, nan, 0.5, 0.6], [nan] * 4, [nan] * 4]
    np.testing.assert_array_equal(join_scores(rows, ASKED), expected)


def test_points_agree_with_references() -> None:
    random = np.random.default_rng(4)
    binary = random.integers(0, 2, 60).astype(np.float64)
    real = random.random(60)
    counts = random.integers(1, 5, 60)
    # Two lines: even questions and odd ones.
    values = LineValues(["even", "odd"], np.array([0, 1], dtype=np.int32), [{}, {}])
    own = [score(binary.tolist()), score(real.tolist()), score(real.tolist(), counts=counts.tolist())]
    points = measure_points([replace(scores, combination=scores.question_no % 2) for scores in own], values, SPEC, 0.9)
    for line in (0, 1):
        place = np.arange(1, 61) % 2 == line
        right, single, several = (points[run][line].told for run in range(3))
        assert (points[0][line].n, right.method, single.method, several.method) == (
            30,
            "wilson",
            "t",
            "wilson on effective n",
        )
        assert right.mean == pytest.approx(binary[place].mean())
        wilson = proportion_confint(binary[place].sum(), 30, 0.1, "wilson")
        assert [right.ci_low, right.ci_high] == pytest.approx(list(wilson), abs=1e-12)
        se = stats.sem(real[place])
        assert [single.se, single.ci_low, single.ci_high] == pytest.approx(
            [se, *stats.t.interval(0.9, 29, real[place].mean(), se)]
        )
        weight, mean = counts[place], np.average(real[place], weights=counts[place])
        se = (30 / 29 * ((weight * (real[place] - mean)) ** 2).sum()) ** 0.5 / weight.sum()
        assert points[2][line].n == weight.sum()
        assert [several.mean, several.se] == pytest.approx([mean, se])
        assert several.ci_low is not None
        assert several.ci_high is not None
        assert 0 < several.ci_low < mean < several.ci_high < 1


def test_points_on_another_scale() -> None:
    percent = SPEC.model_copy(update={"score_max": 100.0})
    own = [score([0.0, 100.0, 100.0, 100.0]), score([100.0] * 4), score([0.0, 1.0, 0.0, 0.0])]
    own += [score([100.0] * 4, counts=[1, 2, 1, 1]), score([7.0] * 4)]
    points = measure_points(own, LineValues([None], None, [{}]), percent, 0.95)
    low, high = proportion_confint(3, 4, 0.05, "wilson")
    mixed, right, clipped, repeated, same = (point.told for [point] in points)
    assert [mixed.ci_low, mixed.ci_high] == pytest.approx([100 * low, 100 * high])
    assert (right.ci_high, right.se) == (100.0, 0.0)
    assert (clipped.method, clipped.ci_low, clipped.mean) == ("t", 0.0, 0.25)
    even = clustered_wilson(1, 0, 25 / 7, 0.95)  # attempts 1, 2, 1, 1 tell as much as 25 / 7 questions of one each
    assert (repeated.method, points[3][0].n) == ("wilson on effective n", 5)
    assert repeated.ci_low == pytest.approx(100 * float(even.low))
    assert (same.method, same.se, same.ci_low) == (None, 0.0, None)


def lay(matrices: Sequence[F]) -> tuple[list[Line], list[QuestionScores]]:
    """A line through all runs for each matrix of scores, runs × questions."""
    whole = np.concatenate(matrices, axis=1)
    lines, first = [], 1
    for matrix in matrices:
        asked = BitMap(range(first, first + matrix.shape[1]))
        lines.append(Line(first, range(len(whole)), [asked] * len(whole), []))
        first += matrix.shape[1]
    return lines, [score(row.tolist()) for row in whole]


def search(matrices: Sequence[F], correction: Correction = Correction.HOLM, confidence: float = 0.95) -> Searched:
    lines, scores = lay(matrices)
    return search_lines(lines, scores, confidence=confidence, correction=correction, seed=0, check_time=lambda: None)


def simulate(random: np.random.Generator, runs: int, questions: int, shift: float = 0.0) -> F:
    """Right-or-wrong scores, better by `shift` in the later half."""
    chance = random.beta(2, 2, questions) * (1 - shift)
    later = np.arange(runs)[:, np.newaxis] >= runs // 2
    return np.asarray(random.random((runs, questions)) < chance + shift * later, dtype=np.float64)


def test_a_step_is_found_within_its_segment_alone() -> None:
    random = np.random.default_rng(0)
    [line], scores = lay([simulate(random, 8, 100, shift=0.4)])
    broken = replace(line, breaks=find_breaks([*[RUN] * 4, *[replace(RUN, grader="ada")] * 4], line.asked))

    def steps(own: Line) -> tuple[list[int], int]:
        found = search_lines(
            [own], scores, confidence=0.95, correction=Correction.HOLM, seed=0, check_time=lambda: None
        )
        return [step.place for step in found.steps[0]], found.n_tests

    assert steps(line) == ([4], 1)
    assert steps(broken) == ([], 2)


def test_p_values_allow_for_the_number_of_searches() -> None:
    random = np.random.default_rng(1)
    matrices = [simulate(random, 4, 60, shift) for shift in (0.4, 0.0, 0.4, 0.0)] + [simulate(random, 4, 19)]
    for correction, factors in ((Correction.HOLM, (4, 4)), (Correction.BH, (2, 2)), (Correction.NONE, (1, 1))):
        searched = search(matrices, correction)
        assert [len(steps) for steps in searched.steps] == [1, 0, 1, 0, 0]
        assert searched.n_tests == 4, "19 questions are too few to search"
        for found, factor in zip((searched.steps[0][0], searched.steps[2][0]), factors, strict=True):
            assert found.p_adjusted == pytest.approx(factor * found.step.p)


def test_with_many_lines_a_step_can_still_be_told() -> None:
    random = np.random.default_rng(2)
    searched = search([simulate(random, 2, 30, 0.8), *(simulate(random, 2, 30) for _ in range(149))])
    assert searched.n_tests == 150
    assert searched.steps[0][0].p_adjusted < 0.05
    assert searched.least_p * 150 < 0.05
    cautious = search([simulate(random, 2, 20)] * 3, confidence=0.9999)
    assert cautious.least_p == 1 / 20_001


def test_false_steps_are_rare_over_all_lines() -> None:
    """Of 200 requests without any step at most 5 % tell one, give or take three standard errors; here 0.5 … 9.6 %."""
    random = np.random.default_rng(3)
    told = corrected = 0
    for _ in range(200):
        searched = search([simulate(random, 5, 40) for _ in range(4)])
        p = [found.step.p for steps in searched.steps for found in steps]
        told += bool(p)
        corrected += any(found.p_adjusted <= 0.05 for steps in searched.steps for found in steps)
    assert 1 <= corrected <= 19
    assert told > 19, "without the correction they are many"


def test_the_time_limit_is_asked_between_searches_and_in_them() -> None:
    random = np.random.default_rng(5)
    lines, scores = lay([np.concatenate([simulate(random, 3, 30), simulate(random, 3, 30, 0.4)])] * 3)
    asked: list[int] = []
    search_lines(lines, scores, confidence=0.95, correction=Correction.NONE, seed=0, check_time=lambda: asked.append(1))
    assert len(asked) >= 3 * (1 + 8), "each search has a step, and thousands of flips"

"""The statistics of rows: estimates and their laws, slots, questions as they come in, and what costs too much."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.group_by import question_needs, slots
from analysis_service.group_by.baseline import DeltaLack, Deltas, compare_rows, pair_questions
from analysis_service.group_by.cells import SetSizes, group_cells, lay_rows
from analysis_service.group_by.column_answer import ColumnAnswer
from analysis_service.group_by.combinations import Combinations, add_combinations
from analysis_service.group_by.layouts import join_layouts
from analysis_service.group_by.plan import QuestionReads
from analysis_service.group_by.question_needs import count_questions, find_question_needs
from analysis_service.group_by.question_totals import QuestionEntries, QuestionTotals, joined
from analysis_service.group_by.resolve_statistics import StatisticsAsked, field_below
from analysis_service.group_by.slots import Slots, lay_slots
from analysis_service.group_by.statistics_columns import add_correction, delta_columns, join_reasons
from analysis_service.group_by.uncertainty import (
    EXCLUDED,
    HIGHEST,
    LOWEST,
    Attempts,
    macro_limits,
    macro_means,
    unit_errors,
)
from analysis_service.packed_sums import Layout
from analysis_service.projection.answers import ScoreColumns
from analysis_service.runs import Run
from analysis_service.stats.means import Lack, Method, estimate_means
from shared.analysis import AnalysisAnswer, ErrorPolicy
from shared.problems import TooManyGroups
from shared.registry.load import load_registry
from shared.statistics import Correction
from tests.unit.test_group_by import SPEC, nothing_known
from tests.unit.test_resolve import run

ASKED = StatisticsAsked(confidence=0.95, cluster_by=None, macro_over=None, baseline=None)


def attempts_of(rows: Sequence[Sequence[float]], unknown: int = 0) -> Attempts:
    return Attempts(
        np.array([len(row) for row in rows], dtype=np.float64),
        np.array([sum(row) for row in rows], dtype=np.float64),
        np.array([sum(score * score for score in row) for row in rows], dtype=np.float64),
        np.full(len(rows), float(unknown)),
    )


ROWS = st.lists(
    st.lists(st.sampled_from([0.0, 1.0]), max_size=30)
    | st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), max_size=30),
    min_size=1,
    max_size=5,
)


@given(rows=ROWS, confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_an_interval_holds_its_mean_within_the_scale(rows: list[list[float]], confidence: float) -> None:
    attempts = attempts_of(rows)
    found = estimate_means(attempts.scores, None, are_questions=True, confidence=confidence)
    wider = estimate_means(attempts.scores, None, are_questions=True, confidence=0.999)
    for number, scores in enumerate(rows):
        low, high, lack = found.limits.low[number], found.limits.high[number], found.lack[number]
        assert np.isnan(low) == np.isnan(high) == (found.method[number] == Method.NONE)
        if np.isnan(low):
            assert lack != Lack.NOTHING
            continue
        assert 0 <= low <= sum(scores) / len(scores) + 1e-12
        assert sum(scores) / len(scores) - 1e-12 <= high <= 1
        assert wider.limits.low[number] <= low + 1e-12
        assert wider.limits.high[number] >= high - 1e-12
        assert (found.method[number] == Method.WILSON) == (set(scores) <= {0.0, 1.0})
        assert np.isnan(found.se[number]) <= (lack != Lack.NOTHING)


@given(rows=ROWS, unknown=st.integers(0, 5))
def test_bounds_hold_whatever_the_unknown_would_have_scored(rows: list[list[float]], unknown: int) -> None:
    attempts = attempts_of(rows, unknown)
    low, high = attempts.read(LOWEST), attempts.read(HIGHEST)
    assert attempts.read(EXCLUDED) is attempts
    for score, read in ((0.0, low), (1.0, high)):
        expected = attempts_of([[*row, *[score] * unknown] for row in rows])
        for name in ("n", "total", "square"):
            np.testing.assert_allclose(getattr(read, name), getattr(expected, name))


@given(rows=st.lists(st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=2, max_size=20), min_size=1))
def test_clusters_of_one_are_no_clusters(rows: list[list[float]]) -> None:
    row = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    scores = np.concatenate([np.array(own) for own in rows])
    ones = Attempts(np.ones(len(scores)), scores, scores**2, np.zeros(len(scores)))
    value = np.zeros(len(scores), dtype=np.int64)
    alone = estimate_means(attempts_of(rows).scores, None, are_questions=True, confidence=0.95)
    binary = {number for number, own in enumerate(rows) if set(own) <= {0.0, 1.0}}
    for kind in ("cr1", "cr2"):
        units, errors = unit_errors(row, value, np.arange(len(scores)), ones, len(rows), kind=kind, macro=True)
        assert units.largest.tolist() == [1.0] * len(rows)
        assert units.n.tolist() == [len(own) for own in rows]
        for number in set(range(len(rows))) - binary:
            assert units.se[number] == pytest.approx(alone.se[number], abs=1e-7)
        # One value: the macro mean is the mean.
        np.testing.assert_allclose(errors.n_units, units.n)
        macro = macro_means(row, value, ones, len(rows))
        np.testing.assert_allclose(errors.se, macro.errors.se, atol=1e-7)
        np.testing.assert_allclose(macro.mean, [sum(own) / len(own) for own in rows])


def test_macro_means_weigh_values_alike() -> None:
    row, value = np.array([0, 0, 0, 1, 2]), np.array([0, 1, -1, 0, -1])
    attempts = attempts_of([[1, 1, 1, 0], [0, 1], [0.5], [1.0], [1.0]])
    macro = macro_means(row, value, attempts, 3)
    assert macro.mean[:2].tolist() == [0.625, 1.0]
    pooled = (3 * 0.25 + 0.5) / 4
    errors = [(3 * 0.25 + 3 * pooled) / 6 / 4, (0.5 + 3 * pooled) / 4 / 2]
    assert macro.errors.se[0] == pytest.approx(sum(errors) ** 0.5 / 2)
    assert macro.errors.n_units[0] == pytest.approx(4 / (1 / 4 + 1 / 2))
    assert np.isnan(macro.mean[2]), "no attempt has a value"
    assert np.isnan(macro.errors.se[1:]).all(), "one question tells nothing"
    limits = macro_limits(macro, 0.95)
    assert limits.low[0] < 0.625 < limits.high[0]
    assert np.isnan(limits.low[1:]).all()
    sure = macro_means(np.array([0, 0]), np.array([0, 1]), attempts_of([[1.0] * 10, [1.0] * 10]), 1)
    assert 0.8 < macro_limits(sure, 0.95).low[0] < 0.9, "all right is not sure"


@pytest.mark.parametrize("sizes", [(3, 300), (2, 50, 50), (10, 20, 40, 80), (5,) * 8])
def test_macro_intervals_cover_what_they_say(sizes: tuple[int, ...]) -> None:
    """Also of values with few questions, of which all may be right by chance."""
    chance, draws, values = np.random.default_rng(0), 4000, len(sizes)
    n = np.tile(np.array(sizes, dtype=np.float64), draws)
    row, value = np.repeat(np.arange(draws), values), np.tile(np.arange(values), draws)
    for rates in (np.full(values, 0.1), np.full(values, 0.5), np.linspace(0.1, 0.9, values)):
        right = chance.binomial(sizes, rates, size=(draws, values)).astype(np.float64).ravel()
        macro = macro_means(row, value, Attempts(n, right, right, np.zeros(len(n))), draws)
        low, high = macro_limits(macro, 0.95)
        assert np.mean((low <= rates.mean()) & (rates.mean() <= high)) > 0.93


def pairs_of(own: Sequence[float], other: Sequence[float], **options: Any) -> Any:
    """Row 0 beside the baseline, row 1, on the same questions."""
    n, places = len(own), np.arange(len(own))
    pairs = pair_questions(
        np.repeat([0, 1], n),
        np.tile(places, 2),
        np.tile(options.get("clusters", places), 2),
        np.ones(2 * n),
        np.array([*own, *other], dtype=np.float64),
        group=np.zeros(2, dtype=np.int64),
        is_baseline=np.array([False, True]),
    )
    return compare_rows(pairs, np.array([False, True]), clustered="clusters" in options, confidence=0.95)


SCORES = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=20, max_size=40)
FRACTIONS = st.lists(st.tuples(st.floats(0, 1).map(lambda x: round(x, 2)), st.sampled_from([0.25, 0.5])), min_size=20)


@settings(deadline=None)
@given(scores=SCORES | FRACTIONS)
def test_the_other_way_round_the_difference_has_the_other_sign(scores: list[tuple[float, float]]) -> None:
    own, other = zip(*scores, strict=True)
    there, back = pairs_of(own, other), pairs_of(other, own)
    np.testing.assert_allclose(there.delta[0], -back.delta[0], atol=1e-12)
    np.testing.assert_allclose(there.low[0], -back.high[0], atol=1e-9)
    np.testing.assert_allclose(there.p[0], back.p[0])
    assert there.delta[0] == pytest.approx(np.mean(own) - np.mean(other))
    shuffled = pairs_of(own[::-1], other[::-1])
    np.testing.assert_allclose(
        [told[0] for told in (there.low, there.high, there.p)],
        [told[0] for told in (shuffled.low, shuffled.high, shuffled.p)],
    )


def test_differences_without_variation() -> None:
    same = pairs_of([0.5] * 20, [0.5] * 20)
    assert (same.delta[0], same.p[0], same.lack[0]) == (0, 1, DeltaLack.ALL_EQUAL)
    assert np.isnan([same.se[0], same.low[0], same.high[0]]).all()
    apart = pairs_of([0.5] * 20, [0.25] * 20)
    assert np.isnan(apart.p[0]), "t has no error to go by"
    right = pairs_of([1.0] * 20, [0.0] * 20)
    assert right.p[0] == pytest.approx(2 * 0.5**20)
    assert right.low[0] < right.high[0] == 1
    few = pairs_of([1.0] * 19, [0.0] * 19)
    assert (few.n_shared[0], few.lack[0], np.isnan(few.p[0])) == (19, DeltaLack.FEW_SHARED, True)
    clusters = np.arange(40) % 4
    assert pairs_of([1.0] * 40, [0.0] * 40, clusters=clusters).lack[0] == DeltaLack.FEW_CLUSTERS


def test_no_difference_is_never_minus_nothing() -> None:
    nothing, number = np.array([-1e-17]), np.array([20])
    deltas = Deltas(number, nothing, nothing, nothing, nothing, nothing, number * 0, number * 0)
    assert str(delta_columns(deltas, SPEC)["delta"][0]) == "0.0"


def test_correction_is_over_all_benchmarks_and_counts_tests_alone() -> None:
    parts = [{"p": np.array([0.01, np.nan])}, {"p": np.array([0.04, 0.03])}]
    assert add_correction(parts, Correction.HOLM, 0.95) == 3
    assert parts[0]["p_adjusted"][0] == pytest.approx(0.03)
    assert [list(part["significant"]) for part in parts] == [[True, None], [False, False]]
    nothing: list[dict[str, NDArray[Any]]] = [{"p": np.full(2, np.nan)}]
    assert add_correction(nothing, Correction.BH, 0.95) == 0


def test_reasons_are_joined() -> None:
    found = join_reasons([(np.array([0, 1, 2, 0]), {1: "a", 2: "b"}), (np.array([0, 0, 1, 1]), {1: "c"})])
    assert found.tolist() == [None, "a", "b; c", "c"]
    assert join_reasons([(np.array([0, 0]), {1: "a"})]).tolist() == [None, None]


@pytest.mark.parametrize(
    ("benchmark", "group_by", "below"),
    [
        ("mmlu", ["model", "category"], "subject"),
        ("mmlu", ["category", "subject"], None),
        ("mmlu", ["model"], "category"),
        ("mmlu", ["model", "knowledge_source"], None),
        ("math500", ["model"], "subject"),
        ("aime", ["model"], "year"),
    ],
)
def test_the_field_below(benchmark: str, group_by: list[str], below: str | None) -> None:
    assert field_below(load_registry().benchmarks[benchmark], group_by) == below


COMBINATIONS: Combinations = add_combinations(
    nothing_known(), SPEC, [(1, "z", 9, 0), (2, "a", 9, 1), (3, "a", None, 1), (4, "z", 10, 0)]
)


LAYOUTS = {
    1: Layout(np.array([1, 2, 3]), np.array([11, 12, 13])),
    2: Layout(np.array([1, 3, 4]), np.array([11, 13, 14])),
}
SETS = {11: BitMap([1, 2]), 12: BitMap([3]), 13: BitMap([4, 5]), 14: BitMap([6])}


def slots_of(divisions: Sequence[tuple[int, ...]], macro_over: str | None, cluster_by: str | None) -> Slots:
    """Of rows by form: z and a."""
    cells = join_layouts(LAYOUTS)
    groups = group_cells(cells, COMBINATIONS, ["form"], [], ())
    rows = lay_rows(divisions, cells, groups, SetSizes(SETS), max_rows=100)
    return lay_slots(divisions, cells, groups, rows, COMBINATIONS, macro_over=macro_over, cluster_by=cluster_by)


def test_slots_divide_rows_by_both_fields() -> None:
    found = slots_of([(1,), (1, 2)], "size", "flag")
    told = list(zip(found.row.tolist(), found.value.tolist(), found.cluster.tolist(), strict=True))
    sizes = {9: COMBINATIONS.fields["size"].values.index(9), 10: COMBINATIONS.fields["size"].values.index(10)}
    # Rows z and a of the first division, then of the second, which has a 10 in z. Null is -1.
    assert told == [
        (0, sizes[9], 0),
        (1, sizes[9], 1),
        (1, -1, 1),
        (2, sizes[9], 0),
        (2, sizes[10], 0),
        (3, sizes[9], 1),
        (3, -1, 1),
    ]
    assert found.places_of(1, 2).tolist() == [4, 7, 5], "one place is left between divisions"
    plain = slots_of([(1,), (1, 2)], None, None)
    assert (plain.row.tolist(), plain.has_values, plain.clusters) == ([0, 1, 2, 3], False, None)


def test_too_many_slots_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS_MAX", 8)
    slots_of([(1,), (1, 2)], "size", "flag")
    monkeypatch.setattr(slots, "SLOTS_MAX", 7)
    with pytest.raises(TooManyGroups, match="more than 7 values of size and flag together"):
        slots_of([(1,), (1, 2)], "size", "flag")


ANSWERS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3]), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])),
    max_size=12,
)


@given(runs=st.lists(ANSWERS, min_size=1, max_size=12), policy=st.sampled_from(ErrorPolicy))
def test_questions_add_up_over_runs(runs: list[list[tuple[int, int, int, float]]], policy: ErrorPolicy) -> None:
    """Layout 1 alone, so that combination c is cell c - 1; statuses by number."""
    taken: list[QuestionEntries] = []
    laid = slots_of([(1,), (1,)], None, None)
    divisions = [number % 2 for number in range(len(runs))]
    totals = QuestionTotals(laid, divisions, policy, lambda division, entries: taken.append(entries))
    expected: dict[tuple[int, int], list[float]] = {}
    counted = {"exclude": (), "wrong": (1, 2, 3), "bounds": (1, 2, 3, 4)}[policy]
    for division, answers in zip(divisions, runs, strict=True):
        columns = ScoreColumns(
            np.array([question for question, *_ in answers], dtype=np.int32),
            np.array([combination for _, combination, *_ in answers], dtype=np.int32),
            np.array([status for *_, status, _ in answers], dtype=np.int8),
            np.array([score if status == 0 else np.nan for *_, status, score in answers]),
        )
        totals.add(division, 1, LAYOUTS[1], columns, None)
        for question, combination, status, score in answers:
            if status == 0 or status in counted:
                row = 2 * division + (0 if combination == 1 else 1)
                sums = expected.setdefault((row, question), [0.0, 0.0, 0.0])
                for place, value in enumerate((score, 1, 0) if status == 0 else (0, 0, 1)):
                    sums[place] += value
    entries = joined(taken)
    keys = zip(entries.slot.tolist(), entries.question.tolist(), strict=True)
    values = zip(entries.total.tolist(), entries.n.tolist(), entries.unknown.tolist(), strict=True)
    assert {key: list(value) for key, value in zip(keys, values, strict=True)} == expected
    assert len(taken) == len(set(divisions)), "each division once, when its last run is there"


RUNS = [run(1), run(2, "gpt-4o", n_answers=20), run(3, "deepseek-r1"), run(4, "deepseek-r1", set_no=2)]
DIVISION_OF = {1: 0, 2: 1, 3: 2, 4: 2}


def needed(runs: list[Run] = RUNS, **asked: Any) -> tuple[set[int], str]:
    with_them = StatisticsAsked(
        **{"confidence": 0.95, "cluster_by": None, "macro_over": None, "baseline": None} | asked
    )
    laid = slots_of([(1,), (2,), (1,)], None, with_them.cluster_by) if with_them.cluster_by else None
    found = find_question_needs(with_them, runs, DIVISION_OF, laid)
    return (set(), "") if found is None else (set(found.reads.run_nos), found.reads.reason)


def test_what_stored_sums_cannot_tell() -> None:
    assert needed(RUNS[:1]) == (set(), "")
    numbers, reason = needed()
    assert numbers == {2, 3, 4}, "several attempts, or several runs in a row"
    assert "3 of 4 runs may have several attempts at a question in one row" in reason
    assert needed(baseline="gpt-4")[0] == {1, 2, 3, 4}
    assert needed(cluster_by="flag") == (set(), "")
    numbers, reason = needed(cluster_by="size")
    assert numbers == {1, 2, 3, 4}
    assert "have questions without size" in reason


def test_too_many_questions_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = QuestionReads({1, 2, 3, 4}, "")
    for baseline, questions in ((None, 20), ("gpt-4", 40)):
        asked = StatisticsAsked(0.95, None, None, baseline)
        monkeypatch.setattr(question_needs, "QUESTIONS_MAX", questions)
        assert count_questions(asked, reads, RUNS, DIVISION_OF) == questions
        monkeypatch.setattr(question_needs, "QUESTIONS_MAX", questions - 1)
        with pytest.raises(TooManyGroups, match=f"statistics need {questions} questions of the rows at once"):
            count_questions(asked, reads, RUNS, DIVISION_OF)


NAMES = ["model", "class", "from", "n", "mean"]


@given(
    rows=st.lists(
        st.tuples(st.text(), st.none() | st.booleans(), st.integers(), st.floats(0, 1), st.none() | st.text())
    ),
    benchmark=st.none() | st.text(),
)
def test_rows_in_columns_are_written_as_dicts_are(rows: list[tuple[Any, ...]], benchmark: str | None) -> None:
    head = AnalysisAnswer(
        benchmark=benchmark, group_by=['"rows":[]'], rows=[], total_rows=0, truncated=False, runs=[], warnings=[],
        data_version="",
    )  # fmt: skip
    columns = {name: [row[place] for row in rows] for place, name in enumerate(NAMES)}
    answer = ColumnAnswer(head, columns, has_statistics=True)
    assert msgspec.json.decode(answer.model_dump_json()) == msgspec.json.decode(answer.with_rows().model_dump_json())
    assert answer.model_dump_json() == answer.with_rows().model_dump_json()

"""What comparisons are made of, piece by piece."""

from dataclasses import replace
from itertools import combinations as pairs_of
from math import hypot
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from analysis_service.comparison.clusters import count_without_value, label_clusters
from analysis_service.comparison.compare import _count_steps
from analysis_service.comparison.contested import find_contested
from analysis_service.comparison.other_texts import OtherTexts
from analysis_service.comparison.own_means import measure_own
from analysis_service.comparison.pair import compare_two, correct, tell_pair
from analysis_service.comparison.ranking import rank_entries
from analysis_service.comparison.resolve import Part
from analysis_service.comparison.score_table import ScoreTable
from analysis_service.comparison.warnings import differing_provenance, few_clusters, warn_of_runs
from analysis_service.comparison.weighted import combine, contributions, weighted_means
from analysis_service.group_by.combinations import Combinations, FieldValues
from analysis_service.question_scores import score_questions
from analysis_service.stats.bootstrap import NOTHING_DRAWN
from analysis_service.stats.paired import Paired, compare_counts, compare_paired
from shared.problems import TooManyGroups
from shared.registry.load import load_registry
from shared.statistics import Correction
from shared.submission import Status
from tests.unit.test_question_scores import columns
from tests.unit.test_resolve import run

SPEC = load_registry().benchmarks["mmlu-redux"]
POINTS = SPEC.model_copy(update={"score_min": -50.0, "score_max": 50.0})
NONE = NOTHING_DRAWN
F = np.ndarray[Any, np.dtype[np.float64]]


def table(scores: F, part: list[int] | None = None, clusters: list[int] | None = None) -> ScoreTable:
    n = scores.shape[1]
    return ScoreTable(
        scores=scores,
        part=np.array(part or [0] * n, dtype=np.intp),
        question_no=np.arange(1, n + 1, dtype=np.int32),
        combination=np.ones(n, dtype=np.int32),
        clusters=None if clusters is None else np.array(clusters, dtype=np.intp),
        without_cluster=0,
        is_single=np.ones(scores.shape, dtype=np.bool_),
        n_scored=(~np.isnan(scores)).sum(axis=1),
    )


class TestClusters:
    FIELD = FieldValues(np.array([-1, 1, 0, 2, 1], dtype=np.int32), ["a", "b", None])
    COMBINATIONS = Combinations(1, (4,), {"passage": FIELD})

    def test_questions_of_one_value_are_together_and_those_without_alone(self) -> None:
        combination = np.array([1, 2, 3, 4, 3, 2], dtype=np.int32)
        label = label_clusters(combination, self.COMBINATIONS, "passage").tolist()
        assert label[0] == label[3]
        assert label[1] == label[5]
        assert sorted(set(label)) == [0, 1, 2, 3]
        assert label[2] != label[4]
        assert count_without_value(combination, self.COMBINATIONS, "passage") == 2

    def test_no_questions_are_no_clusters(self) -> None:
        assert label_clusters(np.zeros(0, dtype=np.int32), self.COMBINATIONS, "passage").tolist() == []


class TestWeighted:
    RNG = np.random.default_rng(3)
    PART = [0] * 40 + [1] * 25 + [2] * 60
    SHARE = np.array([0.5, 0.3, 0.2])
    SCORES = RNG.random((3, 125))

    def test_contributions_have_the_mean_and_the_variance_of_the_whole(self) -> None:
        own = table(self.SCORES, self.PART)
        found = contributions(own, self.SHARE)
        strata = [self.SCORES[:, own.part == number] for number in range(3)]
        expected = sum(share * stratum.mean(axis=1) for share, stratum in zip(self.SHARE, strata, strict=True))
        np.testing.assert_allclose(found.mean(axis=1), expected)
        np.testing.assert_allclose(weighted_means(own, self.SHARE), expected)
        variance = sum(
            share**2 * stratum.var(axis=1) / stratum.shape[1] for share, stratum in zip(self.SHARE, strata, strict=True)
        )
        np.testing.assert_allclose(found.var(axis=1) / 125, variance)

    def test_the_unit_is_the_cluster_where_there_are_some(self) -> None:
        clusters = [place // 5 for place in range(125)]
        found = contributions(table(self.SCORES, self.PART, clusters), self.SHARE)
        assert found.shape == (3, 25)
        np.testing.assert_allclose(found.mean(axis=1), weighted_means(table(self.SCORES, self.PART), self.SHARE))

    def test_equal_weights_of_one_benchmark_change_nothing(self) -> None:
        np.testing.assert_allclose(contributions(table(self.SCORES), np.array([1.0])), self.SCORES)

    SPECS = (SPEC, POINTS)

    def pair(self, n: int, **changes: Any) -> Paired:
        given = {"wins": 5, "losses": 2, "ties": n - 7, "mean_a": 0.6, "mean_b": 0.5, "delta": 0.1, "se": 0.02}
        limits = {"ci_low": 0.06, "ci_high": 0.15}
        return Paired(**{"n": n, **given, **limits, **changes})

    def test_benchmarks_are_put_together(self) -> None:
        other = self.pair(50, delta=-0.1, se=0.04, ci_low=-0.2, ci_high=-0.02)
        found = combine([self.pair(100), other], np.array([0.75, 0.25]), self.SPECS, 0.95)
        assert (found.n, found.wins, found.losses, found.ties) == (150, 10, 4, 136)
        assert found.delta == pytest.approx(0.05)
        assert found.se == pytest.approx(np.hypot(0.75 * 0.02, 0.25 * 0.04))
        assert found.sd == pytest.approx(found.se * 150**0.5)
        below, above = np.hypot(0.75 * 0.04, 0.25 * 0.1), np.hypot(0.75 * 0.05, 0.25 * 0.08)
        assert (found.ci_low, found.ci_high) == pytest.approx((0.05 - below, 0.05 + above))
        assert found.p == pytest.approx(2 * norm.sf(norm.ppf(0.975) * 0.05 / below))

    def test_what_a_benchmark_lacks_the_whole_lacks(self) -> None:
        share = np.array([0.75, 0.25])
        few = combine([self.pair(100), self.pair(19)], share, self.SPECS, 0.95)
        assert np.isnan([few.delta, few.se, few.p]).all()
        assert "there are 19 of mmlu-redux" in (few.reason or "")
        rough = combine([self.pair(100, n_clusters=9), self.pair(90, n_clusters=4, se=np.nan)], share, self.SPECS, 0.95)
        assert rough.delta == pytest.approx(0.1)
        assert rough.reason == "fewer than 5 clusters of mmlu-redux"
        assert np.isnan(rough.se)

    def test_benchmarks_without_any_variation_have_an_interval(self) -> None:
        share, nan = np.array([0.5, 0.5]), np.nan
        none = {"se": nan, "ci_low": nan, "ci_high": nan}
        same = self.pair(100, wins=0, losses=0, ties=100, delta=0.0, **none)
        both = combine([same, same], share, (SPEC, SPEC), 0.95)
        assert (both.delta, both.p) == (0, 1)
        assert (both.ci_low, both.ci_high) == pytest.approx(np.array([-1, 1]) * (1 - 0.025**0.01) / 2**0.5), (
            "of none in 100 at most so many differ, by 1 at most"
        )
        assert "differ by the same" in (both.reason or "")
        one = combine([same, self.pair(100)], share, (SPEC, SPEC), 0.95)
        assert one.se == pytest.approx(0.01)
        assert one.reason is None
        assert one.ci_low < 0.05 - 0.5 * 0.04, "what does not vary has no error of 0"
        apart = self.pair(100, wins=100, losses=0, ties=0, delta=1.0, **none)
        told = combine([apart, apart], share, (SPEC, SPEC), 0.95)
        assert told.p < 1e-6
        assert told.ci_low < 1 - 1e-2

    def test_intervals_cover_where_few_questions_of_a_benchmark_differ(self) -> None:
        """A mean ± 1.96 standard errors covers 64 % here: of 20 questions often none differs."""
        rng, share, covered = np.random.default_rng(8), np.array([0.5, 0.5]), []
        for _ in range(400):
            small, large = rng.multinomial(20, [0.0375, 0.0125, 0.95]), rng.multinomial(5000, [0.15, 0.05, 0.8])
            parts = [compare_counts(n.sum(), 0, n[0], n[1], 0.95)[0] for n in (small, large)]
            found = combine(parts, share, (SPEC, SPEC), 0.95)
            covered.append(found.ci_low <= 0.5 * 0.025 + 0.5 * 0.1 <= found.ci_high)
            assert (found.p <= 0.05) == (found.ci_low > 0 or found.ci_high < 0), "test and interval agree"
        assert np.mean(covered) >= 0.94


class TestOwnMeans:
    def test_entries_are_told_by_the_kind_of_their_own_scores(self) -> None:
        nan = np.nan
        scores = np.array([[0, 1, 1, nan, 1], [0, 1, 1, nan, 1], [0, 0.5, 1, nan, 1], [nan] * 5, [0.5] * 5])
        entries = replace(table(scores), is_single=np.arange(5)[:, None] != np.ones((1, 5)))
        own = measure_own(entries, [SPEC], None, cluster_by=None, confidence=0.95)
        assert [told.method for told in own] == ["wilson", "wilson on effective n", "t", None, None]
        assert [told.mean for told in own] == [0.75, 0.75, 0.625, None, 0.5]
        assert [told.reason for told in own[2:]] == [
            None,
            "no attempt was scored",
            "all scores are equal, which tells nothing of the error",
        ]

    def test_clusters_are_those_of_the_questions_that_an_entry_has(self) -> None:
        scores = np.tile([0, 0.5, 1], (2, 9)).astype(np.float64)
        clusters = np.arange(27) % 5
        scores[1, clusters == 4] = np.nan
        own = measure_own(
            table(scores, clusters=clusters.tolist()), [SPEC], None, cluster_by="passage", confidence=0.95
        )
        fit = OLS(scores[0], np.ones(27)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
        assert own[0].method == "wilson on effective n (CR2)"
        assert own[0].se == pytest.approx(fit.bse[0], rel=0.05), "CR1 there, CR2 here"
        assert (own[1].method, own[1].reason) == (None, "fewer than 5 values of passage to cluster by")

    def test_scores_on_another_scale(self) -> None:
        [own] = measure_own(table(np.array([[50.0, -50.0, 50.0]])), [POINTS], None, cluster_by=None, confidence=0.95)
        assert own.method == "wilson"
        assert own.mean == pytest.approx(50 / 3)
        low, high = proportion_confint(2, 3, method="wilson")
        assert (own.ci_low, own.ci_high) == pytest.approx((100 * low - 50, 100 * high - 50))

    def test_what_a_benchmark_lacks_the_weighted_mean_lacks(self) -> None:
        scores = np.array([[0, 1, 1, 0], [0, 1, 1, np.nan], [0, 1, np.nan, np.nan]])
        own = measure_own(table(scores, [0, 0, 1, 1]), [SPEC, POINTS], [1, 1], cluster_by=None, confidence=0.95)
        assert own[0].method == "mover over weighted benchmarks"
        low, high = proportion_confint(1, 2, method="wilson")
        reach = t.ppf(0.975, 1) * 0.5  # of 1 and 0, which are not the ends of that scale
        assert own[0].mean == 0.5
        assert own[0].ci_low == pytest.approx(0.5 - hypot(0.5 - low, reach) / 2)
        assert own[0].ci_high == pytest.approx(0.5 + hypot(high - 0.5, reach) / 2)
        assert (own[1].se, own[1].reason) == (None, f"{SPEC.name}: one question tells nothing of the error")
        assert "no attempt was scored" in (own[2].reason or "")


class TestPairs:
    def test_two_runs_by_their_questions(self) -> None:
        a = score_questions(run(1), columns([(n, 1, Status.SCORED, n % 2) for n in range(1, 61)]), SPEC)
        b = score_questions(run(2), columns([(n, 1, Status.SCORED, n % 3 == 0) for n in range(31, 91)]), SPEC)
        pair = compare_two(a, b, SPEC, names=("a", "b"), confidence=0.9, draws=200, seed=1)
        assert (pair.n_shared, pair.wins, pair.losses, pair.method) == (30, 10, 5, "tango")
        assert pair.bootstrap_low is not None
        assert pair.p_adjusted is None

    def test_few_shared_questions_tell_nothing(self) -> None:
        scores = np.arange(19, dtype=np.float64) % 2
        pair = tell_pair(("a", "b"), compare_paired(scores, 1 - scores, confidence=0.95), NONE, confidence=0.95)
        told = pair.model_dump(exclude={"a", "b", "n_shared", "wins", "losses", "ties", "confidence", "warnings"})
        assert {name for name, value in told.items() if value is not None} == {"reason"}

    def test_a_correction_counts_the_tests_that_were_made(self) -> None:
        scores = np.arange(40, dtype=np.float64) % 2
        better, few = np.where(np.arange(40) < 20, 1.0, scores), scores[:5]
        told = [
            tell_pair(("a", "b"), compare_paired(x, y, confidence=0.95), NONE, confidence=0.95)
            for x, y in ((better, scores), (few, few), (scores, better))
        ]
        corrected, n_tests = correct(told, Correction.HOLM, 0.95)
        assert n_tests == 2
        assert [pair.p_adjusted for pair in corrected] == pytest.approx(
            [2 * (told[0].p or 0), None, 2 * (told[2].p or 0)]
        )
        assert [pair.significant for pair in corrected] == [True, None, True]
        assert correct([], Correction.BH, 0.95) == ([], 0)

    def test_ranks_hold_for_all_at_once(self) -> None:
        """p = .02 three times is something by itself, and nothing by Holm."""
        means = np.array([0.9, 0.5, 0.1])

        def pairs(p: float) -> list[Paired]:
            return [
                Paired(100, 0, 0, 100, means[a], means[b], means[a] - means[b], p=p) for a, b in pairs_of(range(3), 2)
            ]

        found = rank_entries(means, pairs(0.02), 0.95)
        assert (found.low.tolist(), found.high.tolist(), found.tie_group.tolist()) == ([1] * 3, [3] * 3, [1] * 3)
        found = rank_entries(means[::-1], [*reversed(pairs(0.01))], 0.95)
        assert found.rank.tolist() == [3, 2, 1]
        found = rank_entries(means, pairs(0.01), 0.95)
        assert found.low.tolist() == found.high.tolist() == [1, 2, 3]


def test_the_most_divided_question_comes_first() -> None:
    scores = np.array([[1, 1, 0, 0.5, np.nan, 1], [1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 0, 1], [1, 1, 1, 0, 0, 0.0]])
    columns_, n = find_contested(table(scores), [1.0], 9)
    assert (columns_.tolist(), n) == ([1, 5, 2, 3], 4), "evenly divided before one against three; not what one lacks"
    assert find_contested(table(scores), [1.0], 2)[0].tolist() == [1, 5]
    scaled, _ = find_contested(table(scores, [0, 0, 0, 1, 1, 1]), [1.0, 0.1], 9)
    assert scaled.tolist() == [5, 3, 1, 2], "a spread counts by the length of its scale"
    assert find_contested(table(np.full((2, 3), np.nan)), [1.0], 9)[1] == 0


def test_ids_that_stand_for_two_questions() -> None:
    # Ids 0, 1, 2 of questions that only some have; two entries have another question under id 1.
    is_scored = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 0]], dtype=np.bool_)
    texts = OtherTexts("x", is_scored, np.array([0, 1, 1, 2]))
    assert [texts.count(a, b) for a, b in pairs_of(range(3), 2)] == [1, 1, 0]
    assert texts.count(1, 0) == 1
    shared = OtherTexts("x", np.array([[1, 0], [1, 1]], dtype=np.bool_), np.array([0, 0]))
    assert shared.count(0, 1) == shared.count(1, 0) == 0, "the one has a text that both have, and no other"


def test_only_what_both_tell_is_a_difference() -> None:
    told: dict[str, Any] = {
        "harness": "lm-eval",
        "harness_version": "1",
        "task_version": "1",
        "grader": "x",
        "config_hash": "a",
    }
    own = run(1, **told)
    assert list(differing_provenance(own, run(2))) == list(differing_provenance(own, run(2, **told))) == []
    others: dict[str, Any] = dict.fromkeys(told, "else")
    other = list(differing_provenance(own, run(2, **others)))
    assert [warning.partition(",")[0] for warning in other] == [
        "mmlu-redux: other harnesses",
        "mmlu-redux: other versions of the task",
        "mmlu-redux: other graders",
        "mmlu-redux: other settings",
    ]


def test_warnings_name_a_few() -> None:
    runs = [run(1, f"new/{number}", result_name=f"r{number}", coverage=0.5) for number in range(7)]
    assert list(warn_of_runs(runs)) == [
        "not in the model registry: new/0, new/1, new/2, new/3, new/4 and 2 more",
        "under 95 % of the benchmark's questions: r0, r1, r2, r3, r4 and 2 more",
    ]
    assert list(warn_of_runs([run(1, live=True, coverage=0.1)])) == [f"still going on: {run(1).result_name}"]
    assert [len(list(few_clusters(n))) for n in (None, 4, 5, 19, 20)] == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("first", "weight", "clusters", "most"),
    [
        (1.0, None, None, 42_857_142),
        (0.5, None, None, 14_285_714),
        (1.0, 2.0, None, 14_285_714),
        (0.5, None, list(range(20)), 42_857_142),
    ],
)
def test_draws_that_take_too_long_are_refused(
    first: float, weight: float | None, clusters: list[int] | None, most: int
) -> None:
    scores = np.zeros((10, 20))
    scores[0, 0] = first
    own, parts = table(scores, clusters=clusters), [Part(SPEC, (), weight)]
    _count_steps(own, parts, most)
    with pytest.raises(TooManyGroups, match=f"at most {most:,} draws"):
        _count_steps(own, parts, 2 * most)

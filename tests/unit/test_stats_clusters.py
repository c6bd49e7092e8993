"""Clustered means against statsmodels, and against the matrices that their closed forms come from."""

from typing import Literal

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis_service.stats.clusters import ClusteredMeans, clustered_means

F = NDArray[np.float64]
Kind = Literal["cr1", "cr2"]
KINDS: tuple[Kind, ...] = ("cr1", "cr2")


def of_scores(scores: F, cluster: NDArray[np.int64], kind: Kind) -> ClusteredMeans:
    """Of one row, from single scores."""
    total, count = np.bincount(cluster, scores), np.bincount(cluster)
    return clustered_means(np.zeros(len(total)), total, count, 1, kind=kind)


def cr2_by_matrices(scores: F, cluster: NDArray[np.int64]) -> tuple[float, float]:
    """Standard error and degrees of freedom as Pustejovsky & Tipton 2018 write them: CR2, working model identity."""
    n = len(scores)
    x = np.ones((n, 1))
    bread = np.linalg.inv(x.T @ x)
    residual_maker = np.eye(n) - x @ bread @ x.T
    residual = residual_maker @ scores
    meat, columns = 0.0, []
    for g in np.unique(cluster):
        mine = cluster == g
        values, vectors = np.linalg.eigh(residual_maker[np.ix_(mine, mine)])
        adjustment = vectors @ np.diag(values**-0.5) @ vectors.T
        meat += float((x[mine].T @ adjustment @ residual[mine])[0] ** 2)
        columns.append(residual_maker[:, mine] @ adjustment @ x[mine] @ bread)
    products = np.hstack(columns).T @ np.hstack(columns)
    se = np.sqrt(bread[0, 0] ** 2 * meat)
    return float(se), float(np.trace(products) ** 2 / (products**2).sum())


@pytest.mark.parametrize("sizes", [(8,) * 12, (1, 2, 3, 40, 5), (1, 1), (300, 1, 1, 20, 9, 9, 9)])
def test_cr1_is_that_of_statsmodels(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    scores = rng.random(len(cluster)) + rng.random(len(sizes))[cluster]
    fit = sm.OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True)

    found = of_scores(scores, cluster, "cr1")

    assert found.mean[0] == pytest.approx(fit.params[0], abs=1e-9)
    assert found.se[0] == pytest.approx(fit.bse[0], abs=1e-9)
    assert found.df[0] == len(sizes) - 1


@pytest.mark.parametrize("sizes", [(8,) * 12, (1, 2, 3, 40, 5), (1, 1), (60, 1, 1, 20, 9, 9, 9)])
def test_cr2_is_what_the_matrices_say(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    scores = rng.random(len(cluster)) + rng.random(len(sizes))[cluster]
    se, df = cr2_by_matrices(scores, cluster)

    found = of_scores(scores, cluster, "cr2")

    assert found.se[0] == pytest.approx(se, abs=1e-9)
    assert found.df[0] == pytest.approx(df, abs=1e-9)


def test_clusters_of_one_size_make_both_kinds_the_same() -> None:
    scores = np.random.default_rng(3).random(60)
    first, second = (of_scores(scores, np.arange(60) // 6, kind) for kind in KINDS)

    assert first.se[0] == pytest.approx(second.se[0], rel=1e-12)
    assert second.df[0] == pytest.approx(first.df[0], rel=1e-12) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_one_unit_a_cluster_is_the_usual_standard_error(kind: Kind) -> None:
    scores = np.random.default_rng(3).random(50)

    found = of_scores(scores, np.arange(50), kind)

    assert found.se[0] == pytest.approx(scores.std(ddof=1) / np.sqrt(50), rel=1e-12)
    assert found.df[0] == pytest.approx(49)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_entries_and_with_one_cluster_have_no_error(kind: Kind) -> None:
    # Row 0: nothing; row 1: one cluster; row 2: two, and one without units.
    found = clustered_means([1, 2, 2, 2], [3, 1, 4, 0], [4, 2, 5, 0], 4, kind=kind)

    np.testing.assert_array_equal(found.n_clusters, [0, 1, 2, 0])
    np.testing.assert_allclose(found.mean, [np.nan, 0.75, 5 / 7, np.nan])
    np.testing.assert_array_equal(np.isnan(found.se), [True, True, False, True])
    np.testing.assert_array_equal(np.isnan(found.df), [True, True, False, True])


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_and_no_entries_are_no_error(kind: Kind) -> None:
    assert clustered_means([], [], [], 0, kind=kind).mean.shape == (0,)
    assert np.isnan(clustered_means([], [], [], 3, kind=kind).se).all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_scores_have_no_variation_at_all(kind: Kind) -> None:
    # 0.1 × 3 is not 0.1 + 0.1 + 0.1: such crumbs are no variance.
    cluster = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])

    assert of_scores(np.full(28, 0.1), cluster, kind).se[0] == 0


entries = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.integers(1, 9)), min_size=1, max_size=40).map(
    lambda found: (
        np.array([e[0] for e in found]),
        np.array([e[1] * e[2] for e in found]),
        np.array([e[2] for e in found]),
    )
)


@given(entries, st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_order_and_the_other_rows_do_not_matter(
    entries: tuple[NDArray[np.int64], F, NDArray[np.int64]], kind: Kind, seed: int
) -> None:
    row, total, count = entries
    together = clustered_means(row, total, count, 4, kind=kind)
    order = np.random.default_rng(seed).permutation(len(row))
    shuffled = clustered_means(row[order], total[order], count[order], 4, kind=kind)

    for one, other in zip(together, shuffled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    for r in range(4):
        alone = clustered_means(np.zeros((row == r).sum()), total[row == r], count[row == r], 1, kind=kind)
        np.testing.assert_allclose(alone.se[0], together.se[r], rtol=1e-9, atol=1e-9)


@given(entries, st.sampled_from(KINDS), st.floats(-5, 5), st.floats(0.1, 10))
def test_another_scale_is_the_same_on_that_scale(
    entries: tuple[NDArray[np.int64], F, NDArray[np.int64]], kind: Kind, shift: float, factor: float
) -> None:
    row, total, count = entries
    one = clustered_means(row, total, count, 4, kind=kind)
    other = clustered_means(row, factor * total + shift * count, count, 4, kind=kind)

    np.testing.assert_allclose(other.mean, factor * one.mean + shift, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(other.se, factor * one.se, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(other.df, one.df)


@given(entries)
def test_degrees_of_freedom_lie_between_one_and_those_of_equal_clusters(
    entries: tuple[NDArray[np.int64], F, NDArray[np.int64]],
) -> None:
    found = clustered_means(*entries, 4, kind="cr2")
    some = found.n_clusters > 1

    assert (found.df[some] >= 1 - 1e-9).all()
    assert (found.df[some] <= found.n_clusters[some] - 1 + 1e-9).all()

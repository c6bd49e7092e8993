"""All pairs of several models, from the scores of all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis_service.stats.bootstrap import Resampled, Steps, bootstrap_means, bootstrap_ranks, bootstrap_steps
from analysis_service.stats.paired import Paired, compare_counts, compare_paired, subtract

F = NDArray[np.float64]
Pair = tuple[int, int]

_BATCH = 64
"""Pairs whose differences are held at once."""


@dataclass(frozen=True, slots=True)
class AllCompared:
    """Every pair of several models, and what is about the questions that all share."""

    pairs: list[Paired]
    """(0, 1), (0, 2) … (1, 2) …: as `itertools.combinations` gives them."""
    bootstrap: list[Resampled]
    """Of each pair; NaN with clusters, and where `draws` is 0."""
    n_shared_by_all: int
    means: F
    """Over the questions that all share, a model each; NaN where there are none."""
    p_best: F
    """The share of joint draws in which each is first; NaN where there are no such questions, or no draws."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """What is compared, and how; the fields are the arguments of `compare_all`."""

    scores: F
    has: NDArray[np.bool_]
    confidence: float
    draws: int
    seed: int
    clusters: NDArray[np.intp] | None
    is_single: NDArray[np.bool_]
    """Of the shape of `scores`."""
    lowest: float
    highest: float
    names: Sequence[str] | None


def compare_all(
    scores: F,
    *,
    confidence: float,
    draws: int,
    seed: int,
    clusters: NDArray[np.intp] | None = None,
    single_attempts: NDArray[np.bool_] | bool = True,
    lowest: float = 0.0,
    highest: float = 1.0,
    names: Sequence[str] | None = None,
) -> AllCompared:
    """Compare each two models on the questions that both have, as `compare_paired` does, but all at once.

    `scores` are models × questions, NaN where a model has none; `clusters` those of the questions; `single_attempts`
    whether each score is of one attempt, or all are. With `names` of the models no number hangs on their
    order. Bootstrap draws are of questions: where those are in clusters there are none of pairs, and those of `p_best`
    are of clusters.
    """
    has, is_single = ~np.isnan(scores), np.broadcast_to(single_attempts, scores.shape)
    asked = _Scores(scores, has, confidence, draws, seed, clusters, is_single, lowest, highest, names)
    is_counted = (~has | (is_single & ((scores == lowest) | (scores == highest)))).all(axis=1) & (clusters is None)
    pairs = list(combinations(range(len(scores)), 2))
    counted = [pair for pair in pairs if is_counted[list(pair)].all()]
    told = _compare_counted(asked, counted)
    rest = [pair for pair in pairs if pair not in told]
    for start in range(0, len(rest), _BATCH):
        told |= _compare_scores(asked, rest[start : start + _BATCH])
    by_all = np.asarray(has.all(axis=0))
    n_by_all = int(by_all.sum())
    return AllCompared(
        pairs=[told[pair][0] for pair in pairs],
        bootstrap=[told[pair][1] for pair in pairs],
        n_shared_by_all=n_by_all,
        means=scores[:, by_all].mean(axis=1) if n_by_all else np.full(len(scores), np.nan),
        p_best=_tell_firsts(asked, by_all, told),
    )


def _compare_counted(asked: _Scores, pairs: Sequence[Pair]) -> dict[Pair, tuple[Paired, Resampled]]:
    """Pairs of right-or-wrong answers: what each two have in common is a product of matrices of 0 and 1."""
    if not pairs:
        return {}
    i, j = np.array(pairs).T
    has, right = asked.has.astype(np.float64), (asked.scores == asked.highest).astype(np.float64)
    n, right_shared, right_both = (has @ has.T)[i, j], right @ has.T, (right @ right.T)[i, j]
    compared = compare_counts(
        n,
        right_shared[i, j],
        right_shared[i, j] - right_both,
        right_shared[j, i] - right_both,
        asked.confidence,
        lowest=asked.lowest,
        highest=asked.highest,
    )
    steps = [Steps.of_counts(pair.n, pair.wins, pair.losses, asked.highest - asked.lowest) for pair in compared]
    limits = bootstrap_steps(steps, draws=asked.draws, seed=asked.seed, confidence=asked.confidence)
    return dict(zip(pairs, zip(compared, limits, strict=True), strict=True))


def _compare_scores(asked: _Scores, pairs: Sequence[Pair]) -> dict[Pair, tuple[Paired, Resampled]]:
    compared, differences = [], []
    for i, j in pairs:
        shared = asked.has[i] & asked.has[j]
        a, b = asked.scores[i, shared], asked.scores[j, shared]
        compared.append(
            compare_paired(
                a,
                b,
                confidence=asked.confidence,
                seed=asked.seed,
                clusters=None if asked.clusters is None else asked.clusters[shared],
                single_attempts=bool(asked.is_single[[i, j]][:, shared].all()),
                lowest=asked.lowest,
                highest=asked.highest,
            )
        )
        differences.append(subtract(a, b))
    draws = asked.draws if asked.clusters is None else 0
    limits = bootstrap_means(differences, draws=draws, seed=asked.seed, confidence=asked.confidence)
    return dict(zip(pairs, zip(compared, limits, strict=True), strict=True))


def _tell_firsts(asked: _Scores, by_all: NDArray[np.bool_], told: dict[Pair, tuple[Paired, Resampled]]) -> F:
    if len(asked.scores) == 2 and asked.clusters is None:
        above = told[0, 1][1].above  # what the pair's draws have told already
        return np.round([above, 1 - above], 12)  # the same whoever of the two stands first
    scores = asked.scores[:, by_all]
    if asked.clusters is not None:
        _, cluster = np.unique(asked.clusters[by_all], return_inverse=True)
        scores = np.stack([np.bincount(cluster, own) for own in scores])
    return bootstrap_ranks(scores, draws=asked.draws, seed=asked.seed, names=asked.names)

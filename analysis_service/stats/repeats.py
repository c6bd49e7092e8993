"""What several attempts at each question tell: pass@k, pass^k, majority votes, agreement, components of variance.

Arguments over attempts have one entry a scored attempt. `question` numbers the questions from 0 without gaps, `answer`
the distinct answers from 0 on, negative where there is none. Results over questions are in the order of their numbers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

F = NDArray[np.float64]
Numbers = NDArray[np.intp]


class VarianceComponents(NamedTuple):
    """NaN where there is none."""

    question: float
    attempt: float


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> F:
    """The chance that of `k` of `n` attempts, of which `c` are right, at least one is; NaN where k > n.

    Chen et al. 2021, "Evaluating large language models trained on code", eq. 1: 1 − C(n − c, k) / C(n, k), the unbiased
    estimate, as a product that neither overflows nor cancels. Arguments broadcast.
    """
    n, c, k = (np.asarray(a, np.int64) for a in (n, c, k))
    return 1 - _share_of_draws(n, n - c, k)


def pass_all_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> F:
    """pass^k, the chance that all of `k` of `n` attempts, of which `c` are right, are; NaN where k > n.

    Yao et al. 2024, "τ-bench: a benchmark for tool-agent-user interaction in real-world domains":
    C(c, k) / C(n, k), unbiased. Arguments broadcast.
    """
    n, c, k = (np.asarray(a, np.int64) for a in (n, c, k))
    return _share_of_draws(n, c, k)


def _share_of_draws(n: NDArray[np.int64], of: NDArray[np.int64], k: NDArray[np.int64]) -> F:
    """C(of, k) / C(n, k): of all draws of `k` from `n`, those from among `of` of them."""
    n, of, k = np.broadcast_arrays(n, of, k)
    share = np.where(k <= n, 1.0, np.nan)
    for drawn in range(int(k.max(initial=0))):
        left = np.maximum(n - drawn, 1)
        share = np.where(drawn < k, share * (np.maximum(of - drawn, 0) / left), share)
    return share


def count_right(question: Numbers, is_right: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, c) of each question: its attempts, and those that are right."""
    n = np.bincount(question)
    return n, np.bincount(question[is_right], minlength=len(n))


def question_means(question: Numbers, score: F) -> F:
    """avg@n of each question: the mean score of its attempts."""
    return np.bincount(question, score) / np.bincount(question)


def majority_scores(question: Numbers, score: F, answer: Numbers) -> F:
    """maj@n of each question: the score of the answer that most of its attempts gave; NaN where none gave any.

    Wang et al. 2023, "Self-consistency improves chain of thought reasoning in language models". Of equally frequent
    answers the mean of their scores, which is what drawing one of them would give.
    """
    votes = _votes(question, score, answer)
    n = int(question.max(initial=-1)) + 1
    most = np.zeros(n, np.int64)
    np.maximum.at(most, votes.question, votes.n)
    first = votes.n == most[votes.question]
    winners = np.bincount(votes.question[first], minlength=n)
    total = np.bincount(votes.question[first], votes.score[first], n)
    return np.where(winners > 0, total / np.maximum(winners, 1), np.nan)


def agreement(question: Numbers, answer: Numbers) -> F:
    """Of each question the chance that two of its attempts have the same answer; NaN where under two have any.

    Simpson's index without replacement: Σ mᵢ (mᵢ − 1) / (m (m − 1)) over its answers (Simpson 1949, "Measurement of
    diversity"), unbiased for the chance that two new attempts agree.
    """
    votes = _votes(question, np.zeros(len(question)), answer)
    n = int(question.max(initial=-1)) + 1
    answered = np.bincount(votes.question, votes.n, n)
    same = np.bincount(votes.question, votes.n * (votes.n - 1.0), n)
    pairs = answered * (answered - 1)
    return np.where(pairs > 0, same / np.maximum(pairs, 1), np.nan)


def variance_components(question: Numbers, score: F) -> VarianceComponents:
    """How far questions' true means differ, and how far attempts at one question do, as variances.

    Analysis of variance of one random factor with unequal groups (Searle, Casella & McCulloch 1992, "Variance
    components"): the attempts' is the mean square within, pooled over questions; the questions' is (mean
    square between − within) / n₀, and 0 where that is negative. Both NaN where no question has two attempts, the
    questions' also where there is one question.
    """
    n_each = np.bincount(question)
    n, groups = int(n_each.sum()), len(n_each)
    if n <= groups:
        return VarianceComponents(np.nan, np.nan)
    means = question_means(question, score)
    within = float(np.sum((score - means[question]) ** 2)) / (n - groups)
    if groups == 1:
        return VarianceComponents(np.nan, within)
    between = float(np.sum(n_each * (means - score.mean()) ** 2)) / (groups - 1)
    n0 = (n - float(np.sum(n_each.astype(np.float64) ** 2)) / n) / (groups - 1)
    return VarianceComponents(max(0.0, (between - within) / n0), within)


class _Votes(NamedTuple):
    """Each answer of each question, once."""

    question: Numbers
    n: NDArray[np.int64]
    score: F
    """Mean of the attempts that gave it: a grader may not have scored all alike."""


def _votes(question: Numbers, score: F, answer: Numbers) -> _Votes:
    told = answer >= 0
    kinds = int(answer.max(initial=0)) + 1
    key, vote, count = np.unique(question[told] * kinds + answer[told], return_inverse=True, return_counts=True)
    return _Votes(key // kinds, count, np.bincount(vote, score[told], len(key)) / np.maximum(count, 1))

"""Intervals of pass@k and pass^k, from several attempts at questions that are not equally hard."""

from itertools import product

import numpy as np
from scipy.special import betaln

from analysis_service.stats.means import estimate_means, sum_questions, units_of_questions
from analysis_service.stats.repeats import pass_all_k, pass_at_k
from tests.simulation.binary_means import draw_answers
from tests.simulation.promises import F, Promise, Range, covered, from_30

ATTEMPTS = 8
KS = (1, 2, 4, 8)
MEANS = (0.1, 0.3, 0.5, 0.7, 0.9)
CORRELATIONS = (0.2, 0.5)


def repeats_coverage(rounds: int) -> list[Promise]:
    """Of pass@k and pass^k for every k up to the attempts."""
    random = np.random.default_rng(111)
    promises = []
    for n in (30, 100, 500):
        found: list[tuple[float, float]] = []
        for p, correlation in product(MEANS, CORRELATIONS):
            right = draw_answers((rounds, n), p, correlation, ATTEMPTS, random)
            a, b = p * (1 - correlation) / correlation, (1 - p) * (1 - correlation) / correlation
            for k in KS:
                # The means over questions of (1 − chance)^k and chance^k, chances being beta-distributed.
                at_least_one = 1 - float(np.exp(betaln(a, b + k) - betaln(a, b)))
                all_right = float(np.exp(betaln(a + k, b) - betaln(a, b)))
                found.append((at_least_one, _coverage(pass_at_k(ATTEMPTS, right, k), at_least_one)))
                found.append((all_right, _coverage(pass_all_k(ATTEMPTS, right, k), all_right)))
        truths, shares = np.array(found).T
        is_middle = (truths >= 0.05) & (truths <= 0.95)
        what = f"pass@k and pass^k, k = 1 … {ATTEMPTS}, {n} questions"
        promises.append(from_30(f"{what}, truth .05 … .95", n, shares[is_middle], rounds))
        at_ends = f"the same, truth {truths.min():.2g} … .05 and .95 … {truths.max():.3g}"
        promises.append(Promise(at_ends, shares[~is_middle], rounds, mean=Range(0.94, 1)))
    return promises


def _coverage(values: F, truth: float) -> float:
    questions = sum_questions(values)
    units = units_of_questions(questions, ATTEMPTS)
    found = estimate_means(questions, units, are_questions=True, confidence=0.95)
    return float(covered(*found.limits, truth))

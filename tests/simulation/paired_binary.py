"""Two models' right-or-wrong answers to the same questions: Tango's interval and McNemar's test, over all outcomes."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import binom

from analysis_service.stats.paired import mcnemar, tango
from tests.simulation.promises import AT_MOST_5, FEW_EACH, F, Promise, from_30

Counts = NDArray[np.int64]

MEANS = np.linspace(0.05, 0.95, 19)
CORRELATIONS = (0.0, 0.3, 0.6)
"""Of the two models' answers to one question."""
HIGH_CORRELATION = 0.8


def tango_coverage(rounds: int) -> list[Promise]:
    """Of the interval of the difference, of equal models and others; `rounds` does not matter."""
    del rounds
    promises = []
    for n in (30, 100, 500):
        what = f"Tango, n = {n}, p .05 … .95, difference 0 and .04, correlation"
        promises.append(from_30(f"{what} 0 … .6", n, _exact_coverage(n, CORRELATIONS), None))
        high = _exact_coverage(n, (HIGH_CORRELATION,))
        # Of 30 questions one or two differ then: no interval of so few outcomes has 95 % on average.
        promises.append(Promise(f"{what} {HIGH_CORRELATION}", high, None, each=FEW_EACH))
    return promises


def _exact_coverage(n: int, correlations: Sequence[float]) -> F:
    """By correlation, mean and difference."""
    wins, losses = (counts.ravel() for counts in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    wins, losses = wins[wins + losses <= n], losses[wins + losses <= n]
    low, high = tango(wins, losses, n, 0.95)
    shares = []
    for correlation, mean, delta in product(correlations, MEANS.tolist(), (0.0, 0.04)):
        won, lost = _discordant(mean + delta / 2, mean - delta / 2, correlation)
        holds = (low <= won - lost + 1e-12) & (won - lost - 1e-12 <= high)
        shares.append(_trinomial(n, wins, losses, won, lost) @ holds)
    return np.array(shares)


def _discordant(mean_a: float, mean_b: float, correlation: float) -> tuple[float, float]:
    """The chances that only a is right and that only b is."""
    both = mean_a * mean_b + correlation * (mean_a * (1 - mean_a) * mean_b * (1 - mean_b)) ** 0.5
    both = min(both, mean_a, mean_b)
    return mean_a - both, mean_b - both


def _trinomial(n: int, wins: Counts, losses: Counts, won: float, lost: float) -> F:
    ties = n - wins - losses
    ways = gammaln(n + 1) - gammaln(wins + 1) - gammaln(losses + 1) - gammaln(ties + 1)
    return np.asarray(np.exp(ways + xlogy(wins, won) + xlogy(losses, lost) + xlogy(ties, 1 - won - lost)))


def mcnemar_size(rounds: int) -> list[Promise]:
    """Of the exact test, for each number of questions on which the two differ; `rounds` does not matter."""
    del rounds
    shares = []
    for discordant in range(1, 1001):
        wins = np.arange(discordant + 1)
        is_rejected = mcnemar(wins, discordant - wins) <= 0.05
        shares.append(float(binom.pmf(wins, discordant, 0.5) @ is_rejected))
    return [Promise("exact McNemar, 1 … 1,000 questions differ", np.array(shares), None, each=AT_MOST_5, nominal="5 %")]

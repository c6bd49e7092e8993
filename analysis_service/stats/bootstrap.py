"""Poisson bootstrap: in each draw each question counts 0, 1, 2 … times, as a Poisson distribution of mean 1 has it.

Hanley & MacGibbon 2006, "Creating non-parametric bootstrap samples using Poisson frequencies"; Chamandy et al. 2012,
"Estimating uncertainty for massive data streams". Scores are taken to a grid so fine that it does not matter and so
coarse that every weighted sum is exact in floating point: a result hangs neither on the order of questions, nor on what
is computed beside it, nor on how a machine adds up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from analysis_service.stats.seeds import seeded

F = NDArray[np.float64]

_DISTINCT_MAX = 64
"""Up to so many distinct differences it is drawn how often each difference counts; above, how often each question."""
_GROUPED_SHARE = 16
"""So many times fewer distinct columns of scores than questions are worth the same: a Poisson number costs as much."""
_BATCH = 64
"""Pairs that share a pass over the weights; of 100,000 questions they take 50 MB."""
_CHUNK_CELLS = 1 << 17
"""Weights at a time: 1 MB, which stays in a core's own cache until they are used."""
_WEIGHT_MAX = 8
WEIGHTS = np.repeat(np.arange(_WEIGHT_MAX + 1.0), (24108, 24111, 12055, 4019, 1003, 201, 33, 5, 1))
"""The weight that each of 65,536 random numbers stands for: Poisson's chances, rounded so that the mean and the
variance are exactly 1."""


class Resampled(NamedTuple):
    """What draws of a pair's questions say of the mean difference; scalars."""

    low: float
    """Percentiles; NaN where differences do not vary."""
    high: float
    above: float
    """The share of draws in which it is above 0; draws of 0 count half. NaN where nothing is drawn."""


NOTHING_DRAWN = Resampled(np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class Steps:
    """A pair's differences as whole steps of a grid, turned so that those of (a, b) and of (b, a) are the same."""

    values: F
    """Ascending: distinct where `counts` are theirs, else one a question."""
    counts: NDArray[np.int64] | None
    n: int
    sign: int
    """1, or −1 where the steps are those of b − a; 0 where both are the same."""
    exponent: int
    """A step is 2 to this power."""

    @property
    def varies(self) -> bool:
        """Whether there are two different ones."""
        return len(self.values) > 1 and bool(self.values[0] < self.values[-1])

    @property
    def total(self) -> float:
        """Of all questions, in steps."""
        return float(self.values.sum() if self.counts is None else self.values @ self.counts)

    @classmethod
    def of_differences(cls, differences: F) -> Self:
        """The steps of finite differences."""
        n = len(differences)
        steps, exponent = _to_grid(differences, n)
        steps = np.sort(steps)
        starts = np.flatnonzero(np.diff(steps, prepend=-np.inf))
        if len(starts) <= _DISTINCT_MAX:
            return cls._turned(steps[starts], np.diff(starts, append=n), n, exponent)
        return cls._turned(steps, None, n, exponent)

    @classmethod
    def of_counts(cls, n: int, wins: int, losses: int, span: float) -> Self:
        """The same steps, of differences that are −span, 0 or span."""
        (step,), exponent = _to_grid(np.array([span]), n)
        counts = np.array([losses, n - wins - losses, wins])
        return cls._turned(np.array([-step, 0.0, step])[counts > 0], counts[counts > 0], n, exponent)

    @classmethod
    def _turned(cls, values: F, counts: NDArray[np.int64] | None, n: int, exponent: int) -> Self:
        sign = _first_sign(values + values[::-1])
        if sign == 0 and counts is not None:
            sign = _first_sign(counts - counts[::-1])
        if sign < 0:
            # 0 − x, because the 0 of −x has a sign.
            values, counts = 0 - values[::-1], None if counts is None else counts[::-1]
        return cls(values, counts, n, sign, exponent)


def _first_sign(numbers: NDArray[np.float64] | NDArray[np.int64]) -> int:
    uneven = np.flatnonzero(numbers)
    return int(np.sign(numbers[uneven[0]])) if len(uneven) else 0


def bootstrap_means(differences: Sequence[F], *, draws: int, seed: int, confidence: float) -> list[Resampled]:
    """Percentile intervals of the means of several arrays of paired differences, and how often each is above 0.

    Those of a pair hang only on `seed`, `draws` and its own differences, in whatever order; with the signs of the
    differences the limits change their signs and places, exactly. NaN where there are under two differences, where all
    are equal and where `draws` is 0. How often each of few distinct differences is drawn comes from the Poisson numbers
    of numpy, which promises them for one release of its own.
    """
    pairs = [Steps.of_differences(own) for own in differences]
    return bootstrap_steps(pairs, draws=draws, seed=seed, confidence=confidence)


def bootstrap_steps(pairs: Sequence[Steps], *, draws: int, seed: int, confidence: float) -> list[Resampled]:
    """The same from steps."""
    if draws == 0:
        return [NOTHING_DRAWN] * len(pairs)
    resampled = [_without_variation(steps) for steps in pairs]
    weighted: list[int] = []
    for place, steps in enumerate(pairs):
        if not steps.varies:
            continue
        if steps.counts is None:
            weighted.append(place)
            continue
        rng = seeded("means", seed, steps.counts.tobytes())
        drawn = _drawn_counts(rng, steps.counts, draws)
        sums = _weighted_sums(np.vstack([steps.values, np.ones(len(steps.values))]), drawn)
        resampled[place] = _percentiles(steps, sums[0], sums[1], confidence)
    weighted.sort(key=lambda place: pairs[place].n)
    for start in range(0, len(weighted), _BATCH):
        batch = weighted[start : start + _BATCH]
        sizes = [pairs[place].n for place in batch]
        rows = np.zeros((len(batch), sizes[-1]))
        for row, place in zip(rows, batch, strict=True):
            row[: pairs[place].n] = pairs[place].values
        # The i-th weights are the same of every pair, which makes it one product of matrices.
        weights = _drawn_weights(seeded("weights", seed), sizes[-1], draws)
        totals: dict[int, F] = {}
        sums = _weighted_sums(rows, _counted(weights, sizes, totals))
        for place, own in zip(batch, sums, strict=True):
            resampled[place] = _percentiles(pairs[place], own, totals[pairs[place].n], confidence)
    return resampled


def bootstrap_ranks(scores: F, *, draws: int, seed: int, names: Sequence[str] | None = None) -> F:
    """Of each model the share of draws in which its total is the highest; ties are split evenly.

    `scores`: models × questions, finite; the questions are drawn for all models at once, in whatever order they stand,
    and with their `names` in whatever order the models do. NaN where there are no questions and where `draws` is 0.
    """
    n_models, n = scores.shape
    if n == 0 or draws == 0:
        return np.full(n_models, np.nan)
    if names is not None:
        by_name = np.argsort(names, kind="stable")
        firsts = np.empty(n_models)
        firsts[by_name] = bootstrap_ranks(scores[by_name], draws=draws, seed=seed)
        return firsts
    steps, _ = _to_grid(scores, n)
    steps = steps[:, np.lexsort(steps)]
    is_new = np.ones(n, np.bool_)
    is_new[1:] = (steps[:, 1:] != steps[:, :-1]).any(axis=0)
    starts = np.flatnonzero(is_new)
    if len(starts) * _GROUPED_SHARE <= n:
        counts = np.diff(starts, append=n)
        totals = _weighted_sums(steps[:, starts], _drawn_counts(seeded("ranks", seed), counts, draws))
    else:
        totals = _weighted_sums(steps, _drawn_weights(seeded("ranks", seed), n, draws))
    is_first = totals == totals.max(axis=0)
    return np.asarray((is_first / is_first.sum(axis=0)).mean(axis=1), np.float64)


def _to_grid(values: F, n: int) -> tuple[F, int]:
    """Values as whole steps, and the power of 2 that a step is: as fine as sums of `n` weighted ones are exact with."""
    exponent = int(np.frexp(np.abs(values).max(initial=0))[1]) - (53 - (_WEIGHT_MAX * n).bit_length())
    return np.rint(np.ldexp(values, -exponent)) + 0.0, exponent


def _drawn_weights(rng: np.random.Generator, n: int, draws: int) -> Iterator[F]:
    """Poisson weights, questions × draws, some questions at a time; fewer questions have the first of those of more."""
    rows = max(1, _CHUNK_CELLS // draws)
    for start in range(0, n, rows):
        cells = min(rows, n - start) * draws
        # Raw bits: unlike numpy's distributions they are the same in all its releases, and much faster.
        numbers = rng.bit_generator.random_raw(-(-cells // 4)).view(np.uint16)[:cells]
        yield WEIGHTS.take(numbers).reshape(-1, draws)


def _drawn_counts(rng: np.random.Generator, counts: NDArray[np.int64], draws: int) -> Iterator[F]:
    """How often something is drawn that stands for so many questions: what their weights come to."""
    rows = max(1, _CHUNK_CELLS // draws)
    for start in range(0, len(counts), rows):
        chunk = counts[start : start + rows]
        yield rng.poisson(chunk[:, None], (len(chunk), draws)).astype(np.float64)


def _counted(weights: Iterator[F], sizes: Sequence[int], totals: dict[int, F]) -> Iterator[F]:
    """The weights as they come; fills `totals` with the sums of the first so many of each draw, for each of `sizes`."""
    start, before = 0, np.zeros(())
    for chunk in weights:
        stop = start + len(chunk)
        totals |= {size: before + chunk[: size - start].sum(axis=0) for size in {*sizes} if start < size <= stop}
        start, before = stop, before + chunk.sum(axis=0)
        yield chunk


def _weighted_sums(rows: F, weights: Iterator[F]) -> F:
    """Rows × draws. Whole numbers below 2⁵³ all the way: exact in whatever order they are added."""
    start, sums = 0, np.zeros(())
    for chunk in weights:
        stop = start + len(chunk)
        sums = sums + rows[:, start:stop] @ chunk
        start = stop
    return sums


def _without_variation(steps: Steps) -> Resampled:
    """Of differences that are all the same, whichever are drawn."""
    if steps.n == 0:
        return NOTHING_DRAWN
    sign = steps.sign * int(np.sign(steps.values[0]))
    return Resampled(np.nan, np.nan, (1 + sign) / 2)


def _percentiles(steps: Steps, sums: F, drawn: F, confidence: float) -> Resampled:
    # Of few questions none may be drawn: such a draw tells the mean that was seen.
    means = np.divide(sums, drawn, out=np.full(sums.shape, steps.total / steps.n), where=drawn > 0)
    means = np.ldexp(means, steps.exponent)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    if steps.sign == 0:
        reach = (high - low) / 2
        return Resampled(-reach, reach, 0.5)
    above, below = (int(np.count_nonzero(is_so)) / len(means) for is_so in (means > 0, means < 0))
    above += (1 - above - below) / 2
    return Resampled(low, high, above) if steps.sign > 0 else Resampled(0 - high, 0 - low, 1 - above)

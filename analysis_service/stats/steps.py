"""Steps in a series of runs: where a line of scores moved, tested on the questions that both sides have."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis_service.stats.intervals import t_interval

F = NDArray[np.float64]

FLIPS = 1999
SPLITS_MAX = 64
"""Places of a segment at which a step is looked for by the test; of more, every few."""
QUESTIONS_MIN = 20
"""Of both sides: with fewer a split is not looked at."""
STEPS_MAX = 20
"""After so many no more are looked for."""
_FLIPS_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Step:
    """A step between two runs."""

    at: int
    """The first run, by its row, after the step."""
    delta: float
    """Mean over questions of their mean after the step − before it, up to the steps next to it on each side."""
    se: float
    """Over questions."""
    low: float
    high: float
    """Student's t, of the delta where it stands: the search is allowed for in `p`, not here."""
    df: int
    n_questions: int
    """Those that both sides have."""
    p: float
    """Of there being no step in the stretch of runs where it was found, wherever one looks in all the runs."""


@dataclass(frozen=True, slots=True)
class _Contrast:
    """At one split of a segment: of each question the mean after − before; 0 where one side lacks it."""

    differences: F
    n: int
    """Questions that both sides have."""
    weight: float
    """Of them together: runs before × runs after / runs, summed over questions."""

    @property
    def gain(self) -> float:
        """By how much a step here lessens the squared residuals of the line."""
        return self.weight * (float(np.sum(self.differences)) / max(self.n, 1)) ** 2

    def statistic(self, sums: ArrayLike, cubes: ArrayLike) -> F:
        """|t| of the mean difference without its skewness, were the differences and their cubes to sum up to these.

        Hall 1992, "On the removal of skewness by transformation", JRSS B 54.
        """
        # The squares stay the same whatever the signs, so two sums are all that a flip needs to know.
        square = float(np.sum(self.differences**2)) / self.n
        mean = np.asarray(sums) / self.n
        if square == 0:
            return np.zeros_like(mean)
        variance = np.maximum(square - mean**2, 1e-15 * square)
        third = np.asarray(cubes) / self.n - 3 * mean * square + 2 * mean**3
        skewness = third / variance**1.5 / np.sqrt(self.n)
        t = mean * np.sqrt((self.n - 1) / variance)
        bend = skewness * t / 3
        return np.asarray(np.abs(t * (1 + bend + bend**2 / 3) + skewness / 6))


def find_steps(
    scores: F,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    flips: int = FLIPS,
    questions_min: int = QUESTIONS_MIN,
    check_time: Callable[[], None] = lambda: None,
) -> list[Step]:
    """The steps in `scores`, runs × questions in the order of time, NaN where a run lacks a question; in that order.

    Binary segmentation (Scott & Knott 1974; Vostrikova 1981): at every split of a segment the contrast is paired by
    question. The greatest |t| of all splits is tested by flipping the signs of whole questions, at all splits alike,
    and looking for the greatest each time (Westfall & Young 1993, the max-T of a sign-flip test), so `p` allows for the
    search. Skewness is taken out of t: it has much where one run stands against many and nearly all answers are right,
    and flips have none. The step then lies where it explains most of the line, by least squares: were t to tell,
    questions that moved by different amounts would hide the place. Both sides of a step are searched in turn, each with
    its share of the error: a segment's p is multiplied by all splits ÷ its own (Meinshausen 2008) and is never under
    that of the segment around it, so that with `confidence` no step is told where there is none. It follows that of
    over 100 runs a stretch of a few is not searched.

    A step is a shift that is common to questions, beyond what chance in the questions explains. Two runs of the same
    model under other settings may well differ by one.

    Work is bounded by splits × questions × flips × steps: of a segment of more than SPLITS_MAX splits every few are
    tested, though all are looked at for the place; STEPS_MAX steps are told at most, those of the longest segments
    first. 500 runs × 14,042 questions take about two seconds of computing a step, and 250 MB; with ten times the flips
    ten times as long. `check_time` is called after every few flips, and may raise to end it.
    """
    n_runs = len(scores)
    # Cubes of a wide scale would not be finite.
    shares = scores / (np.max(np.abs(np.nan_to_num(scores)), initial=0.0) or 1.0)
    found: dict[int, float] = {}
    waiting = deque([(0, n_runs, 0.0)])
    while waiting and len(found) < STEPS_MAX:
        begin, end, p_above = waiting.popleft()
        if end - begin < 2:
            continue
        share = (end - begin - 1) / (n_runs - 1)
        test = _test_segment(
            shares[begin:end], share * (1 - confidence), (seed, begin, end), flips, questions_min, check_time
        )
        if test is not None:
            split, p = test
            p = max(min(1.0, p / share), p_above)
            found[begin + split] = p
            waiting += [(begin, begin + split, p), (begin + split, end, p)]
    edges = [0, *sorted(found), n_runs]
    return [
        _measure(scores[before:at], scores[at:after], at, found[at], confidence)
        for before, at, after in zip(edges, edges[1:], edges[2:], strict=False)
    ]


def _test_segment(
    scores: F,
    level: float,
    seed: tuple[int, ...],
    flips: int,
    questions_min: int,
    check_time: Callable[[], None],
) -> tuple[int, float] | None:
    """The split of a segment, counted from its begin, and its p; None if that is over `level`."""
    n_splits = len(scores) - 1
    every = -(-n_splits // SPLITS_MAX)
    greatest, at = 0.0, 0
    tested: list[_Contrast] = []
    observed = 0.0
    for split, contrast in enumerate(_contrasts(scores), start=1):
        if contrast.n < max(questions_min, 2):
            continue
        if contrast.gain > greatest:
            greatest, at = contrast.gain, split
        if (split - 1) % every == 0:
            tested.append(contrast)
            own = contrast.differences
            observed = max(observed, float(contrast.statistic(np.sum(own), np.sum(own**3))))
    if observed == 0 or at == 0:
        return None
    differences = np.stack([contrast.differences for contrast in tested])
    cubed = differences**3
    random = np.random.default_rng(seed)
    as_great = done = 0
    while done < flips:
        some = min(_FLIPS_AT_ONCE, flips - done)
        signs = random.integers(0, 2, size=(differences.shape[1], some), dtype=np.int8) * 2.0 - 1
        sums, cubes = differences @ signs, cubed @ signs
        maxima = np.max([own.statistic(*of) for own, *of in zip(tested, sums, cubes, strict=True)], axis=0)
        as_great += int(np.count_nonzero(maxima >= observed * (1 - 1e-9)))
        done += some
        check_time()
        if as_great + 1 > level * (flips + 1):  # whatever the rest shows
            return None
    p = (as_great + 1) / (flips + 1)
    return (at, p) if p <= level else None


def _contrasts(scores: F) -> Iterator[_Contrast]:
    """The contrast at each split."""
    known = ~np.isnan(scores)
    n_all, total = known.sum(axis=0), np.nansum(scores, axis=0)
    n_before, before = np.zeros_like(n_all), np.zeros_like(total)
    for row, is_known in zip(scores[:-1], known[:-1], strict=True):
        n_before = n_before + is_known
        before = before + np.where(is_known, row, 0.0)
        n_after = n_all - n_before
        both = (n_before > 0) & (n_after > 0)
        difference = (total - before) / np.maximum(n_after, 1) - before / np.maximum(n_before, 1)
        difference[~both | (np.abs(difference) < 1e-12)] = 0.0
        weight = float(np.sum(n_before * n_after / np.maximum(n_all, 1)))
        yield _Contrast(difference, int(np.count_nonzero(both)), weight)


def _measure(before: F, after: F, at: int, p: float, confidence: float) -> Step:
    n_before, n_after = (~np.isnan(before)).sum(axis=0), (~np.isnan(after)).sum(axis=0)
    both = (n_before > 0) & (n_after > 0)
    difference = np.nansum(after, axis=0)[both] / n_after[both] - np.nansum(before, axis=0)[both] / n_before[both]
    n = len(difference)
    delta = float(difference.mean()) if n else float("nan")
    se = float(difference.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    low, high = t_interval(delta, se, n - 1, confidence)
    return Step(at=at, delta=delta, se=se, low=float(low), high=float(high), df=n - 1, n_questions=n, p=p)

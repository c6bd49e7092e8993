"""What an interval or a test promises, and how often simulation finds it kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

F = NDArray[np.float64]

HEADINGS = ("simulated", "nominal", "asked", "lowest", "mean", "highest", "rounds × cells", "met")
_FALSE_ALARMS = 0.001


class Range(NamedTuple):
    """Shares, both limits included."""

    low: float = 0.0
    high: float = 1.0

    def __str__(self) -> str:
        if self.high == 1:
            return f"≥ {_percent(self.low)} %"
        return f"≤ {_percent(self.high)} %" if self.low == 0 else f"{_percent(self.low)}–{_percent(self.high)} %"


AT_LEAST_95 = Range(0.95, 1)
AT_MOST_5 = Range(0, 0.05)
SIZE_5 = Range(0.04, 0.06)
"""Of tests that are not exact: 5 ± 1 %."""
MANY = Range(0.935, 0.965)
"""Coverage of each cell from 500 questions."""
FEW_MEAN = Range(0.94, 0.965)
"""Mean coverage over cells from 30 questions."""
FEW_EACH = Range(0.92, 1)
"""Coverage of each of those cells."""


@dataclass(frozen=True, slots=True)
class Promise:
    """The share of rounds in which something held, in each of several cells such as the values of a true mean."""

    what: str
    shares: F
    rounds: int | None
    """Of each cell; None where all outcomes were enumerated."""
    each: Range | None = None
    """Asked of each cell; None where nothing is, as of a method told for comparison."""
    mean: Range | None = None
    """Asked of the mean over cells."""
    nominal: str = "95 %"

    @property
    def is_met(self) -> bool:
        """Whether all that is asked is found, but for what so many rounds err: once in a thousand such rows."""
        n = len(self.shares)
        is_met_by_each = self.each is None or all(self._is_within(share, self.each, n, 1) for share in self.shares)
        return is_met_by_each and (self.mean is None or self._is_within(float(self.shares.mean()), self.mean, 1, n))

    def _is_within(self, share: float, asked: Range, looks: int, cells: int) -> bool:
        if self.rounds is None:
            return asked.low <= share <= asked.high
        quantile = float(ndtri(1 - _FALSE_ALARMS / looks))
        low, high = (quantile * math.sqrt(limit * (1 - limit) / (self.rounds * cells)) for limit in asked)
        return asked.low - low <= share <= asked.high + high

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table."""
        asked = [f"each {self.each}"] if self.each else []
        asked += [f"mean {self.mean}"] if self.mean else []
        return (
            self.what,
            self.nominal,
            ", ".join(asked),
            *(f"{_percent(share, 1)} %" for share in (self.shares.min(), self.shares.mean(), self.shares.max())),
            f"all outcomes × {len(self.shares)}" if self.rounds is None else f"{self.rounds:,} × {len(self.shares)}",
            ("yes" if self.is_met else "NO") if asked else "",
        )


def covered(low: ArrayLike, high: ArrayLike, truth: ArrayLike) -> F:
    """The share of intervals, along the last axis, that hold the truth; a NaN limit holds nothing."""
    return np.asarray(np.mean(np.less_equal(low, truth) & np.less_equal(truth, high), axis=-1))


def from_30(what: str, n: int, shares: Sequence[float] | F, rounds: int | None) -> Promise:
    """A usual interval's promise at `n` questions: each cell from 500 on, else on average."""
    found = np.asarray(shares, np.float64)
    if n >= 500:
        return Promise(what, found, rounds, each=MANY)
    return Promise(what, found, rounds, each=FEW_EACH, mean=FEW_MEAN)


def _percent(share: float, digits: int = 2) -> str:
    told = f"{100 * share:.{digits}f}"
    return told if digits == 1 else told.rstrip("0").rstrip(".")

"""Places among all that are compared. Pure."""

from collections.abc import Sequence
from itertools import combinations as pairs_of

import numpy as np
from numpy.typing import NDArray

from analysis_service.stats.corrections import adjust
from analysis_service.stats.paired import Paired
from analysis_service.stats.ranks import Ranks, rank_intervals


def rank_entries(means: NDArray[np.float64], pairs: Sequence[Paired], confidence: float) -> Ranks:
    """Ranks by `means`, and those not ruled out for all entries at once, by the pairs' tests on the same questions.

    Whatever correction is asked for, these tests are Holm's: with fewer wrong ones than that, intervals of ranks would
    not hold together at the confidence (Mogstad, Romano, Shaikh & Wilhelm 2024, "Inference for ranks").
    """
    adjusted = adjust([pair.p for pair in pairs], "holm")
    told = np.zeros((len(means), len(means)), dtype=np.int8)
    for (a, b), p, pair in zip(pairs_of(range(len(means)), 2), adjusted, pairs, strict=True):
        if p <= 1 - confidence:
            told[a, b], told[b, a] = np.sign(pair.delta), -np.sign(pair.delta)
    return rank_intervals(means, told)

"""P-values that allow for how many were looked at."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def adjust(p: ArrayLike, method: Literal["holm", "bh", "none"]) -> NDArray[np.float64]:
    """Adjusted p-values in the shape of `p`; NaN stay NaN and are not counted as tests.

    `holm`: Holm 1979, "A simple sequentially rejective multiple test procedure" (family-wise error rate).
    `bh`: Benjamini & Hochberg 1995, "Controlling the false discovery rate".
    """
    adjusted = np.array(p, np.float64)
    tested = ~np.isnan(adjusted)
    values = adjusted[tested]
    order = np.argsort(values, kind="stable")
    place = np.arange(1, len(values) + 1)
    match method:
        case "none":
            return adjusted
        case "holm":
            ordered = np.maximum.accumulate(values[order] * (len(values) + 1 - place))
        case "bh":
            ordered = np.minimum.accumulate((values[order] * (len(values) / place))[::-1])[::-1]
    values[order] = np.minimum(ordered, 1)
    adjusted[tested] = values
    return adjusted

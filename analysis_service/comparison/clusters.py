"""Which questions belong together, by the value of a metadata field. Pure."""

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.combinations import Combinations


def label_clusters(combination: NDArray[np.int32], combinations: Combinations, field: str) -> NDArray[np.intp]:
    """The cluster of each question, from 0: questions with one value of `field` share it, one without has its own."""
    column = combinations.fields[field]
    code = column.codes[combination].astype(np.int64)
    has_none = code == column.null
    code[has_none] = len(column.values) + np.arange(int(has_none.sum()))
    _, label = np.unique(code, return_inverse=True)
    return label.astype(np.intp, copy=False)


def count_without_value(combination: NDArray[np.int32], combinations: Combinations, field: str) -> int:
    """The questions that have no value of `field`."""
    column = combinations.fields[field]
    return int((column.codes[combination] == column.null).sum())

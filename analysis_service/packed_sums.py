"""A run's sums as they are stored: matrices of columns × cells, beside the layout that says what each cell is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SCORE_COLUMNS = (
    "n_scored", "n_refused", "n_truncated", "n_error", "n_unscored",
    "score_sum", "score_square_sum", "question_weight", "question_mean_sum",
)  # fmt: skip
"""What scores come to in each cell; a cell of any group-by is the column-wise sum of such cells."""

COST_COLUMNS = (
    "latency_n", "latency_ms_sum", "input_tokens_n", "input_tokens_sum", "output_tokens_n", "output_tokens_sum",
    "cost_n", "cost_usd_sum",
)  # fmt: skip
"""What time, tokens and money come to; stored apart, because most questions are about scores alone."""

_FLOAT = np.dtype("<f8")
_NUMBER = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class Layout:
    """What each cell of a run's sums is about. Most runs of a benchmark have the same one."""

    combination: NDArray[np.int64]
    """Of metadata values, by number; ascending, each once."""
    set_no: NDArray[np.int64]
    """The set of the questions asked, by number."""

    @property
    def number(self) -> int:
        """63 bits of a digest of the content, so that what a number means never changes."""
        return int.from_bytes(blake2b(pack_layout(self), digest_size=8).digest(), "little") >> 1


def pack_layout(layout: Layout) -> bytes:
    """`layout` as it is stored."""
    return np.stack([layout.combination, layout.set_no]).astype(_NUMBER).tobytes()


def unpack_layout(cells: bytes) -> Layout:
    """What `pack_layout` was given."""
    combination, set_no = np.frombuffer(cells, _NUMBER).reshape(2, -1)
    return Layout(combination, set_no)


def pack_columns(columns: NDArray[np.float64]) -> bytes:
    """A matrix of columns × cells as it is stored. Counts are exact in it up to 2**53."""
    return columns.astype(_FLOAT).tobytes()


def unpack_columns(packed: Sequence[bytes], names: Sequence[str]) -> NDArray[np.float64]:
    """The matrices of several runs of one layout, runs × columns × cells; ValueError if they do not fit together."""
    return np.frombuffer(b"".join(packed), _FLOAT).reshape(len(packed), len(names), -1)

"""Which of very many keys came before, in little memory."""

from array import array
from collections.abc import Hashable

_SLOTS_AT_FIRST = 64
_FILL = 0.7
_MARKS = 2**64 - 1


class FirstSeen:
    """For each key the position at which it was first given, in 17 to 26 bytes a key, however long keys are.

    Keys are told apart by Python's 64-bit hash, which has a key of its own in each process. A key given twice is always
    noticed; of n different ones two are wrongly taken for one with probability n²/2⁶⁵: one document of a million keys
    in 37 million would be refused as if it had a duplicate.
    """

    __slots__ = ("_count", "_hashes", "_positions", "_room")

    def __init__(self) -> None:
        self._count = 0
        self._reserve(_SLOTS_AT_FIRST)

    def __len__(self) -> int:
        return self._count

    def setdefault(self, key: Hashable, position: int) -> int:
        """The position (below 2³²) that `key` was first given with: `position`, where it is new. As of a dict."""
        if self._count >= self._room:
            self._grow()
        mark = hash(key) & _MARKS or 1  # 0 is an empty slot
        hashes = self._hashes
        size = len(hashes)
        slot = mark % size
        while found := hashes[slot]:  # open addressing, one step at a time
            if found == mark:
                return self._positions[slot]
            slot += 1
            if slot == size:
                slot = 0
        hashes[slot] = mark
        self._positions[slot] = position
        self._count += 1
        return position

    def _reserve(self, slots: int) -> None:
        self._hashes = array("Q", bytes(8 * slots))
        self._positions = array("I", bytes(4 * slots))
        self._room = int(slots * _FILL)

    def _grow(self) -> None:
        before, positions = self._hashes, self._positions
        # Twice as many while small; later less, so that old and new fit beside each other.
        self._reserve(len(before) * 2 if len(before) < 1_000_000 else len(before) * 3 // 2)
        hashes = self._hashes
        size = len(hashes)
        for mark, position in zip(before, positions, strict=True):
            if mark:
                slot = mark % size
                while hashes[slot]:
                    slot = slot + 1 if slot + 1 < size else 0
                hashes[slot] = mark
                self._positions[slot] = position

"""Counts that are cheap to keep: a request is counted in less time than a line of its log takes to write.

They are plain numbers of one process and one application. Who shows them turns them into what the reader wants.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes that durations are counted in; the last class has none."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

UNMATCHED = "unmatched"
"""What is counted as the path of requests that no route takes; callers make up any number of those."""


@dataclass(slots=True)
class Durations:
    """How many durations fell into each class, and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """(Upper bound as text, how many were at most that), the last being `+Inf`."""
        found, below = [], 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, below))
        return found


class RequestCounts:
    """Requests by method, route and status."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[str, str, int], Durations] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is a path with its parameters' names, of which there are few."""
        kind = (method if method in _METHODS else "other", route, status)
        durations = self._by_kind.get(kind)
        if durations is None:
            durations = self._by_kind[kind] = Durations()
        durations.add(seconds)

    def by_kind(self) -> Mapping[tuple[str, str, int], Durations]:
        """(Method, route, status) → how long these requests took."""
        return self._by_kind

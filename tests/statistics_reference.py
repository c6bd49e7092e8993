"""Paired comparisons of runs worked out slowly, from documents as they are pushed and with Python's integers alone.

It shares no code with the services, so that what both say is said twice.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import comb
from pathlib import Path

LEVEL = Fraction(1, 20)


@dataclass(frozen=True)
class ReferencePair:
    """Two runs on the questions of both."""

    n_shared: int
    wins: int
    losses: int
    p: Fraction
    """Exact McNemar, two-sided."""
    p_adjusted: Fraction
    """Holm's, over all pairs."""


@dataclass(frozen=True)
class Reference:
    """What is to be found."""

    means: Mapping[str, Fraction]
    pairs: Mapping[tuple[str, str], ReferencePair]

    def told_apart(self, first: str, second: str) -> bool:
        """Whether these two differ at the level, all pairs corrected for."""
        pair = self.pairs.get((first, second)) or self.pairs[second, first]
        return pair.p_adjusted <= LEVEL

    def order(self) -> list[str]:
        """From the best mean; equal ones by name."""
        return sorted(self.means, key=lambda name: (-self.means[name], name))

    def ranks(self) -> dict[str, tuple[int, int, int]]:
        """Rank, and the lowest and highest that the pairs leave open."""
        found = {}
        for name, mean in self.means.items():
            others = [other for other in self.means if other != name]
            better = [other for other in others if self.means[other] > mean and self.told_apart(other, name)]
            worse = [other for other in others if self.means[other] < mean and self.told_apart(other, name)]
            rank = 1 + sum(self.means[other] > mean for other in others)
            found[name] = rank, 1 + len(better), len(self.means) - len(worse)
        return found

    def tie_groups(self) -> list[list[str]]:
        """From the top: the first, and whoever is not told apart from it; then the first of the rest, and so on."""
        left, groups = self.order(), []
        while left:
            group = [left[0], *(name for name in left[1:] if not self.told_apart(left[0], name))]
            groups.append(group)
            left = [name for name in left if name not in group]
        return groups


def read_scores(file: Path) -> dict[str, dict[str, Fraction]]:
    """Model → question id → score, of runs with one attempt a question; a line a run."""
    found = {}
    with gzip.open(file) as lines:
        for line in lines:
            document = json.loads(line)
            questions = document["data"]["questions"]
            scores = {question["question_id"]: Fraction(question["score"]) for question in questions}
            assert len(scores) == len(questions), "one attempt a question"
            found[document["model_id"]] = scores
    return found


def compare(scores: Mapping[str, Mapping[str, Fraction]]) -> Reference:
    """All pairs of models that were asked the same questions."""
    means = {name: sum(own.values(), Fraction()) / len(own) for name, own in scores.items()}
    counted = {}
    for first, second in combinations(scores, 2):
        shared = scores[first].keys() & scores[second].keys()
        wins = sum(scores[first][question] > scores[second][question] for question in shared)
        losses = sum(scores[first][question] < scores[second][question] for question in shared)
        counted[first, second] = len(shared), wins, losses, mcnemar(wins, losses)
    adjusted = holm([p for *_, p in counted.values()])
    pairs = {names: ReferencePair(*own, last) for (names, own), last in zip(counted.items(), adjusted, strict=True)}
    return Reference(means, pairs)


def mcnemar(wins: int, losses: int) -> Fraction:
    """Twice the smaller tail of a fair coin, at most 1."""
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(comb(n, k) for k in range(fewer + 1))
    return min(Fraction(1), Fraction(2 * tail, 2**n))


def holm(ps: Sequence[Fraction]) -> list[Fraction]:
    """The k-th smallest p times how many are not smaller, never less than the one before, at most 1."""
    adjusted = [Fraction(0)] * len(ps)
    largest = Fraction(0)
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        largest = max(largest, min(Fraction(1), ps[index] * (len(ps) - place)))
        adjusted[index] = largest
    return adjusted

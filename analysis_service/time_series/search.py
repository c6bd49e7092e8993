"""The search for steps in the segments of all lines of a time series. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from analysis_service.question_scores import QuestionScores
from analysis_service.stats.corrections import adjust
from analysis_service.stats.steps import FLIPS, QUESTIONS_MIN, Step, find_steps
from analysis_service.time_series.lines import Line
from shared.statistics import Correction

METHOD = "sign flips, greatest |t| of all splits"
FLIPS_MAX = 20_000
"""Of one search: over 500 runs of 14,042 questions these take some seconds."""
_RESOLVED = 4
"""The least p-value there can be, times the number of searches, is the level of the tests divided by this."""


@dataclass(frozen=True, slots=True)
class FoundStep:
    """A step of a line."""

    place: int
    """In the line, of the first run after it."""
    step: Step
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Searched:
    """What became of the search."""

    steps: Sequence[Sequence[FoundStep]]
    """Of each line, in the order of time."""
    n_tests: int
    """Segments that were searched."""
    least_p: float
    """The least p-value that a search can tell."""


def is_searchable(line: Line, segment: range) -> bool:
    """Whether a step can be told in a segment: it takes two runs and enough questions."""
    return len(segment) > 1 and len(line.asked[segment.start]) >= QUESTIONS_MIN


def search_lines(
    lines: Sequence[Line],
    scores: Sequence[QuestionScores],
    *,
    confidence: float,
    correction: Correction,
    seed: int,
    check_time: Callable[[], None],
) -> Searched:
    """The steps of all lines; `scores` are those of all runs, `check_time` is called over and over.

    A search that finds more than one step allows for that itself, so a segment is one test.
    """
    searches = [
        (number, segment)
        for number, line in enumerate(lines)
        for segment in line.segments
        if is_searchable(line, segment)
    ]
    flips = min(max(FLIPS, int(np.ceil(_RESOLVED * len(searches) / (1 - confidence))) - 1), FLIPS_MAX)
    found: list[list[Step]] = []
    for number, segment in searches:
        check_time()
        line = lines[number]
        rows = [scores[place] for place in line.places[segment.start : segment.stop]]
        matrix = join_scores(rows, line.asked[segment.start])
        found.append(find_steps(matrix, confidence=confidence, seed=seed, flips=flips, check_time=check_time))
    factors = _factors([min((step.p for step in steps), default=1.0) for steps in found], correction)
    steps: list[list[FoundStep]] = [[] for _ in lines]
    for (number, segment), own, factor in zip(searches, found, factors, strict=True):
        steps[number] += [FoundStep(segment.start + step.at, step, min(1.0, step.p * factor)) for step in own]
    return Searched(steps, len(searches), 1 / (flips + 1))


def join_scores(rows: Sequence[QuestionScores], asked: BitMap) -> NDArray[np.float64]:
    """The scores of runs, runs × the questions `asked`; NaN where a run has none."""
    questions = np.array(asked.to_array(), dtype=np.int32)
    matrix = np.full((len(rows), len(questions)), np.nan)
    for row, own in zip(matrix, rows, strict=True):
        if not len(own.question_no):
            continue
        place = np.minimum(np.searchsorted(own.question_no, questions), len(own.question_no) - 1)
        is_scored = own.question_no[place] == questions
        row[is_scored] = own.mean[place[is_scored]]
    return matrix


def _factors(p: Sequence[float], correction: Correction) -> list[float]:
    """What the p-values of each segment are multiplied with, by the least of each.

    A segment with a step may still hold a false one, so its share of the error cannot be passed on to the others as
    Holm's procedure would: what remains of that is Bonferroni's.
    """
    match correction:
        case Correction.HOLM:
            return [float(len(p))] * len(p)
        case Correction.BH:
            return (adjust(p, "bh") / np.array(p, dtype=np.float64)).tolist() if p else []
        case Correction.NONE:
            return [1.0] * len(p)

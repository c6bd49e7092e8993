"""The verdict on a candidate whose run is going on, which may be looked at as often as one likes. Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analysis_service.question_scores import QuestionScores
from analysis_service.stats.intervals import Limits
from analysis_service.stats.order import runs_z
from analysis_service.stats.paired import subtract
from analysis_service.stats.sequences import confidence_sequence, decided_at
from shared.registry.specs import BenchmarkSpec
from shared.significance import LiveVerdict, LookedAt
from shared.statistics import Verdict

METHOD = "confidence sequence"
PATH_MAX = 200
"""Looks that an answer tells."""
BLOCKS_Z = -3.0
"""Questions with so many fewer changes of a field than in a random order come in blocks; one in 740 such orders has."""


def judge_live(
    candidate: QuestionScores,
    baseline: QuestionScores,
    spec: BenchmarkSpec,
    *,
    confidence: float,
    margin: float,
    blocks: tuple[str, NDArray[np.int32]] | None = None,
) -> LiveVerdict:
    """What the shared questions tell, in the order in which the candidate answered them.

    The verdict is that of the first question after which the sequence excludes no difference, or lies within the
    margin; as limits never widen, later questions do not take it back. It is about the benchmark's kind of questions,
    as that on a finished run is, and not about who will be ahead on these very ones: of two equal models one nearly
    always is. So the sequence does not narrow to a point as the last questions come in.

    The order is that of the parts' numbers, and within a part as sent: one that comes after a part of a higher number
    changes what came before, and may change the verdict. Several attempts at a question may as well.

    `blocks` is a metadata field's name and the code of its value, of each of the candidate's questions: where these
    come in blocks, the order is not random, which is assumed.
    """
    _, ours, theirs = np.intersect1d(
        candidate.question_no, baseline.question_no, assume_unique=True, return_indices=True
    )
    ours, theirs = (index[np.argsort(candidate.place[ours])] for index in (ours, theirs))
    differences = subtract(candidate.mean[ours], baseline.mean[theirs])
    scale = spec.score_max - spec.score_min
    limits = confidence_sequence(differences, lowest=-scale, highest=scale, confidence=confidence)
    decided = decided_at(limits, margin)
    return LiveVerdict(
        verdict=_verdict_at(limits, decided),
        decided_at=decided,
        method=METHOD,
        of=len(baseline.question_no),
        path=_thin(differences, limits, decided),
        warnings=list(_warnings(candidate, ours, blocks)),
    )


def _verdict_at(limits: Limits, decided: int | None) -> Verdict:
    if decided is None:
        return Verdict.INCONCLUSIVE
    if limits.low[decided - 1] > 0:
        return Verdict.BETTER
    return Verdict.WORSE if limits.high[decided - 1] < 0 else Verdict.EQUIVALENT


def _thin(differences: NDArray[np.float64], limits: Limits, decided: int | None) -> list[LookedAt]:
    """Looks after every so many questions, after the deciding one and the last."""
    n = len(differences)
    if not n:
        return []
    kept = np.unique(np.linspace(0, n - 1, min(n, PATH_MAX - 1)).round().astype(int))
    if decided is not None:
        kept = np.union1d(kept, [decided - 1])
    means = np.cumsum(differences)[kept] / (kept + 1)
    looks = zip(kept.tolist(), means.tolist(), limits.low[kept].tolist(), limits.high[kept].tolist(), strict=True)
    return [LookedAt(n=place + 1, delta=mean, ci_low=low, ci_high=high) for place, mean, low, high in looks]


def _warnings(
    candidate: QuestionScores, order: NDArray[np.intp], blocks: tuple[str, NDArray[np.int32]] | None
) -> Iterator[str]:
    if blocks is not None:
        name, codes = blocks
        if runs_z(codes[order]) < BLOCKS_Z:
            yield (
                f"the candidate's questions come in blocks by {name}, and a verdict before the end takes them to come "
                "in a random order: shuffle them"
            )
    if (candidate.count[order] > 1).any():
        yield (
            "the candidate has several attempts at a question, and later ones change what earlier questions told: "
            "the verdict may change once more"
        )

"""Two runs compared, as answers tell it. Pure."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis_service.comparison.warnings import few_clusters
from analysis_service.question_scores import QuestionScores, align
from analysis_service.stats.bootstrap import Resampled
from analysis_service.stats.corrections import adjust
from analysis_service.stats.matrix import compare_all
from analysis_service.stats.paired import Paired
from analysis_service.stats.power import detectable_difference, questions_needed
from shared.comparisons import PairComparison
from shared.registry.specs import BenchmarkSpec
from shared.statistics import MIN_SHARED, Correction


def compare_two(
    a: QuestionScores,
    b: QuestionScores,
    spec: BenchmarkSpec,
    *,
    names: tuple[str, str],
    confidence: float,
    draws: int,
    seed: int,
    clusters: NDArray[np.intp] | None = None,
    warnings: Sequence[str] = (),
) -> PairComparison:
    """a − b on the questions of `spec` that both have, not yet corrected for other tests.

    `clusters` are those of the questions of `align([a, b])`.
    """
    aligned = align([a, b])
    compared = compare_all(
        aligned.mean,
        confidence=confidence,
        draws=draws,
        seed=seed,
        clusters=clusters,
        single_attempts=aligned.is_single,
        lowest=spec.score_min,
        highest=spec.score_max,
    )
    return tell_pair(names, compared.pairs[0], compared.bootstrap[0], confidence=confidence, warnings=warnings)


def tell_pair(
    names: tuple[str, str], paired: Paired, bootstrap: Resampled, *, confidence: float, warnings: Sequence[str] = ()
) -> PairComparison:
    """A pair as answers tell it, not yet corrected for other tests; nothing of it below MIN_SHARED shared questions."""
    is_told = paired.n >= MIN_SHARED

    def told(value: float | NDArray[np.float64]) -> float | None:
        number = float(value)
        return number if is_told and math.isfinite(number) else None

    has_error = paired.se > 0
    needed = mde80 = math.nan
    if has_error:
        needed = float(questions_needed(paired.delta, paired.sd, confidence, answer=paired.answer))
        df = math.inf if math.isnan(paired.df) else paired.df
        mde80 = float(detectable_difference(paired.se, confidence, df=df, step=paired.answer / paired.n))
    pair = PairComparison(
        a=names[0],
        b=names[1],
        n_shared=paired.n,
        wins=paired.wins,
        losses=paired.losses,
        ties=paired.ties,
        mean_a=told(paired.mean_a),
        mean_b=told(paired.mean_b),
        delta=told(paired.delta),
        se=told(paired.se),
        ci_low=told(paired.ci_low),
        ci_high=told(paired.ci_high),
        confidence=confidence,
        method=paired.method if is_told else None,
        df=told(paired.df),
        n_clusters=paired.n_clusters,
        p=told(paired.p),
        test=paired.test if is_told else None,
        p_adjusted=None,
        significant=None,
        bootstrap_low=told(bootstrap.low),
        bootstrap_high=told(bootstrap.high),
        mde80=told(mde80),
        questions_needed=int(needed) if is_told and needed <= _COUNT_MAX else None,
        reason=None,
        warnings=[*warnings, *(few_clusters(paired.n_clusters) if is_told else ())],
    )
    return pair.model_copy(update={"reason": "; ".join(_reasons(pair, paired)) or None})


_COUNT_MAX = 2.0**53
"""More than that are not counted in JSON, nor asked of anyone."""


def _reasons(pair: PairComparison, paired: Paired) -> Iterator[str]:
    if paired.n < MIN_SHARED:
        yield f"{paired.n} shared questions; fewer than {MIN_SHARED} are not compared"
        return
    if paired.reason is not None:
        yield paired.reason
    if pair.questions_needed is None and paired.reason is None:
        yield (
            "no number of questions settles a difference of 0"
            if paired.delta == 0
            else "it would need too many questions"
        )
    if pair.bootstrap_low is None and paired.reason is None:
        yield "no bootstrap draws were asked for" if paired.n_clusters is None else "clusters are not bootstrapped"


def correct(
    pairs: Sequence[PairComparison], correction: Correction, confidence: float
) -> tuple[list[PairComparison], int]:
    """The pairs with p-values that allow for all of them, and how many p-values that are."""
    p = np.array([math.nan if pair.p is None else pair.p for pair in pairs], dtype=np.float64)
    adjusted = adjust(p, correction.value)
    corrected = [
        pair
        if pair.p is None
        else pair.model_copy(update={"p_adjusted": value, "significant": value <= 1 - confidence})
        for pair, value in zip(pairs, adjusted.tolist(), strict=True)
    ]
    return corrected, int((~np.isnan(p)).sum())

"""What the attempts of one run tell, as answers have it. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis_service.means import as_shares, tell_means
from analysis_service.stats.means import Lack, estimate_means, sum_questions, tell_lack, units_of_questions
from analysis_service.stats.repeats import (
    agreement,
    count_right,
    majority_scores,
    pass_all_k,
    pass_at_k,
    question_means,
    variance_components,
)
from shared.analysis import RunInfo
from shared.registry.specs import BenchmarkSpec
from shared.repeats import KS_MAX, KEstimate, RunRepeats, Variance

F = NDArray[np.float64]

_DIGITS = 13
"""Of what is told; the rest hangs on the order in which attempts were added up."""


class ScoredAttempts(NamedTuple):
    """One entry an attempt that was scored, as `stats.repeats` takes them."""

    question: NDArray[np.intp]
    score: F
    answer: NDArray[np.intp]


def measure_run(
    run: RunInfo, attempts: ScoredAttempts, spec: BenchmarkSpec, *, ks: Sequence[int] | None, confidence: float
) -> RunRepeats:
    """All that repeats tell of one run; what cannot be told is null or empty, with its reason.

    `ks` None takes each k up to the most attempts, KS_MAX at most.
    """
    each = np.bincount(attempts.question)
    n_questions = len(each)
    least, most = (int(each.min()), int(each.max())) if n_questions else (0, 0)
    is_right = attempts.score == spec.score_max
    is_binary = bool(np.all(is_right | (attempts.score == spec.score_min)))
    wanted = [k for k in sorted(set(ks)) if k <= most] if ks is not None else range(1, min(most, KS_MAX) + 1)
    avg = maj = alike = None
    at: list[KEstimate] = []
    every: list[KEstimate] = []
    if most and is_binary:
        at, every = _pass_rates(attempts.question, is_right, wanted, most, confidence)
    if most:
        avg = _estimate(most, as_shares(question_means(*attempts[:2]), spec), most, spec, confidence)
    if most > 1:
        maj = _estimate(most, as_shares(majority_scores(*attempts), spec), most, spec, confidence)
        alike = _estimate(2, agreement(attempts.question, attempts.answer), most, None, confidence)
    others = [*at, *every, *(own for own in (maj, alike) if own is not None)]
    return RunRepeats(
        run=run,
        n=len(attempts.question),
        n_questions=n_questions,
        attempts_min=least,
        attempts_max=most,
        avg=avg,
        pass_at=at,
        pass_all=every,
        maj=maj,
        consistency=alike,
        variance=_tell_variance(attempts, most, n_questions),
        reasons=list(_reasons(attempts, ks, most, avg, others, spec, is_binary=is_binary)),
    )


def _pass_rates(
    question: NDArray[np.intp], is_right: NDArray[np.bool_], ks: Sequence[int], most: int, confidence: float
) -> tuple[list[KEstimate], list[KEstimate]]:
    # Questions with as many attempts, as many of them right, have the same rates, and most have the same as some other.
    (n, c), times = np.unique(np.stack(count_right(question, is_right)), axis=1, return_counts=True)
    at, every = (
        _estimates(ks, rate(n, c, np.array(ks, np.int64)[:, None]), most, None, confidence, times=times)
        for rate in (pass_at_k, pass_all_k)
    )
    return at, every


def _estimate(k: int, values: F, most: int, spec: BenchmarkSpec | None, confidence: float) -> KEstimate | None:
    found = _estimates([k], values[None], most, spec, confidence)
    return found[0] if found else None


def _estimates(
    ks: Sequence[int],
    values: F,
    most: int,
    spec: BenchmarkSpec | None,
    confidence: float,
    *,
    times: ArrayLike = 1,
) -> list[KEstimate]:
    """The mean of each row over questions, whose values come from up to `most` attempts; without rows of no question.

    Errors are those over questions, which hold what attempts add to them (Miller 2024, "Adding error bars to evals").
    """
    questions = sum_questions(values, times)
    units = units_of_questions(questions, most)
    found = estimate_means(questions, units, are_questions=True, confidence=confidence)
    return [
        KEstimate(
            k=k,
            n_questions=int(n),
            value=own.mean,
            se=own.se,
            ci_low=own.ci_low,
            ci_high=own.ci_high,
            method=own.method,
        )
        for k, n, own in zip(ks, questions.n, tell_means(found, spec), strict=True)
        if own.mean is not None
    ]


def _tell_variance(attempts: ScoredAttempts, most: int, n_questions: int) -> Variance:
    if most < 2:
        reason = "questions and attempts can be told apart only where a question has several scored attempts"
        return Variance(question=None, attempt=None, reason=reason)
    found = variance_components(attempts.question, attempts.score)
    if n_questions == 1:
        reason = "one question alone does not differ from others"
        return Variance(question=None, attempt=round(found.attempt, _DIGITS), reason=reason)
    return Variance(question=round(found.question, _DIGITS), attempt=round(found.attempt, _DIGITS), reason=None)


def _reasons(
    attempts: ScoredAttempts,
    ks: Sequence[int] | None,
    most: int,
    avg: KEstimate | None,
    others: Sequence[KEstimate],
    spec: BenchmarkSpec,
    *,
    is_binary: bool,
) -> Iterator[str]:
    if avg is None:
        yield tell_lack(Lack.NO_SCORES)
        return
    if avg.n_questions == 1:
        yield tell_lack(Lack.ONE_QUESTION)
    elif avg.ci_low is None:
        yield tell_lack(Lack.ALL_EQUAL)
    elif any(own.n_questions == 1 for own in others):
        yield f"where n_questions is 1: {tell_lack(Lack.ONE_QUESTION)}"
    if not is_binary:
        yield (
            f"pass@k and pass^k need attempts that are right or wrong; some scores lie between {spec.score_min:g} and "
            f"{spec.score_max:g}"
        )
    above = [str(k) for k in sorted(set(ks or ())) if k > most]
    if above:
        yield f"no question has {above[0]} scored attempts: at most {most:,}"
    if ks is None and most > KS_MAX:
        yield f"pass@k and pass^k are told up to k = {KS_MAX} of {most:,}; name others in `ks`"
    if most == 1:
        yield "maj@n and consistency need several scored attempts at a question"
    elif (attempts.answer < 0).all():
        yield "maj@n and consistency need answers, and none were sent"
    elif np.isnan(agreement(attempts.question, attempts.answer)).all():
        yield "consistency needs two attempts with an answer at a question"

"""Verdicts on live runs, which are looked at again and again."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import scipy.stats

from analysis_service.question_scores import QuestionScores
from analysis_service.runs import Run
from analysis_service.significance.live import PATH_MAX, judge_live
from analysis_service.significance.sentences import tell_live
from shared.registry.load import load_registry
from shared.statistics import Verdict

SPEC = load_registry().benchmarks["math500"]
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = Verdict
NOTHING: dict[str, Any] = dict.fromkeys(field.name for field in fields(Run))
RUN = Run(**NOTHING)


def scores(
    values: Sequence[float], order: Sequence[int] | None = None, count: Sequence[int] | None = None
) -> QuestionScores:
    """A run that has answered questions 0 … in an order: the place of each."""
    n = len(values)
    return QuestionScores(
        run=RUN,
        question_no=np.arange(n, dtype=np.int32),
        mean=np.array(values, dtype=np.float64),
        count=np.array([1] * n if count is None else count, dtype=np.int32),
        combination=np.zeros(n, dtype=np.int32),
        place=np.array(range(n) if order is None else order, dtype=np.int32),
    )


def first(own: QuestionScores, n: int) -> QuestionScores:
    """The first questions of a run that has answered them by number."""
    return QuestionScores(own.run, own.question_no[:n], own.mean[:n], own.count[:n], own.combination[:n], own.place[:n])


BASELINE = scores([0.0, 1.0] * 1000)


def test_once_decided_it_stays_so() -> None:
    rng = np.random.default_rng(6)
    candidate = scores((rng.random(2000) < 0.75).astype(float).tolist())
    looks = [judge_live(first(candidate, n), BASELINE, SPEC, confidence=0.95, margin=0.01) for n in range(1, 2001, 37)]
    decided = [look.decided_at for look in looks if look.decided_at is not None]
    assert len(looks) > len(decided) > 10
    assert set(decided) == {decided[0]}
    assert {look.verdict for look in looks if look.decided_at is None} == {INCONCLUSIVE}
    assert {look.verdict for look in looks if look.decided_at is not None} == {BETTER}
    lows = [look.path[-1].ci_low for look in looks]
    assert lows == sorted(lows)
    assert all(look.of == 2000 for look in looks)


def test_the_order_is_that_in_which_the_candidate_answered() -> None:
    """Numbers say nothing of the order: right answers first, to questions with the highest numbers."""
    values = [0.0] * 400 + [1.0] * 400
    late = judge_live(scores(values, list(range(800))), scores([0.5] * 800), SPEC, confidence=0.95, margin=0.01)
    early = judge_live(scores(values, list(range(800))[::-1]), scores([0.5] * 800), SPEC, confidence=0.95, margin=0.01)
    assert (late.verdict, early.verdict) == (WORSE, BETTER)
    assert early.path[0].delta == 0.5
    assert early.path[-1].delta == late.path[-1].delta == 0


def test_equivalent_live() -> None:
    rng = np.random.default_rng(6)
    close = scores((np.tile([0.0, 1.0], 1000) + rng.uniform(-0.01, 0.01, 2000)).clip(0, 1).tolist())
    live = judge_live(close, BASELINE, SPEC, confidence=0.95, margin=0.1)
    assert live.verdict is EQUIVALENT
    assert live.decided_at is not None
    assert live.path[-1].ci_high < 0.1


def test_equal_models_are_not_told_apart_although_one_is_ahead() -> None:
    """Of 400 pairs looked at after every question, 5 % may be decided; to the last question, not up to it."""
    rng = np.random.default_rng(606)
    told = [
        judge_live(
            scores((rng.random(300) < 0.6).astype(float).tolist()),
            scores((rng.random(300) < 0.6).astype(float).tolist()),
            SPEC,
            confidence=0.95,
            margin=0.0,
        ).verdict
        for _ in range(400)
    ]
    wrong = sum(verdict is not INCONCLUSIVE for verdict in told)
    assert wrong <= scipy.stats.binom.ppf(0.9999, 400, 0.05)


def test_the_path_is_short_and_has_the_deciding_and_the_last_look() -> None:
    live = judge_live(scores([0.5, 1.0] * 1000), BASELINE, SPEC, confidence=0.95, margin=0.01)
    ns = [look.n for look in live.path]
    assert len(ns) <= PATH_MAX
    assert ns == sorted(set(ns))
    assert {1, live.decided_at, 2000} <= set(ns)


def test_blocks_and_repeats_are_warned_of() -> None:
    values, blocks = [1.0] * 200, np.repeat(np.arange(5, dtype=np.int32), 40)
    shuffled = np.random.default_rng(6).permutation(blocks)

    def warnings(codes: Any = None, count: Sequence[int] | None = None) -> list[str]:
        field = None if codes is None else ("subject", codes)
        candidate = scores(values, count=count)
        return judge_live(candidate, BASELINE, SPEC, confidence=0.95, margin=0.01, blocks=field).warnings

    assert ["blocks by subject" in warning for warning in warnings(blocks)] == [True]
    assert warnings(shuffled) == warnings() == []
    assert ["several attempts" in warning for warning in warnings(count=[2] * 200)] == [True]


def test_live_sentences() -> None:
    live = judge_live(scores([1.0] * 300), BASELINE, SPEC, confidence=0.975, margin=0.01)
    told = tell_live(live, "gpt-4o", "gpt-4", SPEC, margin=0.01, confidence=0.975)
    assert told.startswith("So far gpt-4o is better than gpt-4 on math500: +0.500 (97.5 % interval +0.")
    assert told.endswith(
        f"however often it is looked at, 300 of 2,000 questions; decided at question {live.decided_at})"
    )
    some = judge_live(scores([1.0] * 5), BASELINE, SPEC, confidence=0.95, margin=0.01)
    assert some.verdict is INCONCLUSIVE
    assert "are not told apart" in tell_live(some, "gpt-4o", "gpt-4", SPEC, margin=0.01, confidence=0.95)
    nothing = judge_live(scores([]), BASELINE, SPEC, confidence=0.95, margin=0.01)
    assert (nothing.path, nothing.decided_at, nothing.verdict) == ([], None, INCONCLUSIVE)
    assert "no question yet" in tell_live(nothing, "gpt-4o", "gpt-4", SPEC, margin=0.01, confidence=0.95)

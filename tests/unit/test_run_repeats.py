"""What is told of a run's attempts, and why something is not."""

from collections.abc import Sequence

import numpy as np

from analysis_service.run_repeats import ScoredAttempts, measure_run
from shared.analysis import RunInfo
from shared.registry.load import load_registry
from shared.repeats import RunRepeats

SPEC = load_registry().benchmarks["aime"]
RUN = RunInfo(
    result_name="r",
    model="m",
    registered=False,
    timestamp="2025-01-01T00:00:00Z",
    coverage=1,
    partial=False,
    live=False,
)


def measure(questions: Sequence[Sequence[float]]) -> RunRepeats:
    """Of questions by the scores of their attempts, none with an answer."""
    question = np.repeat(np.arange(len(questions)), [len(own) for own in questions])
    score = np.array([score for own in questions for score in own])
    return measure_run(RUN, ScoredAttempts(question, score, np.full(len(score), -1)), SPEC, ks=None, confidence=0.95)


def test_what_one_question_alone_has_attempts_for_has_no_error() -> None:
    found = measure([[1, 0, 1], [1], [0]])
    assert [own.n_questions for own in found.pass_at] == [3, 1, 1]
    assert [own.se is None for own in found.pass_at] == [False, True, True]
    assert "where n_questions is 1: one question tells nothing of the error" in found.reasons
    assert not any("n_questions" in reason for reason in measure([[1, 0], [1, 1]]).reasons)


def test_equal_scores_have_no_interval() -> None:
    found = measure([[0.3], [0.3], [0.1 + 0.2]])
    assert found.avg is not None
    assert (found.avg.value, found.avg.se, found.avg.ci_low, found.avg.method) == (0.3, 0, None, None)
    assert "all scores are equal, which tells nothing of the error" in found.reasons


def test_pass_at_1_is_the_mean() -> None:
    for questions in ([[1, 0, 1], [1, 1, 1], [0, 0, 0]], [[1], [0], [1]], [[1, 1], [0, 0], [1, 1]]):
        found = measure(questions)
        assert found.avg is not None
        assert found.pass_at[0] == found.pass_all[0] == found.avg.model_copy(update={"k": 1})

"""What `scorehouse rebuild` makes of the states that it sees."""

from typing import Any

import pytest

from scorehouse.rebuild_command import Course
from shared.rebuilds import RebuildState


def state(**changes: Any) -> RebuildState:
    """A service that is at rest, but for `changes`."""
    rest = {
        "outdated": 0,
        "position": 10,
        "head": 10,
        "lag": 0,
        "results_applied": 0,
        "answers_applied": 0,
        "applying": None,
        "stopped": None,
    }
    return RebuildState.model_validate(rest | changes)


def course(*states: RebuildState) -> Course:
    """What a look a second has seen."""
    seen = Course()
    for second, each in enumerate(states):
        seen.look(each, float(second))
    return seen


@pytest.mark.parametrize(
    ("changes", "is_done"),
    [
        ({}, True),
        ({"outdated": 1}, False),
        ({"lag": 1, "position": 9}, False),
        ({"lag": None, "head": None}, False),
        ({"lag": None, "position": None}, False),
    ],
)
def test_it_is_done_when_nothing_is_left_and_known_to_be(changes: dict[str, Any], is_done: bool) -> None:
    assert course(state(**changes)).is_done is is_done


def test_a_rate_and_the_time_left() -> None:
    seen = course(*(state(outdated=100 - 10 * n, answers_applied=5_000 * n) for n in range(4)))
    assert seen.rebuilt == 30
    assert seen.told == "70 results left to apply anew, 10 of 10 entries of the feed, 5,000 answers/s, 0:00:07 left"


def test_a_restarted_service_counts_anew_and_the_command_does_not() -> None:
    before = [state(outdated=100 - 10 * n, answers_applied=5_000 * n) for n in range(1, 4)]
    after = [state(outdated=70 - 10 * n, answers_applied=1_000 * n) for n in range(3)]
    seen = course(*before, *after)
    assert seen.rebuilt == 40
    assert "1,000 answers/s" in seen.told


def test_a_rebuild_begun_anew_in_the_middle() -> None:
    seen = course(state(outdated=4), state(outdated=2), state(outdated=4), state(outdated=0))
    assert (seen.rebuilt, seen.is_done) == (6, True)


def test_only_the_last_seconds_count_for_a_rate() -> None:
    slow = [state(outdated=1000, answers_applied=n) for n in range(30)]
    fast = [state(outdated=900, answers_applied=30 + 100 * n) for n in range(30)]
    assert "100 answers/s" in course(*slow, *fast).told


def test_since_when_nothing_has_moved() -> None:
    moving = [state(outdated=5), state(outdated=4), state(outdated=4, answers_applied=7)]
    assert course(*moving, *[moving[-1]] * 5).moved_at == 2.0


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        ({"stopped": "r1: no such field"}, "the analysis has stopped at r1: no such field"),
        ({"head": None, "lag": None}, "the analysis cannot read the results service"),
        ({"outdated": 3}, "nothing is being applied"),
    ],
)
def test_what_stands_in_the_way(changes: dict[str, Any], obstacle: str) -> None:
    assert course(state(**changes)).obstacle.startswith(obstacle)

"""Each simulation in small, with what so few rounds err allowed for, and that a simulation sees what is wrong."""

import numpy as np
import pytest

from analysis_service.stats.intervals import clopper_pearson
from tests.simulation import binary_means
from tests.simulation.promises import AT_LEAST_95, FEW_EACH, FEW_MEAN, HEADINGS, MANY, Promise, Range
from tests.simulation.run import PAGE, SIMULATIONS

WITH_SERVERS = {"identical"}  # in small: tests/end_to_end/test_false_positives.py
ROUNDS = {"sequences": 20, "steps": 25, "repeats": 40, "attempts": 60}


@pytest.mark.parametrize("name", sorted(SIMULATIONS.keys() - WITH_SERVERS))
def test_what_is_promised_is_kept(name: str) -> None:
    promises = SIMULATIONS[name].simulate(ROUNDS.get(name, 100))

    assert promises
    assert [promise.what for promise in promises if not promise.is_met] == []
    assert all(len(promise.cells) == len(HEADINGS) for promise in promises)


def test_the_page_has_a_place_for_each_table() -> None:
    page = PAGE.read_text(encoding="utf-8")

    for name in SIMULATIONS:
        assert f"<!-- simulation-{name} -->\n" in page
        assert f"<!-- /simulation-{name} -->" in page


def test_intervals_that_are_too_narrow_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_means, "wilson", lambda k, n, _: clopper_pearson(k, n, 0.9))

    assert not any(promise.is_met for promise in binary_means.wilson_coverage(0))


@pytest.mark.parametrize(
    ("shares", "rounds", "asked", "is_met"),
    [
        ([0.95, 0.94], None, {"each": MANY}, True),
        ([0.95, 0.9349], None, {"each": MANY}, False),
        ([0.95, 0.9651], None, {"each": MANY}, False),
        ([0.92, 0.97], None, {"each": FEW_EACH, "mean": FEW_MEAN}, True),
        ([0.92, 0.92], None, {"each": FEW_EACH, "mean": FEW_MEAN}, False),
        # 94 of 100 may be 95 %, 9,400 of 10,000 may not, nor 940 of 1,000 in each of many cells.
        ([0.94], 100, {"each": AT_LEAST_95}, True),
        ([0.94], 10_000, {"each": AT_LEAST_95}, False),
        ([0.94] * 50, 1000, {"each": AT_LEAST_95}, True),
        ([0.94] * 50, 1000, {"mean": AT_LEAST_95}, False),
        ([0.2], 100, {}, True),
    ],
)
def test_a_promise_is_met_within_what_its_rounds_err(
    shares: list[float], rounds: int | None, asked: dict[str, Range], is_met: bool
) -> None:
    promise = Promise("it", np.array(shares), rounds, each=asked.get("each"), mean=asked.get("mean"))

    assert promise.is_met is is_met
    assert promise.cells[-1] == (("yes" if is_met else "NO") if asked else "")


def test_ranges_are_told_as_they_are() -> None:
    assert [str(asked) for asked in (MANY, AT_LEAST_95, Range(0, 0.05))] == ["93.5–96.5 %", "≥ 95 %", "≤ 5 %"]

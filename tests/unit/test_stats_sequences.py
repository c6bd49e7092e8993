"""Confidence sequences against the capital that defines them, by coverage at every look, and how soon they decide."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis_service.stats.intervals import Limits
from analysis_service.stats.sequences import confidence_sequence, decided_at, predictable_bets

F = NDArray[np.float64]


def differences(seed: int, n: int, wins: float, losses: float) -> F:
    """Paired differences of right and wrong answers."""
    return np.random.default_rng(seed).choice([1.0, -1, 0], n, p=[wins, losses, 1 - wins - losses])


def slow_limits(x: list[float], confidence: float, of: int | None, points: int) -> tuple[float, float]:
    """Of values within 0 … 1, by the definition: the means that neither capital rules out after any of them."""

    def capital(values: list[float], mean: float) -> float:
        most = wealth = 1 / 2
        total, squares = 0.0, 0.25
        for number, value in enumerate(values):
            variance = squares / (number + 1)
            bet = math.sqrt(2 * math.log(2 / (1 - confidence)) / (variance * (number + 1) * math.log(number + 2)))
            expected = mean if of is None else (of * mean - total) / (of - number)
            if not 0 <= expected <= 1:  # it cannot be
                return math.inf if expected < 0 else most
            wealth *= 1 + min(bet, 0.5 / max(expected, 1e-9)) * (value - expected)
            most = max(most, wealth)
            total += value
            squares += (value - (0.5 + total) / (number + 2)) ** 2
        return most

    grid = np.linspace(0, 1, points)
    kept = [
        mean
        for mean in grid
        if max(capital(x, mean), capital([1 - value for value in x], 1 - mean)) < 1 / (1 - confidence)
    ]
    return float(kept[0]), float(kept[-1])


@pytest.mark.parametrize("of", [None, 75, 200])
@pytest.mark.parametrize(("wins", "losses"), [(0.5, 0.1), (0.2, 0.2), (0.0, 0.9)])
def test_equal_to_the_definition_up_to_the_grid(of: int | None, wins: float, losses: float) -> None:
    d = differences(3, 60, wins, losses)
    found = confidence_sequence(d, lowest=-1, highest=1, confidence=0.9, of=of)
    low, high = slow_limits(((d + 1) / 2).tolist(), 0.9, of, points=401)
    # Of the cells each bets a little less than could be bet at their points, so they rule out a little less.
    assert 2 * low - 1 - 0.02 <= found.low[-1] <= 2 * low - 1 + 0.006
    assert 2 * high - 1 - 0.006 <= found.high[-1] <= 2 * high - 1 + 0.02


@pytest.mark.parametrize(("wins", "losses"), [(0.1, 0.1), (0.45, 0.45), (0.01, 0.01), (0.6, 0.4)])
@pytest.mark.parametrize("of", [None, 150])
def test_it_holds_at_every_look(wins: float, losses: float, of: int | None) -> None:
    missed = 0
    for seed in range(400):
        d = differences(seed, 150, wins, losses)
        true = wins - losses if of is None else d.mean()
        low, high = confidence_sequence(d, lowest=-1, highest=1, confidence=0.9, of=of)
        missed += bool(((low > true + 1e-9) | (high < true - 1e-9)).any())
    # 40 of 400 may; 57 or more would happen once in 400 if it held just so.
    assert missed < 57


def test_looking_at_a_usual_interval_all_the_time_would_not_hold() -> None:
    """What it is for: the same looks at t intervals exclude the truth far more often."""
    missed = 0
    for seed in range(100):
        d = differences(seed, 300, 0.2, 0.2)
        n = np.arange(1, 301)
        mean = np.cumsum(d) / n
        se = np.sqrt((np.cumsum(d**2) / n - mean**2) / np.maximum(n - 1, 1))
        missed += bool((np.abs(mean) > 1.96 * se)[20:].any())
    assert missed > 20


def test_with_the_last_of_a_known_number_the_mean_is_known() -> None:
    d = differences(1, 500, 0.3, 0.2)
    low, high = confidence_sequence(d, lowest=-1, highest=1, confidence=0.95, of=500)
    assert low[-1] == pytest.approx(d.mean(), abs=1e-9)
    assert high[-1] == pytest.approx(d.mean(), abs=1e-9)
    without = confidence_sequence(d, lowest=-1, highest=1, confidence=0.95)
    assert without.high[-1] - without.low[-1] > 0.1
    assert (high - low <= without.high - without.low + 0.02).all()


def test_a_finite_number_tells_at_least_what_is_logically_so() -> None:
    """The first 90 of 100 in a hostile order: nothing is claimed that the last 10 could not yet undo."""
    d = np.concatenate([np.full(90, 1.0), np.full(10, -1.0)])
    low, high = confidence_sequence(d[:90], lowest=-1, highest=1, confidence=0.95, of=100)
    assert low[-1] > 0.8 - 1e-9
    assert high[-1] == pytest.approx(1)


def test_it_decides_soon_enough_to_be_of_use() -> None:
    clear = confidence_sequence(differences(5, 2000, 0.3, 0.1), lowest=-1, highest=1, confidence=0.95, of=2000)
    found = decided_at(clear)
    assert found is not None
    assert found < 300
    assert clear.low[found - 1] > 0 >= clear.low[found - 2]
    none = confidence_sequence(differences(6, 1900, 0.1, 0.1), lowest=-1, highest=1, confidence=0.95, of=2000)
    assert decided_at(none) is None
    within = decided_at(none, margin=0.05)
    assert within is not None
    assert within < 1700
    assert max(-none.low[within - 1], none.high[within - 1]) <= 0.05


@pytest.mark.parametrize(
    ("low", "high", "margin", "at"),
    [
        ([-1.0, -0.5, 0.0, 0.1], [1.0, 0.9, 0.8, 0.7], 0.0, 4),
        ([-1.0, -0.9], [1.0, -0.1], 0.0, 2),
        ([-1.0, -0.05, -0.04], [1.0, 0.06, 0.05], 0.05, 3),
        ([-1.0, 0.0], [1.0, 0.0], 0.0, None),
        ([], [], 0.05, None),
    ],
)
def test_when_it_is_decided(low: list[float], high: list[float], margin: float, at: int | None) -> None:
    assert decided_at(Limits(np.array(low), np.array(high)), margin) == at


def test_where_nothing_is_left_the_last_interval_stays() -> None:
    """Values that are not of one mean: what was ruled out stays so, and some limits are told all the same."""
    d = np.concatenate([np.full(100, 1.0), np.full(1000, -1.0)])
    low, high = confidence_sequence(d, lowest=-1, highest=1, confidence=0.95)
    assert (low <= high).all()
    assert low[99] > 0.8
    assert (low[-1], high[-1]) == (low[500], high[500])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.data())
def test_bets_do_not_know_what_they_are_on(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    x = np.array(values)
    other = x.copy()
    other[place:] = 1 - other[place:]
    assert predictable_bets(other, 0.95)[: place + 1].tolist() == predictable_bets(x, 0.95)[: place + 1].tolist()


VALUES = st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.5, 1.0]), min_size=1, max_size=60)


@given(VALUES, st.integers(0, 20))
def test_laws(values: list[float], more: int) -> None:
    d = np.array(values)
    for of in (None, len(values) + more):
        low, high = confidence_sequence(d, lowest=-1, highest=1, confidence=0.9, of=of)
        assert (low <= high + 1e-12).all()
        assert ((low >= -1 - 1e-12) & (high <= 1 + 1e-12)).all()
        # It only narrows, and does not know what comes.
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) <= 0).all()
        prefix = confidence_sequence(d[: len(d) // 2], lowest=-1, highest=1, confidence=0.9, of=of)
        assert prefix.low == pytest.approx(low[: len(d) // 2])
        # The other way round it is its mirror image; on another scale it is stretched.
        mirrored = confidence_sequence(-d, lowest=-1, highest=1, confidence=0.9, of=of)
        assert -mirrored.high == pytest.approx(low, abs=1e-9)
        stretched = confidence_sequence(50 * d, lowest=-50, highest=50, confidence=0.9, of=of)
        assert stretched.high == pytest.approx(50 * high, abs=1e-7)
        surer = confidence_sequence(d, lowest=-1, highest=1, confidence=0.99, of=of)
        assert len(surer.low) == len(d)


@pytest.mark.parametrize(
    ("values", "of"), [([0.0, 1.1], None), ([0.0, float("nan")], None), ([[0.0, 1.0]], None), ([0.0, 0.0], 1)]
)
def test_what_it_refuses(values: list[float], of: int | None) -> None:
    with pytest.raises(ValueError, match="values"):
        confidence_sequence(values, lowest=-1, highest=1, confidence=0.95, of=of)


def test_a_large_benchmark_takes_no_time() -> None:
    d = differences(1, 14_042, 0.08, 0.06)
    began = time.process_time()
    confidence_sequence(d, lowest=-1, highest=1, confidence=0.95, of=14_042)
    assert time.process_time() - began < 0.3

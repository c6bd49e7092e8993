"""A thousand pairs of identical models through the public API: no more are told apart than is promised."""

from pathlib import Path

from tests.simulation.false_positives import CELLS, measure_false_positives, told_apart

PAIRS = 1000


async def test_identical_models_are_hardly_ever_told_apart(mongo_url: str, tmp_path: Path) -> None:
    found = await measure_false_positives(mongo_url, tmp_path, pairs=PAIRS, models=64, seed=1)
    for promise in told_apart(found):
        assert promise.is_met, promise
    # Else nothing would be tested: without correction most requests have a cell that seems to differ.
    assert found.any_cell > PAIRS / 2
    assert found.cells / PAIRS / CELLS > 0.01
    assert found.compared > PAIRS / 100

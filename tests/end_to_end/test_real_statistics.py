"""Order, ties and p-values of real models, against a slow reading of the same files. Needs SCOREHOUSE_REAL_DATA."""

import gzip
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import pytest

from tests.api.conftest import Stack, run_stack
from tests.real_data import REAL_DATA, needs_real_data
from tests.statistics_reference import Reference, compare, read_scores

pytestmark = needs_real_data

MODELS_MAX = 50


@pytest.fixture(scope="module")
async def stack(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    file = tmp_path_factory.mktemp("real-statistics") / "analysis.sqlite"
    async with run_stack(mongo_url, "real-statistics", file) as running:
        for benchmark in ("mmlu-redux", "math500"):
            with gzip.open(REAL_DATA / "runs" / f"{benchmark}.ndjson.gz") as lines:
                for body in lines:
                    response = await running.results.post("/standardized_output", content=body, timeout=60)
                    assert response.status_code == 201, response.text
        await running.settle()
        yield running


def reference_of(benchmark: str) -> Reference:
    scores = read_scores(REAL_DATA / "runs" / f"{benchmark}.ndjson.gz")
    return compare(dict(islice(scores.items(), MODELS_MAX)))


async def canonical_names(stack: Stack, benchmark: str, names: list[str]) -> dict[str, str]:
    """What the registry calls these models."""
    answer = (await stack.analyze(benchmark=benchmark, level1="model", models=names)).json()
    return {name: stack.app.state.reader.registry.canonical_model(name) for name in names} if answer["rows"] else {}


@pytest.mark.parametrize("benchmark", ["mmlu-redux", "math500"])
async def test_order_ties_and_p_values(stack: Stack, benchmark: str) -> None:
    reference = reference_of(benchmark)
    called = await canonical_names(stack, benchmark, list(reference.means))
    assert len(set(called.values())) == len(reference.means)
    request: dict[str, Any] = {"benchmark": benchmark, "models": list(reference.means), "draws": 200}
    response = await stack.analysis.post("/comparison", json=request, timeout=60)
    assert response.status_code == 200, response.text
    answer = response.json()

    entries = {entry["name"]: entry for entry in answer["entries"]}
    for name, mean in reference.means.items():
        assert entries[called[name]]["mean"] == pytest.approx(float(mean), abs=1e-12)
    ranks = {called[name]: rank for name, rank in reference.ranks().items()}
    assert {name: (one["rank"], one["rank_low"], one["rank_high"]) for name, one in entries.items()} == ranks

    groups: dict[int, set[str]] = {}
    for name, entry in entries.items():
        groups.setdefault(entry["tie_group"], set()).add(name)
    wanted = [{called[name] for name in group} for group in reference.tie_groups()]
    assert [groups[number] for number in sorted(groups)] == wanted

    told = {(pair["a"], pair["b"]): pair for pair in answer["pairs"]}
    assert answer["n_tests"] == len(told) == len(reference.pairs)
    for (first, second), pair in reference.pairs.items():
        found = told[called[first], called[second]]
        assert (found["n_shared"], found["wins"], found["losses"]) == (pair.n_shared, pair.wins, pair.losses)
        assert found["test"] == "exact mcnemar"
        assert found["p"] == pytest.approx(float(pair.p), rel=1e-9)
        assert found["p_adjusted"] == pytest.approx(float(pair.p_adjusted), rel=1e-9)
        assert found["significant"] == reference.told_apart(first, second)


async def test_the_same_differences_in_a_group_by(stack: Stack) -> None:
    """Over one cell a model, a group-by against a baseline tests what a comparison with the baseline tests."""
    reference = reference_of("mmlu-redux")
    called = await canonical_names(stack, "mmlu-redux", list(reference.means))
    baseline = reference.order()[0]
    request = {"benchmark": "mmlu-redux", "level1": "model", "statistics": True, "baseline_model": baseline}
    answer = (await stack.analyze(**request)).json()
    assert answer["n_tests"] == len(reference.means) - 1
    rows = {row["model"]: row for row in answer["rows"]}
    for name in reference.order()[1:]:
        pair = reference.pairs.get((name, baseline)) or reference.pairs[baseline, name]
        row = rows[called[name]]
        assert row["p"] == pytest.approx(float(pair.p), rel=1e-9)
        assert row["delta"] == pytest.approx(float(reference.means[name] - reference.means[baseline]), abs=1e-12)

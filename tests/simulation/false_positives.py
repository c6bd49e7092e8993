"""False positives through the public API: pairs of models that are the same, compared as any user would compare them.

Each model answers each question right with that question's own probability, and nothing else tells models apart. So
every significant difference is a false one.
"""

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import structlog

from tests.api.conftest import Stack, run_stack
from tests.bench.servers import mongod
from tests.simulation.promises import AT_MOST_5, Promise, Range

CELLS = 57
QUESTIONS_OF_CELL = 40
AT_ONCE = 8
"""Requests under way."""
LEVEL = 0.05
_MODELS = 640
_SEED = 6
_BENCHMARK = "identical"
_REGISTRY = f"""
name = "{_BENCHMARK}"
title = {{ en = "Identical models" }}
description = {{ en = "Made up" }}
question_count = {CELLS * QUESTIONS_OF_CELL}
[[fields]]
name = "subject"
type = "category"
description = {{ en = "One of {CELLS}" }}
"""


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """Of so many pairs, how many were told apart at the level of 5 %."""

    pairs: int
    models: int
    """That the pairs are made of: pairs with a model in common are not independent."""
    any_cell: int
    """Somewhere in the cells, without correction."""
    cells: int
    """Cells of all pairs, without correction: of `pairs` × `CELLS`."""
    any_cell_holm: int
    any_cell_bh: int
    compared: int
    """Over all questions, by `/comparison`."""
    verdicts: int
    """`better` or `worse`, by `/significance`."""


def api_false_positives(pairs: int) -> list[Promise]:
    """How often pairs of identical models are told apart, by each request that tells models apart."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # else a line a request
    with TemporaryDirectory() as folder, mongod(Path(folder)) as mongo_url:
        measuring = measure_false_positives(mongo_url, Path(folder), pairs=pairs, models=_MODELS, seed=_SEED)
        return told_apart(asyncio.run(measuring))


def told_apart(found: FalsePositives) -> list[Promise]:
    """The shares, each with what it promises."""

    def promise(what: str, count: int, each: Range | None, of: int = 1) -> Promise:
        shares = np.array([count / found.pairs / of])
        return Promise(what, shares, found.pairs * of, each, nominal="5 %")

    return [
        promise("`/comparison`: significant", found.compared, AT_MOST_5),
        promise("`/significance`: better or worse", found.verdicts, AT_MOST_5),
        promise(f"`/analysis` against a baseline, a cell of {CELLS}, p ≤ .05", found.cells, AT_MOST_5, CELLS),
        promise(f"for comparison: any cell of {CELLS}, `none`", found.any_cell, None),
        promise(f"any cell of {CELLS}, `holm`", found.any_cell_holm, AT_MOST_5),
        promise(f"any cell of {CELLS}, `bh`", found.any_cell_bh, AT_MOST_5),
    ]


async def measure_false_positives(
    mongo_url: str, folder: Path, *, pairs: int, models: int, seed: int
) -> FalsePositives:
    """Push the models' runs to services started for it, and compare `pairs` of them."""
    (folder / "registry").mkdir()
    (folder / "registry" / "identical.toml").write_text(_REGISTRY, encoding="utf-8")
    changes: dict[str, Any] = {"scorehouse_registry_dir": folder / "registry", "answer_cache_bytes": 0}
    async with run_stack(mongo_url, "identical", folder / "analysis.sqlite", **changes) as stack:
        chance = np.random.default_rng(seed)
        for body in _documents(models, chance):
            response = await stack.results.post("/standardized_output", content=body, timeout=60)
            assert response.status_code == 201, response.text
        await stack.settle()
        chosen = _pairs(pairs, models, chance)
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(first: int, second: int) -> "_Told":
            async with places:
                return await _compare(stack, f"model-{first}", f"model-{second}")

        told = await asyncio.gather(*(ask(first, second) for first, second in chosen))
    return FalsePositives(
        pairs=pairs,
        models=models,
        any_cell=sum(one.cells > 0 for one in told),
        cells=sum(one.cells for one in told),
        any_cell_holm=sum(one.holm for one in told),
        any_cell_bh=sum(one.bh for one in told),
        compared=sum(one.compared for one in told),
        verdicts=sum(one.verdict for one in told),
    )


@dataclass(frozen=True, slots=True)
class _Told:
    cells: int
    holm: bool
    bh: bool
    compared: bool
    verdict: bool


async def _compare(stack: Stack, first: str, second: str) -> _Told:
    group_by = {
        "benchmark": _BENCHMARK,
        "level1": "subject",
        "models": [first, second],
        "statistics": True,
        "baseline_model": second,
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for correction in ("holm", "bh"):
        answer = await _ask(stack.analysis, "/analysis", group_by | {"correction": correction})
        assert answer["n_tests"] == CELLS
        found[correction] = [row for row in answer["rows"] if row["model"] == first]
    compared = await _ask(
        stack.analysis, "/comparison", {"benchmark": _BENCHMARK, "models": [first, second], "draws": 0, "contested": 0}
    )
    contenders = {"candidate": {"model": first}, "baseline": {"model": second}}
    verdict = await _ask(stack.analysis, "/significance", {"benchmarks": [_BENCHMARK], "draws": 0, **contenders})
    return _Told(
        cells=sum(row["p"] <= LEVEL for row in found["holm"]),
        holm=any(row["significant"] for row in found["holm"]),
        bh=any(row["significant"] for row in found["bh"]),
        compared=compared["pairs"][0]["significant"],
        verdict=verdict["verdict"] in ("better", "worse"),
    )


async def _ask(client: httpx.AsyncClient, path: str, request: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=request, timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def _documents(models: int, chance: np.random.Generator) -> Iterator[bytes]:
    easy = chance.beta(2.0, 1.0, CELLS * QUESTIONS_OF_CELL)
    asked = [
        (f"{cell}/{number}", {"subject": f"subject-{cell:02}"})
        for cell in range(CELLS)
        for number in range(QUESTIONS_OF_CELL)
    ]
    for model in range(models):
        right = (chance.random(len(easy)) < easy).tolist()
        questions = [
            {"question_id": name, "score": float(score), "metadata": metadata}
            for (name, metadata), score in zip(asked, right, strict=True)
        ]
        envelope = {"run_id": f"run-{model}", "benchmark_name": _BENCHMARK, "timestamp": "2026-01-01T00:00:00Z"}
        envelope |= {"model_id": f"model-{model}", "source": "simulation"}
        yield json.dumps(envelope | {"data": {"questions": questions}}).encode()


def _pairs(pairs: int, models: int, chance: np.random.Generator) -> Sequence[tuple[int, int]]:
    """Distinct pairs, each model in about as many as any other."""
    most = models * (models - 1) // 2
    if pairs > most:
        raise ValueError(f"{models} models make {most} pairs")
    chosen: dict[tuple[int, int], None] = {}
    while len(chosen) < pairs:
        order = chance.permutation(models).tolist()
        for first, second in zip(order[::2], order[1::2], strict=False):
            if len(chosen) < pairs and (second, first) not in chosen:
                chosen[first, second] = None
    return list(chosen)

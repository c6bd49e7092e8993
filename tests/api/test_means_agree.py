"""A run's mean is told with the same error, interval, method and reason wherever it is told."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.conftest import Stack, run_stack

SUBJECTS = ("Algebra", "Geometry", "Number Theory", "Precalculus", "Prealgebra", "Intermediate Algebra")
TOLD = ("mean", "se", "ci_low", "ci_high", "method")


def scores() -> dict[str, list[list[float]]]:
    """Of each model, question by question the scores of its attempts: as many at each."""
    chance = random.Random(5)
    return {
        "binary": [[float(chance.random() < 0.7)] for _ in range(40)],
        "graded": [[round(chance.random(), 2)] for _ in range(40)],
        "repeated": [[float(chance.random() < 0.4) for _ in range(3)] for _ in range(40)],
        "right": [[1.0]] * 40,
        "equal": [[0.25]] * 40,
        "unsure": [[0.25, 0.75]] * 40,
    }


SCORES = scores()


def document(model: str) -> dict[str, Any]:
    questions = [
        {
            "question_id": f"q{number}",
            "attempt": attempt,
            "score": score,
            "answer": str(score),
            "metadata": {"subject": SUBJECTS[number % 6], "level": 1 + number % 4},
        }
        for number, attempts in enumerate(SCORES[model])
        for attempt, score in enumerate(attempts)
    ]
    return {
        "run_id": model,
        "benchmark_name": "math500",
        "timestamp": "2024-01-01T00:00:00Z",
        "model_id": model,
        "source": "tests",
        "data": {"questions": questions},
    }


@pytest.fixture(scope="module")
async def stack(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    file = tmp_path_factory.mktemp("means") / "analysis.sqlite"
    async with run_stack(mongo_url, "means", file) as running:
        await running.push(*map(document, SCORES))
        yield running


async def ask(stack: Stack, path: str, **body: Any) -> dict[str, Any]:
    response = await stack.analysis.post(path, json={"benchmark": "math500", "confidence": 0.9, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def rows_of(stack: Stack, **body: Any) -> dict[str, dict[str, Any]]:
    answer = await ask(stack, "/analysis", level1="model", statistics=True, **body)
    return {row["model"]: row for row in answer["rows"]}


async def entries_of(stack: Stack, **body: Any) -> dict[str, dict[str, Any]]:
    answer = await ask(stack, "/comparison", models=list(SCORES), draws=500, **body)
    return {entry["name"]: entry for entry in answer["entries"]}


def told(*columns: Any) -> Any:
    return pytest.approx(columns, abs=1e-11)


async def test_rows_points_entries_and_repeats_agree(stack: Stack) -> None:
    rows, entries = await rows_of(stack), await entries_of(stack)
    assert {model: (row["method"], row["reason"]) for model, row in rows.items()} == {
        "binary": ("wilson", None),
        "graded": ("t", None),
        "repeated": ("wilson on effective n", None),
        "right": ("wilson", None),
        "equal": (None, "all scores are equal, which tells nothing of the error"),
        "unsure": ("wilson on effective n", None),
    }
    repeats = {run["run"]["model"]: run for run in (await ask(stack, "/repeats"))["runs"]}
    for model, row in rows.items():
        [series] = (await ask(stack, "/timeseries", models=[model]))["series"]
        [point], entry, avg = series["points"], entries[model], repeats[model]["avg"]
        expected = [row[name] for name in TOLD]
        numbers, method = told(*expected[:-1]), row["method"]
        assert (tuple(point[name] for name in TOLD[:-1]), point["method"]) == (numbers, method)
        assert (tuple(entry[name] for name in TOLD[:-1]), entry["method"]) == (numbers, method)
        assert ((avg["value"], *(avg[name] for name in TOLD[1:-1])), avg["method"]) == (numbers, method)
        assert row["reason"] == point["reason"] == entry["reason"]
        assert row["reason"] is None or row["reason"] in repeats[model]["reasons"]
        if SCORES[model][0][0] in (0, 1):
            alone = repeats[model]["pass_at"][0]
            assert alone | {"k": 0} == avg | {"k": 0}, "the mean is pass@1"


@pytest.mark.parametrize("field", ["subject", "level"])
async def test_rows_and_entries_by_cluster_agree(stack: Stack, field: str) -> None:
    """Six subjects are enough, four levels too few."""
    rows, entries = await rows_of(stack, cluster_by=field), await entries_of(stack, cluster_by=field)
    for model, row in rows.items():
        assert [entries[model][name] for name in TOLD[:-1]] == pytest.approx(
            [row[name] for name in TOLD[:-1]], abs=1e-11
        )
        assert entries[model]["method"] == row["method"]
        reason = None if field == "subject" else "fewer than 5 values of level to cluster by"
        assert entries[model]["reason"] == reason
        assert (row["reason"] or "").partition("macro: ")[0].rstrip("; ") == (reason or "")

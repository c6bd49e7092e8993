"""Real results of real models, pushed and asked for. Needs SCOREHOUSE_REAL_DATA, a folder with `runs/*.ndjson.gz`."""

import csv
import gzip
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Stack, run_stack, until
from tests.real_data import REAL_DATA, needs_real_data
from tests.sql_servers import own_database

pytestmark = needs_real_data

REGISTRY = {
    "mmlu-pro": """
name = "mmlu-pro"
title = {en = "MMLU-Pro"}
description = {en = "Questions with up to ten choices."}
chance_level = 0.1
[[fields]]
name = "category"
type = "category"
description = {en = "Discipline"}
[[fields]]
name = "src"
type = "category"
description = {en = "Where the question was taken from"}
""",
    "gsm8k": """
name = "gsm8k"
title = {en = "GSM8K"}
description = {en = "Grade-school word problems."}
question_count = 1319
[[fields]]
name = "answered"
type = "boolean"
description = {en = "Whether the model gave an answer"}
""",
}


def documents(benchmark: str) -> Iterator[bytes]:
    with gzip.open(REAL_DATA / "runs" / f"{benchmark}.ndjson.gz") as lines:
        yield from lines


async def push(stack: Stack, *benchmarks: str) -> None:
    for benchmark in benchmarks:
        for body in documents(benchmark):
            response = await stack.results.post("/standardized_output", content=body, timeout=60)
            assert response.status_code == 201, response.text
    await stack.settle()


def expected(benchmark: str) -> dict[str, tuple[int, int, float]]:
    """Run id → questions, rows, mean."""
    with (REAL_DATA / "expected_accuracy.csv").open() as file:
        return {
            row["run_id"]: (int(row["questions"]), int(row["rows"]), float(row["mean_score"]))
            for row in csv.DictReader(file)
            if row["benchmark"] == benchmark
        }


async def check_runs(stack: Stack, benchmark: str) -> None:
    rows = (await stack.analyze(benchmark=benchmark, level1="run", runs="all", limit=100_000)).json()["rows"]
    found = {row["run"].split(f"-{benchmark}-", 1)[1]: (row["n_questions"], row["n"], row["mean"]) for row in rows}
    wanted = expected(benchmark)
    assert found.keys() == wanted.keys()
    for run_id, (questions, answers, mean) in wanted.items():
        assert found[run_id][:2] == (questions, answers), run_id
        assert found[run_id][2] == pytest.approx(mean, abs=1e-9), run_id


async def check_parts(stack: Stack, benchmark: str, *levels: str) -> None:
    """Counts and score sums of the parts are those of the whole, run by run."""
    whole: dict[str, list[float]] = {}
    request: dict[str, Any] = {"benchmark": benchmark, "runs": "all", "limit": 100_000, "include_null": True}
    for row in (await stack.analyze(level1="run", **request)).json()["rows"]:
        whole[row["run"]] = [row["n"], row["n_questions"], row["n"] * row["mean"]]
    named = {f"level{number}": level for number, level in enumerate(levels, start=2)}
    parts: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for row in (await stack.analyze(level1="run", **named, **request)).json()["rows"]:
        total = parts[row["run"]]
        total[0] += row["n"]
        total[1] += row["n_questions"]
        total[2] += row["n"] * row["mean"]
    assert parts.keys() == whole.keys()
    for run, total in whole.items():
        assert parts[run] == pytest.approx(total, abs=1e-9), run


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
async def stack(
    request: pytest.FixtureRequest, mongo_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The three registered benchmarks' real results, on each embedded or served store in turn."""
    file = tmp_path_factory.mktemp("real") / "analysis.sqlite"
    with ExitStack() as servers:
        changes: dict[str, Any] = {}
        if request.param == "mariadb":
            address = servers.enter_context(own_database(request.getfixturevalue("mariadb")))
            changes = {"analysis_store": "mysql"} | {f"mysql_{name}": value for name, value in asdict(address).items()}
        async with run_stack(mongo_url, f"real-{request.param}", file, **changes) as running:
            await push(running, "mmlu-redux", "math500", "aime")
            yield running


@pytest.mark.parametrize("benchmark", ["mmlu-redux", "math500", "aime"])
async def test_every_runs_mean_is_the_published_one(stack: Stack, benchmark: str) -> None:
    await check_runs(stack, benchmark)


@pytest.mark.parametrize(
    ("benchmark", "levels"),
    [
        ("mmlu-redux", ["category"]),
        ("mmlu-redux", ["subject"]),
        ("mmlu-redux", ["category", "subject"]),
        ("math500", ["subject", "level"]),
        ("aime", ["year", "contest"]),
    ],
)
async def test_parts_add_up(stack: Stack, benchmark: str, levels: list[str]) -> None:
    await check_parts(stack, benchmark, *levels)


async def test_unregistered_models_are_analysed_and_marked(stack: Stack) -> None:
    answer = (await stack.analyze(benchmark="math500", level1="model")).json()
    marked = {run["model"] for run in answer["runs"] if not run["registered"]}
    assert marked
    assert marked <= {row["model"] for row in answer["rows"]}
    assert any("not in the model registry" in warning for warning in answer["warnings"])


async def test_two_registry_files_are_all_that_new_benchmarks_need(mongo_url: str, tmp_path: Path) -> None:
    """Pushed while unknown: parked, and applied after a restart with the files, without being pushed again."""
    file = tmp_path / "analysis.sqlite"
    async with run_stack(mongo_url, "real-parked", file) as stack:
        await push(stack, "mmlu-pro", "gsm8k")
        summary = (await stack.analysis.get("/analysis/summary")).json()["benchmarks"]
        assert [(item["benchmark"], item["registered"], item["parked"]) for item in summary] == [
            ("gsm8k", False, 28),
            ("mmlu-pro", False, 8),
        ]
    for name, text in REGISTRY.items():
        (tmp_path / f"{name}.toml").write_text(text)
    async with run_stack(mongo_url, "real-parked", file, scorehouse_registry_dir=tmp_path) as stack:

        async def applied() -> bool:
            summary = (await stack.analysis.get("/analysis/summary")).json()["benchmarks"]
            return not any(item["parked"] for item in summary)

        await until(applied, timeout_s=60)
        for benchmark in REGISTRY:
            await check_runs(stack, benchmark)
        await check_parts(stack, "mmlu-pro", "category", "src")
        rows = (await stack.analyze(benchmark="gsm8k", level1="answered", by_model=False, runs="all")).json()["rows"]
        assert {row["answered"] for row in rows} == {False, True}

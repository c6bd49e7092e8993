"""The Python client against the real service: what it sends is what the service reads."""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from results_service.app import create_app
from results_service.settings import ResultsSettings
from scorehouse import AsyncScorehouse, FilePart, Retries, Scorehouse, ScorehouseError
from shared.results import BatchLine, ResultKind, StoreStatus
from shared.submission import Envelope
from tests.api.conftest import serve

ENVELOPE = Envelope(
    run_id="live", benchmark_name="mmlu", timestamp="2024-01-01T12:00:00Z", model_id="gpt-4", source="tests"
)
MakeResult = Callable[..., dict[str, Any]]


@pytest.fixture
async def url(mongo_url: str, mongo_database: str) -> AsyncIterator[str]:
    """A results service that takes few lines and little in one body."""
    settings = ResultsSettings(
        mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled", max_batch_lines=20, max_line_bytes=50_000
    )
    async with serve(create_app(settings)) as address:
        yield address


@pytest.fixture
async def house(url: str) -> AsyncIterator[AsyncScorehouse]:
    async with AsyncScorehouse(url, retries=Retries(patience_s=0)) as awaited:
        yield awaited


async def push_all(house: AsyncScorehouse, *documents: bytes | FilePart) -> list[BatchLine]:
    return [line async for line in house.push_batch(ResultKind.STANDARDIZED, documents)]


async def test_a_batch_is_stored_whatever_the_services_limits_are(
    house: AsyncScorehouse, make_result: MakeResult, tmp_path: Path
) -> None:
    large = json.dumps(make_result(run_id="large", data={"x": "y" * 60_000})).encode()
    file = tmp_path / "streamed.json"
    file.write_bytes(json.dumps(make_result(run_id="streamed", data={"x": "y" * 5_000_000})).encode())
    documents: list[bytes | FilePart] = [json.dumps(make_result(run_id=f"r{n}")).encode() for n in range(30)]
    documents[3] = b"{"
    documents[4] = json.dumps(make_result(run_id="r2", model_id="other")).encode()
    documents[5] = large
    documents += [json.dumps(make_result(run_id="pretty"), indent=1).encode(), FilePart(file, 0)]
    lines = await push_all(house, *documents)
    assert sorted(line.line for line in lines) == list(range(1, 33))
    statuses = {line.line: line.status for line in lines if line.status is not StoreStatus.CREATED}
    assert statuses == {4: StoreStatus.REFUSED, 5: StoreStatus.CONFLICT}
    assert {line.line: line.problem.status for line in lines if line.problem} == {4: 400, 5: 409}
    again = await push_all(house, *documents)
    assert {line.status for line in again if not line.problem} == {StoreStatus.UNCHANGED}
    assert len((await house.get_result("2024-01-01T12:00:00Z-mmlu-streamed")).data) == 5_000_009


async def test_the_blocking_client_pushes_the_same(url: str, make_result: MakeResult) -> None:
    documents = [json.dumps(make_result(run_id=f"r{n}")).encode() for n in range(30)]

    def push() -> list[BatchLine]:
        with Scorehouse(url, retries=Retries(patience_s=0)) as blocking:
            return list(blocking.push_batch(ResultKind.RAW, documents))

    lines = await asyncio.to_thread(push)
    assert sorted(line.line for line in lines) == list(range(1, 31))
    assert {line.status for line in lines} == {StoreStatus.CREATED}


async def test_a_live_run_from_its_opening_to_its_result(house: AsyncScorehouse) -> None:
    live = await house.open_live_run(ENVELOPE)
    assert (await house.open_live_run(ENVELOPE)).unchanged
    await house.push_part(live.result_name, 2, b'[{"question_id": "b",  "score": 0}]')
    with pytest.raises(ScorehouseError, match="part") as caught:
        await house.finish_live_run(live.result_name, parts=2)
    assert caught.value.status == 409
    await house.push_part(live.result_name, 1, b'[{"question_id": "a", "score": 1.0}]')
    assert (await house.push_part(live.result_name, 1, b'[{"question_id": "a", "score": 1.0}]')).unchanged
    finished = await house.finish_live_run(live.result_name, parts=2)
    assert (finished.state, finished.questions) == ("finished", 2)
    assert await house.finish_live_run(live.result_name, parts=2) == finished
    data = (await house.get_result(finished.result_name)).data
    assert data == b'{"questions":[{"question_id": "a", "score": 1.0},{"question_id": "b",  "score": 0}]}'


async def test_a_live_run_is_discarded(house: AsyncScorehouse) -> None:
    live = await house.open_live_run(ENVELOPE)
    assert (await house.discard_live_run(live.result_name, "ada", "the node was lost")).state == "discarded"


async def test_a_result_is_invalidated_and_restored(house: AsyncScorehouse, make_result: MakeResult) -> None:
    name = (await house.push_standardized(json.dumps(make_result()).encode())).result_name
    assert (await house.invalidate(name, "ada", "wrong key")).state == "invalidated"
    assert (await house.invalidate(name, "ada", "wrong key")).unchanged
    restored = await house.restore(name, "ada", "it was right")
    assert [(entry.action, entry.reason) for entry in restored.history] == [
        ("invalidated", "wrong key"),
        ("restored", "it was right"),
    ]


async def test_the_guides_examples_run(url: str, make_result: MakeResult, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(make_result(run_id="one")), encoding="utf-8")
    (tmp_path / "results" / "two.json").write_text(json.dumps(make_result(run_id="two")), encoding="utf-8")
    guide = (Path(__file__).parents[2] / "docs" / "pushing.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", example),
            cwd=tmp_path,
            env={**os.environ, "SCOREHOUSE_RESULTS_URL": url},
            stdout=PIPE,
            stderr=STDOUT,
        )
        shown, _ = await running.communicate()
        assert (running.returncode, shown) == (0, b"")
    async with AsyncScorehouse(url) as house:
        stored = {item.run_id async for item in house.list_results()}
    assert stored == {"one", "two", "run-7"}

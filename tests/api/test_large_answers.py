"""Answers about very many questions: few are made at a time, whatever is asked."""

import asyncio
from typing import Any

import pytest

from analysis_service import large_answers
from analysis_service.group_by import analyze
from analysis_service.reader import Reader
from tests.api.conftest import Stack, until

MODELS = ["gpt-4", "gpt-4o"]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/analysis", {"benchmark": "mmlu-redux", "level1": "subject", "statistics": True}),
    ("/comparison", {"benchmark": "mmlu-redux", "models": MODELS, "draws": 0}),
    ("/significance", {"benchmarks": ["mmlu-redux"], "candidate": {"model": "gpt-4"}, "baseline": {"model": "gpt-4o"}}),
    ("/timeseries", {"benchmark": "mmlu-redux", "models": MODELS}),
    ("/repeats", {"benchmark": "mmlu-redux", "models": MODELS}),
]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_large_answers_wait_for_a_place_without_a_connection(
    sample_stack: Stack, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    reader: Reader = sample_stack.app.state.reader
    large = body | {"confidence": 0.87}  # which no other test asks for: what is kept needs no place
    monkeypatch.setattr(large_answers, "LARGE_ANSWERS", 1)
    monkeypatch.setattr(analyze, "LARGE_ROWS", 1)
    while not reader.large_answers.locked():
        await reader.large_answers.acquire()
    with monkeypatch.context() as hurried:
        hurried.setattr(reader, "plan_timeout_s", 0.1)
        refused = await sample_stack.analysis.post(path, json=large)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "Other answers about this much are being made" in refused.json()["detail"]
    waiting = asyncio.create_task(sample_stack.analysis.post(path, json=large))

    async def waits() -> bool:
        return bool(reader.large_answers._waiters) and not reader.database.pool_state().in_use  # noqa: SLF001

    await until(waits)
    for _ in range(2):
        reader.large_answers.release()
    answer = await waiting
    assert answer.status_code == 200, answer.text
    for _ in range(2):
        await asyncio.wait_for(reader.large_answers.acquire(), timeout=1)
    for _ in range(2):
        reader.large_answers.release()
    assert reader.large_answers._value == 2, "places are given back once"  # noqa: SLF001

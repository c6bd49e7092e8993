"""Answers that take seconds to compute do not hold up the others."""

import asyncio
from threading import Event

import pytest

from analysis_service.reader import LONG_AT_ONCE
from tests.api.conftest import Stack

ASKED = {"benchmark": "mmlu-redux", "models": ["gpt-4", "gpt-4o"]}


async def test_short_answers_pass_long_ones(sample_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis_service.comparison.compare.STEPS_LONG", 1_000)
    threads, done = sample_stack.app.state.reader.long_work, Event()
    try:
        for _ in range(LONG_AT_ONCE):
            threads.submit(done.wait, 60)
        long = asyncio.create_task(sample_stack.analysis.post("/comparison", json=ASKED | {"draws": 2000, "seed": 77}))
        for seed in range(20):
            short = await sample_stack.analysis.post("/comparison", json=ASKED | {"draws": 0, "seed": seed})
            assert short.status_code == 200, short.text
        assert not long.done()
    finally:
        done.set()
    assert (await long).status_code == 200


async def test_long_answers_wait_only_so_long(sample_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis_service.comparison.compare.STEPS_LONG", 1_000)
    reader, done = sample_stack.app.state.reader, Event()
    monkeypatch.setattr(reader, "plan_timeout_s", 0.5)
    try:
        for _ in range(LONG_AT_ONCE):
            reader.long_work.submit(done.wait, 60)
        told = await sample_stack.analysis.post("/comparison", json=ASKED | {"draws": 2000, "seed": 78})
    finally:
        done.set()
    assert told.status_code == 504, told.text

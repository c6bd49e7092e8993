"""Both services together: results over real HTTP, the analysis in process over SQLite."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from analysis_service.app import create_app as create_analysis
from analysis_service.settings import AnalysisSettings
from results_service.app import create_app as create_results
from results_service.settings import ResultsSettings
from scorehouse.sample import sample_documents


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[str]:
    """`app` under uvicorn on a free port; its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    task = asyncio.create_task(server.serve())
    await until(lambda: _true(server.started or task.done()))
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


async def _true(value: object) -> bool:
    return bool(value)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Stack:
    """A results service and an analysis service that follows it."""

    results: httpx.AsyncClient
    analysis: httpx.AsyncClient
    app: FastAPI
    """The analysis service."""

    async def push(self, *documents: dict[str, Any]) -> None:
        """Push documents and wait until they are applied."""
        for document in documents:
            response = await self.results.post("/standardized_output", content=json.dumps(document))
            assert response.status_code in (200, 201), response.text
        await self.settle()

    async def settle(self) -> None:
        """Wait until the analysis has applied the whole feed."""
        head = (await self.results.get("/health")).json()["feed_head"]

        async def applied() -> bool:
            return bool((await self.analysis.get("/health")).json()["feed"]["position"] == head)

        await until(applied)

    async def analyze(self, **request: Any) -> httpx.Response:
        """POST /analysis."""
        return await self.analysis.post("/analysis", json=request)


@asynccontextmanager
async def run_stack(mongo_url: str, mongo_database: str, sqlite: Path, **changes: Any) -> AsyncIterator[Stack]:
    """A stack on a database of its own; `changes` are settings of the analysis service."""
    settings = ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled")
    async with serve(create_results(settings)) as results_url:
        defaults: dict[str, Any] = {
            "auth": "disabled",
            "analysis_store": "sqlite",
            "sqlite_path": sqlite,
            "results_url": results_url,
        }
        app = create_analysis(AnalysisSettings(**(defaults | changes)))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(base_url=results_url) as results,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as analysis,
        ):
            yield Stack(results, analysis, app)


@pytest.fixture
async def stack(mongo_url: str, mongo_database: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """An empty stack."""
    async with run_stack(mongo_url, mongo_database, tmp_path / "analysis.sqlite") as running:
        yield running


@pytest.fixture(scope="session")
async def sample_stack(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack with the synthetic sample; only for tests that change nothing."""
    file = tmp_path_factory.mktemp("sample") / "analysis.sqlite"
    async with run_stack(mongo_url, "sample", file) as running:
        await running.push(*sample_documents())
        yield running

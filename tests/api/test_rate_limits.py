"""Rate limits and API keys on a running results service, the limits' store being a real MongoDB that goes away."""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from scorehouse.cli import app as command
from shared import rate_limits
from shared.problems import TooManyRequests
from shared.process import StartFailed
from shared.rate_limits import open_rate_limits
from tests.api.conftest import serve, until
from tests.conftest import Mongod, ResultsUnderTest, StartResults

MakeResult = Callable[..., dict[str, Any]]


async def push(running: ResultsUnderTest, document: dict[str, Any], token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await running.client.post("/raw_input", content=json.dumps(document), headers=headers)


def keys_file(folder: Path, **scopes: str) -> Path:
    """A key file; each key is its id."""
    file = folder / "keys.toml"
    entry = '[[keys]]\nid = "{0}"\nsha256 = "{1}"\nscopes = ["{2}"]\n'
    file.write_text(
        "".join(entry.format(key, sha256(key.encode()).hexdigest(), scope) for key, scope in scopes.items())
    )
    return file


async def test_writes_beyond_the_limit_are_429(start_results: StartResults, make_result: MakeResult) -> None:
    async with start_results(rate_limit_writes="3/hour") as running:
        answers = [await push(running, make_result(run_id=f"r{number}")) for number in range(5)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
        refused = answers[-1]
        assert refused.json()["type"] == "urn:scorehouse:problem:too-many-requests"
        assert "RATE_LIMIT_WRITES" in refused.json()["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert (await running.client.get("/raw_input")).status_code == 200  # reads have no limit here
        assert running.stored()["raw_input"] == 3


async def test_reads_beyond_the_limit_are_429_and_health_and_docs_are_not(start_results: StartResults) -> None:
    async with start_results(rate_limit_reads="2/hour") as running:
        assert [(await running.client.get("/raw_input")).status_code for _ in range(3)] == [200, 200, 429]
        for path in ("/health", "/docs", "/openapi.json"):
            assert (await running.client.get(path)).status_code == 200


async def test_each_key_has_its_own_count(start_results: StartResults, tmp_path: Path) -> None:
    file = keys_file(tmp_path, one="results:read", two="results:read", three="analysis:read")
    async with start_results(auth="keys", api_keys_file=file, rate_limit_reads="2/hour") as running:

        async def get(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return (await running.client.get("/raw_input", headers=headers)).status_code

        assert [await get(key) for key in ("one", "two", "one", "two", "one", "two")] == [200] * 4 + [429] * 2
        assert [await get(key) for key in ("three", "nobody")] == [403, 401]  # refused before it is counted


async def test_each_address_has_its_own_count_where_keys_are_disabled(start_results: StartResults) -> None:
    async with start_results(rate_limit_reads="1/hour") as running:

        async def get(address: str) -> int:
            transport = httpx.ASGITransport(running.app, client=(address, 5000))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return (await client.get("/raw_input")).status_code

        addresses = ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        assert [await get(address) for address in addresses] == [200, 200, 429]


async def test_the_limit_holds_for_requests_at_once(start_results: StartResults) -> None:
    async with start_results(rate_limit_reads="10/hour") as running:
        answers = await asyncio.gather(*(running.client.get("/raw_input") for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 20


async def test_instances_share_a_store(own_mongod: Mongod) -> None:
    url = f"async+{own_mongod.url}"
    async with (
        open_rate_limits(url, reads="3/hour", writes=None) as first,
        open_rate_limits(own_mongod.url, reads="3/hour", writes=None) as second,
    ):
        assert first is not None
        assert second is not None
        for limits in (first, second, first):
            await limits.count("somebody", writes=False)
        for limits in (first, second):
            with pytest.raises(TooManyRequests):
                await limits.count("somebody", writes=False)
            await limits.count("somebody else", writes=False)


async def test_without_the_store_writes_are_refused_and_reads_pass(
    start_results: StartResults, make_result: MakeResult, own_mongod: Mongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(rate_limits, "_AWAY_S", 0.001)  # so that each request asks the store
    limits = {"rate_limit_reads": "9999/hour", "rate_limit_writes": "9999/hour", "rate_limit_store": own_mongod.url}
    async with start_results(**limits) as running:
        assert (await push(running, make_result(run_id="before"))).status_code == 201
        own_mongod.stop()
        with capture_logs() as lines:
            for _ in range(5):
                assert (await running.client.get("/raw_input")).status_code == 200
            refused = await push(running, make_result(run_id="during"))
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:scorehouse:problem:store-unavailable"
        assert "RATE_LIMIT_STORE" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert running.stored()["raw_input"] == 1
        assert (await running.client.get("/health")).status_code == 200
        assert sum("store of the rate limits" in line["event"] for line in lines) == 1
        own_mongod.start()

        async def is_back() -> bool:
            return (await push(running, make_result(run_id="after"))).status_code == 201

        await until(is_back)


async def test_a_store_that_is_away_is_not_waited_for_each_time(
    own_mongod: Mongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(rate_limits, "_AWAY_S", 60)
    async with open_rate_limits(own_mongod.url, reads="9/hour", writes=None) as limits:
        assert limits is not None
        own_mongod.stop()
        async with asyncio.timeout(3):
            for _ in range(100):
                await limits.count("somebody", writes=False)


@pytest.mark.parametrize("url", ["nonsense", "async+ftp://user:secret@host", "mongodb://user:secret@[::"])
async def test_a_store_that_is_none_ends_the_start(start_results: StartResults, url: str) -> None:
    with pytest.raises(StartFailed, match="RATE_LIMIT_STORE") as caught:
        async with start_results(rate_limit_reads="1/hour", rate_limit_store=url):
            pass
    assert "secret" not in str(caught.value)


async def test_keys_are_made_and_revoked_while_the_service_runs(
    start_results: StartResults, make_result: MakeResult, tmp_path: Path
) -> None:
    file = keys_file(tmp_path, first="admin")

    def keys(*arguments: str) -> str:
        done = CliRunner().invoke(command, ["keys", *arguments, "--file", str(file)])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    async with start_results(auth="keys", api_keys_file=file) as running, serve(running.app) as url:
        token = keys("create", "runner", "--scope", "results:write")
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:

            async def status() -> int:
                return (await client.post("/raw_input", json=make_result())).status_code

            async def is_let_in() -> bool:
                return await status() in (200, 201)

            async def is_refused() -> bool:
                return await status() == 401

            await until(is_let_in, timeout_s=5)
            assert (await client.get("/raw_input")).status_code == 403
            keys("revoke", "runner")
            await until(is_refused, timeout_s=5)

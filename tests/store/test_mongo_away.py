"""MongoDB away, at start and while the service runs; how the process begins and ends under uvicorn."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.conftest import Mongod, StartResults

MakeResult = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_away_while_running(start_results: "StartResults", make_result: MakeResult, own_mongod: "Mongod") -> None:
    async with start_results(mongo_url=own_mongod.url, mongo_timeout_s=1) as running:
        stored = (await running.client.post("/standardized_output", json=make_result())).json()
        own_mongod.stop()
        began = time.monotonic()
        new = make_result(run_id="while-away")
        answers = await asyncio.gather(
            running.client.get("/health"),
            running.client.get("/raw_input"),
            running.client.get(f"/standardized_output/{stored['result_name']}"),
            running.client.get("/feed", params={"wait_s": 20}),
            # more than Motor has threads, so some wait for one
            *(running.client.post("/standardized_output", json=new) for _ in range(60)),
        )
        took = time.monotonic() - began
        for answer in answers:
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        health, *others = [answer.json() for answer in answers]
        assert health["store"]["reachable"] is False
        assert (health["status"], health["feed_head"]) == ("unavailable", None)
        for problem in others:
            assert problem["type"] == "urn:scorehouse:problem:store-unavailable"
            assert str(own_mongod.port) not in problem["detail"]
        assert took < 10  # of one second each, not of one after the other

        own_mongod.start()
        async with asyncio.timeout(15):
            answer = answers[0]
            while answer.status_code == 503:  # each try lasts as long as MongoDB stays away
                answer = await running.client.post("/standardized_output", json=new)
        assert answer.status_code in (200, 201)  # 200 if one of the sixty got as far as the envelope
        feed = await running.client.get("/feed")
        assert len(feed.text.splitlines()) == 2
        assert (await running.client.get("/health")).status_code == 200


@pytest.fixture
def start_service() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the service as a process; ends what is left of it."""
    processes: list[subprocess.Popen[str]] = []

    def start(port: int, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "uvicorn", "results_service.main:app", "--port", str(port)]
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=inherited | {"AUTH": "disabled"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


Start = Callable[..., "subprocess.Popen[str]"]


def test_away_at_start(start_service: Start) -> None:
    store = free_port()
    url = f"mongodb://someone:secret-word@127.0.0.1:{store}/"
    process = start_service(free_port(), MONGO_URL=url, MONGO_TIMEOUT_S="0.3", START_TIMEOUT_S="1.5")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "trying again" in output
    assert f"MongoDB at 127.0.0.1:{store} did not answer within 1.5 s" in output
    assert "Traceback" not in output
    assert "secret-word" not in output


def test_comes_while_the_service_starts(start_service: Start, own_mongod: "Mongod") -> None:
    own_mongod.stop()
    port = free_port()
    process = start_service(port, MONGO_URL=own_mongod.url, MONGO_TIMEOUT_S="1")
    assert process.stdout is not None
    while "trying again" not in (line := process.stdout.readline()):
        assert line
    own_mongod.start()
    wait_until_healthy(port, process)


def wait_until_healthy(port: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stops_at_once_though_someone_polls(start_service: Start, mongo_url: str, mongo_database: str) -> None:
    port = free_port()
    process = start_service(port, MONGO_URL=mongo_url, MONGO_DATABASE=mongo_database)
    wait_until_healthy(port, process)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client, client.stream("GET", "/health"):
        pass
    poll = f"GET /feed?wait_s=30 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(poll)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "MONGO_URL: is required"),
        ({"MONGO_URL": "http://x"}, "MONGO_URL cannot be used"),
        ({"MONGO_URL": "mongodb://x", "AUTH": "keys"}, "set API_KEYS_FILE"),
        ({"MONGO_URL": "mongodb://x", "AUTH": "keys", "API_KEYS_FILE": "/nowhere/keys.toml"}, "/nowhere/keys.toml"),
        ({"MONGO_URL": "mongodb://x", "SCOREHOUSE_REGISTRY_DIR": "/nowhere"}, "/nowhere"),
        ({"MONGO_URL": "mongodb://x", "ENVIRONMENT": "production"}, "AUTH=disabled is refused"),
        ({"MONGO_URL": "mongodb://x", "MAX_BODY_BYTES": "-1"}, "MAX_BODY_BYTES"),
    ],
)
def test_wrong_settings(start_service: Start, environment: dict[str, str], said: str) -> None:
    process = start_service(free_port(), **environment)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said in output
    assert "Traceback" not in output

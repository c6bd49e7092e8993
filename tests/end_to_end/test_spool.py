"""A push whose service is killed in the middle and comes back: everything is stored once. `pytest -s` shows it all."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest
from pymongo.database import Database

from scorehouse import Scorehouse

LIMIT_S = 60
DOCUMENTS = 300


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for: {what}"
        time.sleep(0.005)


class Service:
    """The results service as a process that can be killed and started again on its port."""

    def __init__(self, mongo_url: str, database: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._environment = {**os.environ, "MONGO_URL": mongo_url, "MONGO_DATABASE": database, "AUTH": "disabled"}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "results_service.main:app", "--port", str(self.port)]
        with (self._folder / "service.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

        def answers() -> bool:
            try:
                return httpx.get(f"{self.url}/health", trust_env=False).is_success
            except httpx.TransportError:
                return False

        wait_for(answers, "the service to answer")
        print(f"# the results service runs, pid {self._process.pid}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            print(f"# kill -9 {self._process.pid}")
            self._process = None


@pytest.fixture
def service(mongo_url: str, mongo_database: str, tmp_path: Path) -> Iterator[Service]:
    running = Service(mongo_url, mongo_database, tmp_path)
    running.start()
    yield running
    running.kill()


class Command:
    """One `scorehouse` command at work; what it prints is shown when it ends."""

    def __init__(self, service: Service, spool: Path, *words: str) -> None:
        print(f"$ scorehouse {' '.join(words)}")
        environment = {**os.environ, "SCOREHOUSE_RESULTS_URL": service.url, "SCOREHOUSE_SPOOL_DIR": str(spool)}
        command = [sys.executable, "-m", "scorehouse", *words]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def end(self) -> tuple[int, str]:
        shown, _ = self.process.communicate(timeout=LIMIT_S)
        lines = shown.splitlines()
        print(*(lines if len(lines) < 9 else [*lines[:3], "…", lines[-1]]), sep="\n")
        print(f"# exit code {self.process.returncode}")
        return self.process.returncode, shown


def write_runs(file: Path, name: str, *, indent: int | None) -> dict[str, str]:
    """A file of documents; result name → SHA-256 of the bytes of its data."""
    expected = {}
    texts = []
    for number in range(DOCUMENTS):
        questions = [{"question_id": f"q{index}", "score": (index * number) % 2, "answer": "B"} for index in range(200)]
        data = json.dumps({"questions": questions}, indent=indent)
        run_id = f"{name}-{number}"
        head = {"run_id": run_id, "benchmark_name": "mmlu", "timestamp": "2024-01-01T12:00:00Z"}
        head |= {"model_id": "gpt-4", "source": "spool"}
        texts.append(json.dumps(head)[:-1] + f', "data": {data}}}')
        expected[f"2024-01-01T12:00:00Z-mmlu-{run_id}"] = sha256(data.encode()).hexdigest()
    file.write_text(f"[{','.join(texts)}]" if indent else "\n".join(texts), encoding="utf-8")
    return expected


# Small documents go in batches, pretty-printed ones alone: both ways lose their service in the middle.
@pytest.mark.parametrize("indent", [None, 1], ids=["batches", "alone"])
def test_a_spooled_push_across_a_restart_stores_everything_once(
    service: Service,
    mongo_client: "pymongo.MongoClient[dict[str, Any]]",
    mongo_database: str,
    tmp_path: Path,
    indent: int | None,
) -> None:
    database = mongo_client[mongo_database]
    spool = tmp_path / "spool"
    ending = "json" if indent else "ndjson"
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    expected = write_runs(first, "first", indent=indent)

    def stored() -> int:
        return database["standardized_output"].count_documents({})

    def stop_in_the_middle(at_least: int) -> None:
        wait_for(lambda: stored() >= at_least, "the push to be in the middle")
        service.kill()

    print("\n# 1. The service is killed in the middle of a push and stays away: the rest goes to the spool.")
    push = Command(service, spool, "push", str(first), "--spool", "--patience", "1", "--jobs", "1")
    stop_in_the_middle(50)
    in_time = stored()
    print(f"# {in_time} of {DOCUMENTS} stored")
    assert in_time < DOCUMENTS
    code, shown = push.end()
    assert code == 0
    assert "trying again for up to 1 s" in shown
    code, shown = Command(service, spool, "spool", "list").end()
    waiting = int(shown.splitlines()[-1].split()[0])
    # What was stored without an acknowledgement is spooled too: it will answer 'unchanged'.
    assert DOCUMENTS - in_time <= waiting <= DOCUMENTS

    print("# 2. It is back. The next push sends what waits first; killed again, and started again at once.")
    service.start()
    expected |= write_runs(second, "second", indent=indent)
    push = Command(service, spool, "push", str(second), "--spool", "--jobs", "1")
    stop_in_the_middle(DOCUMENTS + 50)
    print(f"# {stored()} of {2 * DOCUMENTS} stored")
    service.start()
    code, shown = push.end()
    assert code == 0
    assert "from the spool" in shown
    assert "the service answers again" in shown
    assert Command(service, spool, "spool", "flush").end()[0] == 0

    print("# 3. Everything is there once, byte for byte, and once in the feed.")
    check_stored_once(service, database, expected)


def check_stored_once(service: Service, database: "Database[dict[str, Any]]", expected: dict[str, str]) -> None:
    found = list(database["standardized_output"].find({}, {"sha256": 1}))
    with Scorehouse(service.url) as house:
        returned = {name: sha256(house.get_result(name).data).hexdigest() for name in expected}
    feed = httpx.get(f"{service.url}/feed?limit=1000", trust_env=False).text
    entries = [json.loads(line)["result_name"] for line in feed.splitlines()]
    assert returned == expected
    assert len(found) == len(expected)
    assert sorted(entry["sha256"] for entry in found) == sorted(expected.values())
    assert sorted(entries) == sorted(expected)
    print(f"# stored: {len(found)}, equal in their bytes: {len(returned)}, in the feed: {len(entries)}")


def test_pushers_share_a_spool_and_may_be_killed(
    service: Service, mongo_client: "pymongo.MongoClient[dict[str, Any]]", mongo_database: str, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    files = tmp_path / "first.ndjson", tmp_path / "second.ndjson"
    expected = write_runs(files[0], "first", indent=None) | write_runs(files[1], "second", indent=None)
    service.kill()

    def spooled() -> int:
        return len(list(spool.glob("*/standardized_output-*.json")))

    pushes = [Command(service, spool, "push", str(file), "--spool", "--patience", "0") for file in files]
    wait_for(lambda: spooled() >= DOCUMENTS // 2, "half of a file to be spooled")
    pushes[0].process.kill()
    pushes[0].end()
    assert pushes[1].end()[0] == 0
    assert spooled() < 2 * DOCUMENTS
    assert Command(service, spool, "push", str(files[0]), "--spool", "--patience", "0").end()[0] == 0
    assert spooled() == 2 * DOCUMENTS

    service.start()
    flushes = [Command(service, spool, "spool", "flush") for _ in range(2)]
    wait_for(lambda: spooled() < 2 * DOCUMENTS, "a flush to be in the middle")
    for flush in flushes:
        flush.process.kill()
        flush.end()
    assert Command(service, spool, "spool", "flush").end()[0] == 0
    assert spooled() == 0
    check_stored_once(service, mongo_client[mongo_database], expected)

"""Disks that are full: what is answered meanwhile, that nothing half-written is left, and that all goes on afterwards.

Both servers end themselves when they cannot write, so their services answer 503 as for any store that is away; whoever
supervises a server starts it again.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.faults.fleet import (
    Member,
    free_port,
    mariadb_member,
    mariadbd,
    mongo_url,
    mongod_member,
    service_member,
    wait_until,
)
from tests.faults.workload import Document, make_document
from tests.sql_servers import missing

SmallDisk = Callable[[str, int], Path]
Running = Callable[[Member], Member]
SEED = "disk full"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Makes a folder that has so many megabytes."""
    with ExitStack() as stack:

        def make(name: str, megabytes: int) -> Path:
            folder = tmp_path / name
            folder.mkdir()
            mounted = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
            if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode != 0:
                missing("a small disk is a tmpfs, which only root may mount, and not in every container")
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield make


@pytest.fixture
def running() -> Iterator[Running]:
    """Starts a member and waits until it is ready; all are gone at the end."""
    with ExitStack() as stack:

        def run(member: Member) -> Member:
            stack.callback(member.stop)
            member.start()
            wait_until(member.is_ready, f"{member.name} is ready")
            return member

        yield run


def fill(folder: Path, *, leave_mb: int) -> Path:
    """A file that takes all but so many megabytes of a disk."""
    disk = os.statvfs(folder)
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        for _ in range(disk.f_bavail * disk.f_bsize // 2**20 - leave_mb):
            stream.write(bytes(2**20))
    return ballast


def restart_if_ended(member: Member) -> None:
    """What a supervisor does, also where the member only now finds that it cannot go on."""

    def is_back() -> bool:
        if not member.runs:
            member.start()
        return member.is_ready()

    wait_until(is_back, f"{member.name} is back")


def push(url: str, document: Document) -> httpx.Response:
    return httpx.post(f"{url}/{document.kind}", content=document.body, timeout=30, trust_env=False)


def listed(url: str, kind: str) -> dict[str, dict[str, Any]]:
    page = httpx.get(f"{url}/{kind}", params={"limit": 1000}, trust_env=False).json()
    assert page["next_cursor"] is None
    return {item["result_name"]: item for item in page["items"]}


def large(number: int) -> Document:
    """A raw input of half a megabyte that hardly compresses."""
    document = make_document(f"{SEED}/{number}", kind="raw_input")
    data = b'{"text": "' + Random(number).randbytes(250_000).hex().encode() + b'"}'
    body = document.body.removesuffix(document.data + b"}") + data + b"}"
    return Document(document.kind, document.name, document.model, body, data, ())


def test_mongodb(small_disk: SmallDisk, running: Running, tmp_path: Path) -> None:
    disk = small_disk("mongod", 400)
    port, results_port = free_port(), free_port()
    mongod = running(mongod_member(disk, port))
    settings = {"MONGO_URL": mongo_url(port, replica_set=True), "MONGO_TIMEOUT_S": "2"}
    running(service_member("results-0", tmp_path / "results", results_port, settings))
    url = f"http://127.0.0.1:{results_port}"
    ballast = fill(disk, leave_mb=16)
    acknowledged = []
    for number in range(400):
        document = large(number)
        answer = push(url, document)
        if answer.status_code != 201:
            break
        acknowledged.append(document)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["type"] == "urn:scorehouse:problem:store-unavailable"
    assert str(disk) not in answer.text

    ballast.unlink()
    restart_if_ended(mongod)
    stored = listed(url, "raw_input")
    assert {one.name for one in acknowledged} <= set(stored) <= {one.name for one in [*acknowledged, document]}
    wait_until(lambda: push(url, document).status_code in (200, 201), "it takes results again")
    for one in [*acknowledged, document]:
        assert httpx.get(url + one.path, trust_env=False).content.endswith(b'"data":' + one.data + b"}")
    assert len(listed(url, "raw_input")) == len(acknowledged) + 1


def with_answers(number: int) -> Document:
    """A standardized result of 2,000 answers of a kilobyte that hardly compress."""
    random = Random(number)
    document = make_document(f"{SEED}/{number}")
    questions = ",".join(
        f'{{"question_id":"{number}/{index}","score":1,"answer":"{random.randbytes(500).hex()}"}}'
        for index in range(2000)
    )
    data = b'{"questions": [' + questions.encode() + b"]}"
    body = document.body.removesuffix(document.data + b"}") + data + b"}"
    return Document(document.kind, document.name, document.model, body, data, ())


@pytest.mark.parametrize("engine", ["mariadb", "sqlite"])
def test_sql(engine: str, small_disk: SmallDisk, running: Running, tmp_path: Path) -> None:
    if engine == "mariadb" and mariadbd() is None:
        missing("no MariaDB: install Debian's mariadb-server-core and mariadb-client-core")
    disk = small_disk("sql", 300 if engine == "mariadb" else 100)
    mongo_port, sql_port, results_port, analysis_port = (free_port() for _ in range(4))
    running(mongod_member(tmp_path / "mongod", mongo_port))
    settings = {"MONGO_URL": mongo_url(mongo_port, replica_set=True)}
    running(service_member("results-0", tmp_path / "results", results_port, settings))
    url, analysis_url = f"http://127.0.0.1:{results_port}", f"http://127.0.0.1:{analysis_port}"
    settings = {"RESULTS_URL": url, "SQLITE_PATH": str(disk / "analysis.sqlite")}
    sql = None
    if engine == "mariadb":
        sql = running(mariadb_member(disk, sql_port))
        settings = {"RESULTS_URL": url, "MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": str(sql_port)}
        settings["MYSQL_PASSWORD"] = "secret"
    analysis = running(service_member("analysis-0", tmp_path / "analysis", analysis_port, settings))
    ballast = fill(disk, leave_mb=8)
    names = set()
    for number in range(12):  # more than there is room for
        document = with_answers(number)
        names.add(document.name)
        assert push(url, document).status_code == 201  # the results have a disk of their own

    def told() -> bool:
        return "store unavailable while applying" in analysis.last_words()

    wait_until(told, "the analysis notices")
    assert analysis.runs

    ballast.unlink()
    if sql is not None:
        restart_if_ended(sql)
    question = {"benchmark": "math500", "level1": "run", "runs": "all"}

    def counted() -> dict[str, int]:
        answer = httpx.post(f"{analysis_url}/analysis", json=question, timeout=30, trust_env=False)
        return {row["run"]: row["n"] for row in answer.json().get("rows", [])}

    wait_until(lambda: len(counted()) == len(names), "all is applied")
    assert counted() == dict.fromkeys(names, 2000)

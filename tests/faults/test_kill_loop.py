"""The kill loop in short. `make faults` has the long one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.fleet import ROOT, mariadbd, wait_until
from tests.faults.kill_loop import run_kill_loop
from tests.sql_servers import missing

SEED = os.environ.get("FAULT_SEED", "ci")


@pytest.fixture(autouse=True)
def _has_mariadb() -> None:
    if mariadbd() is None:
        missing("no MariaDB: install Debian's mariadb-server-core and mariadb-client-core")


@pytest.mark.parametrize(("replica_set", "kills"), [(True, 8), (False, 4)], ids=["replica set", "standalone"])
def test_nothing_is_lost_and_nothing_twice(replica_set: bool, kills: int, tmp_path: Path) -> None:
    summary = run_kill_loop(kills, SEED, clients=3, replica_set=replica_set, folder=tmp_path)
    print(summary.table())
    assert summary.kills.total() == kills
    assert summary.acknowledged > 30
    assert summary.compared["runs applied"] > 20


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.kill_loop", "--kills", "1000", "--folder", str(tmp_path)]
    with (tmp_path / "output").open("wb") as output:
        loop = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_until(lambda: (tmp_path / "client-0" / "journal").exists() or loop.poll() is not None, "clients push")
        assert _running_in(tmp_path)
        loop.send_signal(signal.SIGINT)
        assert loop.wait(30) == 130, (tmp_path / "output").read_text()
    finally:
        loop.kill()
        loop.wait()
    assert _running_in(tmp_path) == []


def _running_in(folder: Path) -> list[str]:
    """The processes that have this folder as theirs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found

"""`scorehouse up --demo` as `make demo` runs it: without a terminal to its end, on a terminal until Ctrl-C."""

import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

LIMIT_S = 120


def demo_command(data_dir: Path) -> tuple[list[str], str]:
    """The command, and the address its analysis service will have."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        results, analysis = first.getsockname()[1], second.getsockname()[1]
    command = [sys.executable, "-m", "scorehouse", "up", "--demo", "--data-dir", str(data_dir)]
    command += ["--results-port", str(results), "--analysis-port", str(analysis)]
    return command, f"http://127.0.0.1:{analysis}"


def test_without_a_terminal_it_shows_a_first_answer_and_ends(tmp_path: Path) -> None:
    for counts in (r"(\d+) stored, 0 unchanged, 0 refused", r"0 stored, (\d+) unchanged, 0 refused"):
        command, analysis = demo_command(tmp_path / "data")
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        counted = re.search(counts, done.stdout)
        assert counted is not None
        assert int(counted[1]) >= 90
        assert_table(done.stdout)
        assert f"curl -s {analysis}/analysis" in done.stdout
        assert "scorehouse push" in done.stdout
        assert f"{analysis}/docs" in done.stdout
        assert "Start it again" in done.stdout


def assert_table(shown: str) -> None:
    """Fifteen models down, best first, scores across, and a title that says what they are worth."""
    assert "SYNTHETIC sample: mmlu-redux" in shown
    rows = re.findall(r"^ +([a-z]\S+)((?: +\d+\.\d)+) *\r?$", shown, re.MULTILINE)
    assert len(rows) == 15
    scores = [[float(score) for score in cells.split()] for _, cells in rows]
    assert {len(row) for row in scores} == {5}  # four categories, and all
    assert all(0 <= score <= 100 for row in scores for score in row)
    overall = [row[-1] for row in scores]
    assert overall == sorted(overall, reverse=True)
    assert all(min(row[:-1]) <= row[-1] <= max(row[:-1]) for row in scores)


def test_on_a_terminal_it_stays_up_and_its_curl_works_until_ctrl_c(tmp_path: Path) -> None:
    command, analysis = demo_command(tmp_path / "data")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        shown = read_until(ours, "Ctrl-C stops it.")
        assert "\x1b[" in shown
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert_table(plain)
        [curl] = [shlex.split(line) for line in plain.splitlines() if line.strip().startswith("curl ")]
        assert curl[:4] == ["curl", "-s", f"{analysis}/analysis", "-H"]
        header = dict([curl[4].split(": ")])
        answer = httpx.post(curl[2], content=curl[-1], headers=header, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.json()["group_by"] == ["model", "category", "subject"]
        assert json.loads(curl[-1])["models"] == [answer.json()["rows"][0]["model"]]
        process.send_signal(signal.SIGINT)
        read_until(ours, "stopped")
        assert process.wait(LIMIT_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def read_until(terminal: int, words: str) -> str:
    shown = ""
    deadline = time.monotonic() + LIMIT_S
    while words not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            try:
                shown += os.read(terminal, 65536).decode("utf-8", "replace")
            except OSError:  # the other side has closed it
                assert words in shown, shown
    return shown

"""`scorehouse up` with real processes: ready, told to stop, killed, or in someone's way. Nothing may stay behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

READY = "Ctrl-C stops it."
LIMIT_S = 60


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S} s for: {what}"
        time.sleep(0.02)


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def descendants(pid: int) -> dict[int, str]:
    """The command lines of all living children of a process, and theirs."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # gone meanwhile
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: command_line(child) for child in found - {pid}}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


class Up:
    """One `scorehouse up`: its process, what it prints, its addresses."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        ports: tuple[int, int] | None = None,
        path: str = "",
        folder: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.results_port, self.analysis_port = ports or free_ports()
        self._seen: dict[int, str] = {}
        self._out, self._err = data_dir.with_suffix(".out"), data_dir.with_suffix(".err")
        command = [sys.executable, "-P", "-m", "scorehouse", "up", "--data-dir", str(data_dir)]
        command += ["--results-port", str(self.results_port), "--analysis-port", str(self.analysis_port), *options]
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
        # As a stray setting of the user's would be: none of these may reach the services.
        environment |= {"MYSQL_HOST": "mysql.invalid", "ENVIRONMENT": "production", "WEB_CONCURRENCY": "3"}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_until(self, words: str) -> None:
        def seen() -> bool:
            assert words in self.out + self.err or self.process.poll() is None, self.out + self.err
            return words in self.out + self.err

        wait_for(seen, words)

    def children(self) -> dict[int, str]:
        self._seen |= (found := descendants(self.process.pid))
        return found

    def kill(self) -> None:
        """End it and whatever it should have ended."""
        self.children()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid, command in self._seen.items():
            if command_line(pid) == command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def child(self, part: str) -> int:
        [pid] = [pid for pid, command in self.children().items() if part in command]
        return pid

    def end(self) -> int:
        return self.process.wait(LIMIT_S)


@contextmanager
def up(
    data_dir: Path, *options: str, ports: tuple[int, int] | None = None, path: str = "", folder: Path | None = None
) -> Iterator[Up]:
    """Start `scorehouse up` in `folder`; whatever the test did, nothing of it runs afterwards."""
    running = Up(data_dir, *options, ports=ports, path=path, folder=folder)
    try:
        yield running
    finally:
        running.kill()


def assert_gone(children: dict[int, str]) -> None:
    """Each of these processes has ended; a zombie that nobody has collected yet has, too."""
    assert children

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_for(lambda: all(map(gone, children)), f"the end of {children}")


DOCUMENT = {
    "run_id": "r1",
    "benchmark_name": "aime",
    "timestamp": "2024-06-06T00:00:00Z",
    "model_id": "gpt-4",
    "source": "test",
    "data": {"questions": [{"question_id": "2024-I-1", "score": 1.0, "metadata": {"year": 2024}}]},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("up") / "data") as process:
        process.wait_until(READY)
        yield process


def test_it_tells_addresses_logs_and_that_keys_are_disabled(running: Up) -> None:
    assert f"http://127.0.0.1:{running.results_port}/docs" in running.out
    assert f"http://127.0.0.1:{running.analysis_port}/docs" in running.out
    assert str(running.data_dir / "logs") in running.out
    assert "AUTH=disabled" in running.out
    assert {log.name for log in (running.data_dir / "logs").iterdir()} == {
        "mongod.log",
        "results_service.log",
        "analysis_service.log",
    }
    assert "\x1b" not in running.out + running.err


def test_both_services_are_well_on_their_embedded_stores(running: Up) -> None:
    results = httpx.get(f"http://127.0.0.1:{running.results_port}/health", trust_env=False)
    analysis = httpx.get(f"http://127.0.0.1:{running.analysis_port}/health", trust_env=False)
    assert (results.status_code, analysis.status_code) == (200, 200)
    assert analysis.json()["store"]["engine"] == "sqlite"
    assert (running.data_dir / "analysis.sqlite").is_file()


def test_only_this_machine_can_reach_it(running: Up) -> None:
    listening = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address, _, state = line.split()[1:4]
        if state == "0A" and int(address.split(":")[1], 16) in (running.results_port, running.analysis_port):
            listening.append(address.split(":")[0])
    assert listening == ["0100007F", "0100007F"]


def test_a_second_up_on_the_directory_is_refused_with_the_holder(running: Up) -> None:
    second = Up(running.data_dir.parent / ".." / running.data_dir.parent.name / "data")
    assert second.end() == 1
    assert f"process {running.process.pid}" in second.err
    assert "--data-dir" in second.err
    assert running.process.poll() is None


@pytest.mark.parametrize("option", ["--results-port", "--analysis-port"])
def test_a_taken_port_is_refused_before_anything_starts(running: Up, tmp_path: Path, option: str) -> None:
    other = free_ports()[0]
    ports = (running.results_port, other) if option == "--results-port" else (other, running.results_port)
    with up(tmp_path / "data", ports=ports) as second:
        assert second.end() == 1
        assert f"port {running.results_port} on 127.0.0.1 is not free" in second.err
        assert option in second.err
        assert "starting" not in second.err


def test_push_stores_through_it_and_again_changes_nothing(running: Up, tmp_path: Path) -> None:
    file = tmp_path / "runs.ndjson"
    bad = {**DOCUMENT, "run_id": "r2", "data": {"questions": [{"question_id": "q", "score": 7}]}}
    file.write_text("\n".join(json.dumps(document) for document in (DOCUMENT, bad)))
    url = f"http://127.0.0.1:{running.results_port}"
    command = [sys.executable, "-m", "scorehouse", "push", str(file), "--url", url]
    for counts in ("1 stored, 0 unchanged, 1 refused", "0 stored, 1 unchanged, 1 refused"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, "")
        assert counts in done.stdout
        assert f"refused {file}:2\n    data.questions[0].score: 7 is outside" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with up(tmp_path / "data") as process:
        process.wait_until(READY)
        children = process.children()
        assert len(children) == 3
        process.process.send_signal(number)
        assert process.end() == 0
        assert_gone(children)
        assert "stopped" in process.err
        assert "Traceback" not in process.err


def test_a_hangup_while_starting_stops_what_has_started(tmp_path: Path) -> None:
    with up(tmp_path / "data") as process:
        process.wait_until("starting the results service")
        children = process.children()
        process.process.send_signal(signal.SIGHUP)
        assert process.end() == 0
        assert_gone(children)


@pytest.mark.parametrize(("part", "name"), [("mongod", "mongod"), ("results_service", "the results service")])
def test_the_death_of_a_part_stops_the_others_and_is_told(tmp_path: Path, part: str, name: str) -> None:
    with up(tmp_path / "data") as process:
        process.wait_until(READY)
        children = process.children()
        os.kill(process.child(part), signal.SIGKILL)
        assert process.end() == 1
        assert_gone(children)
        assert f"{name} ended by itself (killed by SIGKILL)" in process.err
        assert str(tmp_path / "data" / "logs" / part) in process.err


def test_nothing_survives_its_being_killed_and_the_next_start_has_everything(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with up(data_dir) as process:
        process.wait_until(READY)
        children = process.children()
        url = f"http://127.0.0.1:{process.results_port}/standardized_output"
        name = httpx.post(url, json=DOCUMENT, trust_env=False).raise_for_status().json()["result_name"]
        process.process.kill()
        process.end()
        assert_gone(children)
    with up(data_dir) as process:
        process.wait_until(READY)
        url = f"http://127.0.0.1:{process.results_port}/standardized_output/{name}"
        assert httpx.get(url, trust_env=False).status_code == 200
        assert "mongod.log.1" in {log.name for log in (data_dir / "logs").iterdir()}


def test_a_part_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """What Debian without libcurl4 does."""
    fake = tmp_path / "bin" / "mongod"
    fake.parent.mkdir()
    loader = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    fake.write_text(f"#!/bin/sh\necho '{loader}' >&2\nexit 127\n")
    fake.chmod(0o755)
    with up(tmp_path / "data", path=str(fake.parent)) as process:
        assert process.end() == 1
        assert "mongod ended by itself (exit code 127)" in process.err
        assert loader in process.err
        assert "apt-get install libcurl4" in process.err


def test_a_service_that_refuses_its_settings_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREHOUSE_REGISTRY_DIR", str(tmp_path / "absent"))
    with up(tmp_path / "data") as process:
        assert process.end() == 1
        assert "the results service ended by itself (exit code 1)" in process.err
        assert f"{tmp_path / 'absent'}: is not a folder" in process.err
        assert '{"' not in process.err  # what the log says, not its JSON


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "scorehouse", "up", "--data-dir", str(tmp_path / "file" / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "as data directory: Not a directory" in done.stderr


@pytest.mark.parametrize("name", ["logs", "mongodb"])
def test_a_file_in_the_way_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("")
    with up(tmp_path / "data") as process:
        assert process.end() == 1
        assert f"File exists ({tmp_path / 'data' / name}); choose --data-dir" in process.err
        assert "Traceback" not in process.err


def test_python_files_of_the_folder_it_is_started_in_are_left_alone(tmp_path: Path) -> None:
    """Many a project has a package `shared`, and many a folder a script named like a module of Python's."""
    folder = tmp_path / "project"
    (folder / "shared").mkdir(parents=True)
    (folder / "shared" / "__init__.py").write_text("")
    (folder / "calendar.py").write_text("raise SystemExit('the wrong calendar')")
    with up(tmp_path / "data", folder=folder) as process:
        process.wait_until(READY)


def test_it_outlives_the_reader_of_its_output(tmp_path: Path) -> None:
    """`scorehouse up | head -1`"""
    results, analysis = free_ports()
    command = [sys.executable, "-m", "scorehouse", "up", "--data-dir", str(tmp_path / "data")]
    command += ["--results-port", str(results), "--analysis-port", str(analysis)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.close()

        def answers() -> bool:
            assert process.poll() is None
            with suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{analysis}/health", trust_env=False).status_code == 200
            return False

        try:
            wait_for(answers, "the analysis service")
        finally:
            process.terminate()
            _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
        assert b"Traceback" not in err


def test_the_two_ports_must_differ(tmp_path: Path) -> None:
    port = free_ports()[0]
    with up(tmp_path / "data", ports=(port, port)) as process:
        assert process.end() == 1
        assert "two different ones" in process.err

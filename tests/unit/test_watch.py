"""`scorehouse watch`: what is finished, what is remembered, and that a look costs nothing where nothing changed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scorehouse.harness_outputs import Found
from scorehouse.retries import Retries
from scorehouse.watch import RETRY_S, Watched, memory_of
from scorehouse.watch_command import WatchOptions, run_watch
from shared.problems import InvalidRequest, Problem
from tests.harness_files import lm_eval_files, write_files
from tests.importing_service import importing

SETTLE_S, ABANDONED_S = 10, 600


def output(folder: Path, *scores: float) -> Path:
    return write_files(folder, lm_eval_files({"math_500": scores or (1.0, 0.0)}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def watched(folder: Path, tmp_path: Path) -> Watched:
    return again(folder, tmp_path)


def again(folder: Path, tmp_path: Path) -> Watched:
    """The watcher as it is after a start."""
    return Watched(folder, tmp_path / "state" / "memory.jsonl", SETTLE_S, ABANDONED_S)


def places(watched: Watched, now: float) -> list[str]:
    return [candidate.place.split("_2026")[0] for candidate in watched.finished(now)]


def push_all(watched: Watched, now: float, *, refused: bool = False) -> int:
    finished = watched.finished(now)
    for candidate in finished:
        watched.remember(candidate, refused=refused)
    return len(finished)


def test_an_output_is_finished_when_nothing_of_it_changed_for_a_while(folder: Path, watched: Watched) -> None:
    assert places(watched, 0) == []
    output(folder / "a")
    assert places(watched, 5) == []
    assert places(watched, 14.9) == []
    assert places(watched, 15) == ["out/a/results"]
    with next((folder / "a").glob("samples*")).open("ab") as more:
        more.write(b"\n")
    assert places(watched, 20) == []
    assert places(watched, 29) == []
    assert places(watched, 30) == ["out/a/results"]


def test_a_file_that_comes_late_belongs_to_its_output(folder: Path, watched: Watched) -> None:
    samples = next(output(folder / "a").glob("samples*"))
    content = samples.read_bytes()
    samples.unlink()
    assert places(watched, 0) == []
    samples.write_bytes(content)
    assert places(watched, 10) == []  # the results are old enough, their samples are not
    [one] = watched.finished(20)
    assert len(one.files) == 2


def test_what_was_pushed_comes_again_only_when_it_changes(folder: Path, watched: Watched, tmp_path: Path) -> None:
    output(folder / "a")
    output(folder / "b")
    watched.finished(0)
    assert push_all(watched, 10) == 2
    assert places(watched, 20) == []
    restarted = again(folder, tmp_path)
    restarted.finished(0)
    assert places(restarted, 10) == []
    output(folder / "b", 0.0, 0.0)
    assert places(restarted, 20) == []
    assert places(restarted, 30) == ["out/b/results"]


def test_a_kill_between_push_and_memory_pushes_once_more(folder: Path, watched: Watched, tmp_path: Path) -> None:
    output(folder / "a")
    watched.finished(0)
    assert len(watched.finished(10)) == 1  # pushed, and killed
    restarted = again(folder, tmp_path)
    restarted.finished(0)
    assert push_all(restarted, 10) == 1


def test_a_run_that_is_not_whole_is_waited_for_longer(
    folder: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def is_whole(_: object) -> bool:
        asked.append(1)
        return False

    monkeypatch.setattr("scorehouse.watch._is_whole", is_whole)
    output(folder / "a")
    watched.finished(0)
    assert places(watched, 10) == places(watched, 20) == places(watched, ABANDONED_S - 1) == []
    assert len(asked) == 1  # which may read a large file: once, as long as it is the same
    assert places(watched, ABANDONED_S) == ["out/a/results"]


def test_a_file_that_comes_just_before_a_run_is_given_up_belongs_to_it(
    folder: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorehouse.watch._is_whole", lambda _: False)
    samples = next(output(folder / "a").glob("samples*"))
    content = samples.read_bytes()
    samples.unlink()
    watched.finished(0)
    assert places(watched, SETTLE_S) == []
    samples.write_bytes(content)
    assert places(watched, ABANDONED_S - 1) == places(watched, ABANDONED_S) == []
    [one] = watched.finished(2 * ABANDONED_S - 1)
    assert len(one.files) == 2


def test_documents_are_watched_and_other_files_are_not(folder: Path, watched: Watched) -> None:
    (folder / "a.json").write_text('{"run_id": "r", "benchmark_name": "b"}')
    (folder / "config.json").write_text("{}")
    (folder / "notes.txt").write_text("x")
    watched.finished(0)
    [one] = watched.finished(10)
    assert (one.place, one.output) == ("out/a.json", None)


def test_a_folder_that_goes_and_comes_back(folder: Path, watched: Watched, tmp_path: Path) -> None:
    output(folder / "a")
    watched.finished(0)
    assert push_all(watched, 10) == 1
    folder.rename(tmp_path / "away")
    assert places(watched, 20) == []
    (tmp_path / "away").rename(folder)
    assert places(watched, 30) == places(watched, 40) == []  # as it was: its times say so
    shutil.rmtree(folder)
    assert places(watched, 50) == []


def test_an_output_that_is_removed_before_it_is_due(folder: Path, watched: Watched) -> None:
    output(folder / "a")
    output(folder / "b")
    watched.finished(0)
    shutil.rmtree(folder / "a")
    assert places(watched, 10) == ["out/b/results"]
    next((folder / "b").glob("results*")).unlink()
    assert places(watched, 20) == []


def test_a_look_opens_no_file_where_nothing_changed(
    folder: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        output(folder / str(number))
    output(folder / "going on")
    watched.finished(0)
    assert push_all(watched, 10) == 21
    looks: list[float] = []

    def count(*_: object) -> Found:
        looks.append(1)
        return Found()

    monkeypatch.setattr("scorehouse.watch.find_outputs", count)
    for now in range(20, 100):
        with next((folder / "going on").glob("samples*")).open("ab") as more:
            more.write(b"\n")
        assert places(watched, now) == []
    assert looks == []  # what is written to all the time is not looked into either, before it rests
    places(watched, 120)
    assert looks == [1]


def test_what_failed_is_tried_again_later_and_what_was_refused_is_not(
    folder: Path, watched: Watched, tmp_path: Path
) -> None:
    output(folder / "a")
    watched.finished(0)
    [one] = watched.finished(10)
    watched.put_off(one, 10)
    assert places(watched, 9 + RETRY_S) == []
    assert places(watched, 10 + RETRY_S) == ["out/a/results"]
    assert push_all(watched, 10 + RETRY_S, refused=True) == 1
    assert places(watched, 99 + 2 * RETRY_S) == []
    assert len(watched.refused) == 1
    restarted = again(folder, tmp_path)
    restarted.finished(0)
    assert places(restarted, 10) == []
    assert len(restarted.refused) == 1
    output(folder / "a", 1.0)
    restarted.finished(20)
    assert push_all(restarted, 30) == 1
    assert restarted.refused == []


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe", b"[" * 100_000, b"null\n[]\n{}", b'{"place": 1}', b'{"place": "a", "signature": "b"', None],
)
def test_a_memory_that_is_damaged_or_gone_costs_only_time(
    folder: Path, watched: Watched, tmp_path: Path, damage: bytes | None
) -> None:
    output(folder / "a")
    watched.finished(0)
    push_all(watched, 10)
    if damage is None:
        watched.memory.unlink()
    else:
        watched.memory.write_bytes(damage)
    restarted = again(folder, tmp_path)
    restarted.finished(0)
    assert push_all(restarted, 10) == 1
    once_more = again(folder, tmp_path)  # and the line written after the damage is read
    once_more.finished(0)
    assert push_all(once_more, 10) == 0


def test_two_watchers_of_one_folder_remember_what_each_pushed(folder: Path, watched: Watched, tmp_path: Path) -> None:
    other = again(folder, tmp_path)
    output(folder / "a")
    watched.finished(0)
    push_all(watched, 10)
    output(folder / "b")
    other.finished(0)
    [both, _] = [other.finished(10), None]
    assert both is not None
    for candidate in both:
        if "/b/" in candidate.place:
            other.remember(candidate)
    restarted = again(folder, tmp_path)
    restarted.finished(0)
    assert places(restarted, 10) == []


def test_the_memory_does_not_grow_for_ever(folder: Path, watched: Watched, tmp_path: Path) -> None:
    output(folder / "a")
    watched.finished(0)
    [one] = watched.finished(10)
    for _ in range(500):
        watched.remember(one)
    before = watched.memory.stat().st_size
    restarted = again(folder, tmp_path)
    assert watched.memory.stat().st_size < before / 100
    restarted.finished(0)
    assert places(restarted, 10) == []


def test_the_memory_belongs_to_a_folder_and_a_service(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    memory = memory_of(folder, "http://a")
    assert memory == memory_of(tmp_path / "link", "http://a")
    assert len({memory, memory_of(folder, "http://b"), memory_of(tmp_path, "http://a")}) == 3


def test_names_that_are_no_utf8_are_remembered(folder: Path, watched: Watched, tmp_path: Path) -> None:
    output(Path(os.fsdecode(os.fsencode(folder) + b"/\xff\n")))
    watched.finished(0)
    assert push_all(watched, 10) == 1
    restarted = again(folder, tmp_path)
    restarted.finished(0)
    assert push_all(restarted, 10) == 0


# --- the command


def start(folder: Path, url: str, tmp_path: Path, *words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "scorehouse", "watch", str(folder), "--url", url, *words]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def run_once(folder: Path, url: str, tmp_path: Path) -> tuple[int, str, str]:
    with start(folder, url, tmp_path, "--once") as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_signal_ends_it_and_that_is_success(folder: Path, tmp_path: Path, number: int, is_busy: bool) -> None:
    output(folder / "a")
    with importing() as (url, service):
        if is_busy:
            service.hold.clear()
        with start(folder, url, tmp_path, "--every", "0.1", "--settle", "0") as process:
            assert service.came.acquire(timeout=60)
            if not is_busy:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("watching ")
                assert "out/a/results" in process.stdout.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("stopped; what was pushed is remembered\n")
    memory = list((tmp_path / "state").rglob("*.jsonl"))
    assert len(memory) == (0 if is_busy else 1)


def test_once_pushes_what_is_there_and_its_exit_code_says_whether_all_is_stored(folder: Path, tmp_path: Path) -> None:
    for name in "abc":
        output(folder / name)
    with importing(InvalidRequest("bad\nout/b: 1 stored"), Problem("The service failed.")) as (url, _):
        code, out, err = run_once(folder, url, tmp_path)
        assert (code, err) == (1, "")
        lines = [line.partition(" ")[2] if line[:1] != " " else line for line in out.splitlines()]
        assert lines[1] == "    The request has values that are not allowed: bad\\nout/b: 1 stored"
        assert lines[3] == "    Internal error: The service failed."
        assert lines[4].endswith("; 2 rows")
        code, out, _ = run_once(folder, url, tmp_path)  # what failed is tried again, what was refused is only told
        assert (code, out.count("; 2 rows")) == (0, 1)
        assert "1 output was not stored in full before, and has not changed since: out/a/results" in out
        code, out, _ = run_once(folder, url, tmp_path)
        assert (code, out.count("; 2 rows")) == (0, 0)


def test_what_concerns_every_output_ends_it(folder: Path, tmp_path: Path) -> None:
    output(folder / "a")
    denied = Problem("no such key")
    denied.__class__ = type("Denied", (Problem,), {"status": 401, "title": "Not allowed"})
    with importing(denied) as (url, _):
        code, _, err = run_once(folder, url, tmp_path)
    assert code == 1
    assert "Not allowed: no such key; set SCOREHOUSE_API_KEY" in err
    assert "Traceback" not in err


def test_once_does_not_wait_for_ever_for_a_service_that_is_away(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output(folder / "a")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def patience(patience_s: float = 0.1) -> Retries:
        assert patience_s == 0.1
        return Retries(patience_s)

    monkeypatch.setattr("scorehouse.watch_command.Retries", patience)
    assert run_watch(folder, WatchOptions("http://127.0.0.1:9", 1, 1, 1, once=True)) == 1
    assert "cannot reach the results service" in capsys.readouterr().err


def test_a_memory_that_cannot_be_kept_is_told_and_no_end(folder: Path, tmp_path: Path) -> None:
    output(folder / "a")
    output(folder / "b")
    (tmp_path / "state").write_text("a file in the way")
    with importing() as (url, _):
        code, out, err = run_once(folder, url, tmp_path)
    assert (code, err, out.count("cannot remember this")) == (0, "", 2)

"""The spool: what is in it is whole, what is sent leaves it, and nothing is in two minds after a kill."""

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import respx
from typer.testing import CliRunner

from scorehouse import (
    AsyncScorehouse,
    FilePart,
    Flushed,
    Retries,
    Scorehouse,
    ScorehouseError,
    Spool,
    Spooled,
    SpoolError,
)
from scorehouse.cli import app
from scorehouse.documents import Document
from scorehouse.push import PushReport, push_documents
from scorehouse.spool import default_spool
from shared.problems import InvalidRequest, NotAuthenticated, Problem, ResultConflict, StoreUnavailable
from shared.results import ResultKind, StoredAnswer
from tests.results_double import ResultsDouble, problem_answer, stored

URL = "http://results.test"
STANDARDIZED = ResultKind.STANDARDIZED
IMPATIENT = Retries(patience_s=0)
REFUSED = httpx.ConnectError("Connection refused")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def service() -> Iterator[ResultsDouble]:
    """A results service behind respx."""
    with respx.mock:
        double = ResultsDouble(URL)
        double.listen()
        double.listen("raw_input")
        yield double


def names(spool: Spool) -> set[str]:
    """Every file below the folder, but for the lock."""
    return {
        str(file.relative_to(spool.folder))
        for file in spool.folder.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


def name_of(document: bytes, kind: ResultKind = STANDARDIZED) -> str:
    return f"{kind}-{sha256(document).hexdigest()}.json"


def add(spool: Spool, *documents: bytes) -> None:
    """Add documents, each a second older than the next."""
    for number, document in enumerate(documents):
        since = time.time() - 1000 + number
        os.utime(spool.add(STANDARDIZED, document), (since, since))


# ----------------------------------------------------------------------------------------------------- the folder


def test_a_document_lies_there_as_it_is(spool: Spool, tmp_path: Path) -> None:
    spool.add(STANDARDIZED, b'{"a" : 1.0}\n')
    source = tmp_path / "big.json"
    source.write_bytes(b"  " + b"0123456789" * 100_000)
    spool.add(ResultKind.RAW, FilePart(source, 2, 500_000))
    assert [(item.kind, item.content()) for item in spool.waiting()] == [
        (STANDARDIZED, b'{"a" : 1.0}\n'),
        (ResultKind.RAW, b"0123456789" * 50_000),
    ]
    assert names(spool) == {name_of(b'{"a" : 1.0}\n'), name_of(b"0123456789" * 50_000, ResultKind.RAW)}


def test_the_same_bytes_wait_once_and_keep_their_turn(spool: Spool) -> None:
    add(spool, b"1", b"2")
    spool.add(STANDARDIZED, b"1")
    spool.add(ResultKind.RAW, b"1")
    assert [item.content() for item in spool.waiting()] == [b"1", b"2", b"1"]


def test_large_documents_are_not_held_in_memory(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorehouse.spool.KEPT_BYTES", 10)
    file = spool.add(STANDARDIZED, b"x" * 11)
    assert [item.content() for item in spool.waiting()] == [FilePart(file, 0, 11)]


def test_results_are_for_their_owner_alone(spool: Spool) -> None:
    assert spool.add(STANDARDIZED, b"1").stat().st_mode & 0o077 == 0


def test_what_is_no_document_is_left_alone(spool: Spool) -> None:
    add(spool, b"1")
    for name in ("README", ".unfinished-abc", f"other-{'0' * 64}.json", f"{STANDARDIZED}-{'0' * 63}.json"):
        (spool.folder / name).write_bytes(b"{}")
    assert len(spool.waiting()) == 1


def test_a_full_disk_is_told_and_leaves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    add(spool, b"1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SpoolError, match=rf"cannot use the spool {spool.folder}: No space left on device"):
        spool.add(STANDARDIZED, b"2")
    assert names(spool) == {name_of(b"1")}


def test_a_disk_that_is_full_for_real(tmp_path: Path) -> None:
    """A limit on the size of files is the nearest to a full disk that needs no privileges."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from scorehouse import Spool, SpoolError; from shared.results import ResultKind\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: Spool(Path(sys.argv[1])).add(ResultKind.RAW, b'x' * 200_000)\n"
        "except SpoolError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert names(Spool(tmp_path / "s")) == set()


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "os.open"])
def test_a_kill_while_adding_leaves_a_whole_document_or_none(tmp_path: Path, step: str) -> None:
    """Killed at each step on the way: the name comes after the bytes are safe."""
    code = (
        "import os, pathlib, signal, sys; from unittest.mock import patch\n"
        "from scorehouse import Spool; from shared.results import ResultKind\n"
        f"with patch({step!r}, side_effect=lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)):\n"
        "    Spool(pathlib.Path(sys.argv[1])).add(ResultKind.RAW, b'whole')\n"
    )
    spool = Spool(tmp_path)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [item.content() for item in spool.waiting()] in ([], [b"whole"])
    spool.add(ResultKind.RAW, b"whole")
    assert [item.content() for item in spool.waiting()] == [b"whole"]


def test_bytes_are_on_the_disk_before_they_have_their_name_and_the_name_after(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loss of power, which no kill can stand for."""
    add(spool, b"the folder is there")
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def fsync_told(descriptor: int) -> None:
        steps.append("folder synced" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes synced")
        fsync(descriptor)

    def replace_told(file: Path, target: Path) -> Path:
        steps.append("named")
        return replace(file, target)

    monkeypatch.setattr("os.fsync", fsync_told)
    monkeypatch.setattr("pathlib.Path.replace", replace_told)
    spool.add(STANDARDIZED, b"1")
    assert steps == ["bytes synced", "named", "folder synced"]


def test_half_written_files_of_the_dead_are_removed_in_time(spool: Spool) -> None:
    add(spool, b"1")
    old, young = spool.folder / ".unfinished-old", spool.folder / ".unfinished-young"
    for file in (old, young):
        file.write_bytes(b"{")
    os.utime(old, (0, 0))
    with spool.flushing():
        pass
    assert names(spool) == {name_of(b"1"), young.name}


def test_each_service_has_a_spool_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREHOUSE_SPOOL_DIR", str(tmp_path))
    folders = [
        default_spool(url).folder
        for url in ("http://a:8000", "http://a:8001", "http://b", "https://b/results", "http://me:secret@b")
    ]
    assert [folder.name for folder in folders] == ["a_8000", "a_8001", "b", "b%2Fresults", "b"]
    assert {folder.parent for folder in folders} == {tmp_path}


def test_the_spool_is_among_a_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREHOUSE_SPOOL_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_spool("http://a").folder == tmp_path / "scorehouse" / "spool" / "a"


# ----------------------------------------------------------------------------------------------------- the clients


@pytest.fixture(params=["blocking", "async"])
async def house(request: pytest.FixtureRequest) -> "Awaited":
    """Either client; both must pass every test here."""
    return Awaited(request.param == "async")


class Awaited:
    """Either client behind one face."""

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async

    async def push_or_spool(self, body: bytes, spool: Spool, kind: ResultKind = STANDARDIZED) -> StoredAnswer | Spooled:
        if self._is_async:
            async with AsyncScorehouse(URL, retries=IMPATIENT) as awaited:
                return await awaited.push_or_spool(body, spool, kind)
        with Scorehouse(URL, retries=IMPATIENT) as blocking:
            return blocking.push_or_spool(body, spool, kind)

    async def flush(self, spool: Spool) -> Flushed:
        if self._is_async:
            async with AsyncScorehouse(URL, retries=IMPATIENT) as awaited:
                return await awaited.flush(spool)
        with Scorehouse(URL, retries=IMPATIENT) as blocking:
            return blocking.flush(spool)


async def test_what_is_taken_does_not_touch_the_disk(house: Awaited, spool: Spool, service: ResultsDouble) -> None:
    outcome = await house.push_or_spool(b"{}", spool)
    assert isinstance(outcome, StoredAnswer)
    assert service.documents == [b"{}"]
    assert not spool.folder.exists()


@pytest.mark.parametrize(
    "away",
    [REFUSED, problem_answer(StoreUnavailable("x")), problem_answer(NotAuthenticated("x")), httpx.Response(500)],
)
async def test_what_cannot_be_taken_now_is_kept(
    house: Awaited, spool: Spool, service: ResultsDouble, away: httpx.Response | Exception
) -> None:
    """Also where a key has expired: that is no fault of the result."""
    service.away = [away]
    outcome = await house.push_or_spool(b'{"a" : 1}', spool, ResultKind.RAW)
    assert isinstance(outcome, Spooled)
    assert outcome.file.read_bytes() == b'{"a" : 1}'
    assert [item.kind for item in spool.waiting()] == [ResultKind.RAW]


async def test_what_is_refused_is_not_kept(house: Awaited, spool: Spool, service: ResultsDouble) -> None:
    service.judge = lambda _: InvalidRequest("no score")
    with pytest.raises(ScorehouseError, match="no score"):
        await house.push_or_spool(b"{}", spool)
    assert not spool.folder.exists()


async def test_a_flush_sends_the_oldest_first_and_removes_what_is_answered(
    house: Awaited, spool: Spool, service: ResultsDouble
) -> None:
    add(spool, b"3", b"1", b"2")
    service.judge = lambda document: stored(unchanged=document == b"1")
    flushed = await house.flush(spool)
    assert service.documents == [b"3", b"1", b"2"]
    assert (flushed.stored, flushed.unchanged, flushed.waiting) == (2, 1, 0)
    assert names(spool) == set()


async def test_a_flush_without_a_spool_is_nothing(house: Awaited, spool: Spool, service: ResultsDouble) -> None:
    assert (await house.flush(spool)).waiting == 0
    assert not spool.folder.exists()
    assert service.requests == []


async def test_kinds_go_to_their_own_path(house: Awaited, spool: Spool, service: ResultsDouble) -> None:
    spool.add(ResultKind.RAW, b"raw")
    await house.flush(spool)
    assert [call.request.url.path for call in respx.calls] == ["/raw_input"]
    assert service.documents == [b"raw"]


async def test_what_is_refused_moves_aside_with_its_problem(
    house: Awaited, spool: Spool, service: ResultsDouble
) -> None:
    add(spool, b"1", b"2", b"3")
    refusals: dict[bytes, Problem] = {b"1": InvalidRequest("no score"), b"2": ResultConflict("other content")}
    service.judge = lambda document: refusals.get(document) or stored()
    flushed = await house.flush(spool)
    assert flushed.rejected == [spool.rejected_folder / name_of(body) for body in (b"1", b"2")]
    assert spool.waiting() == []
    assert spool.rejected() == sorted(flushed.rejected)
    problem = json.loads((spool.rejected_folder / name_of(b"1")).with_suffix(".problem.json").read_bytes())
    assert (problem["status"], problem["detail"]) == (422, "no score")
    assert (spool.rejected_folder / name_of(b"1")).read_bytes() == b"1"


async def test_what_the_service_failed_over_waits_on_and_the_others_go(
    house: Awaited, spool: Spool, service: ResultsDouble
) -> None:
    add(spool, b"\n1", b"2", b"3")
    service.judge = lambda document: Problem("a bug") if document == b"\n1" else stored()
    flushed = await house.flush(spool)
    assert [item.content() for item in spool.waiting()] == [b"\n1"]
    assert str(flushed.reason) == "a bug"


async def test_a_flush_ends_where_the_service_goes_away(house: Awaited, spool: Spool, service: ResultsDouble) -> None:
    add(spool, b"\n1", b"\n2", b"\n3")
    service.away = [httpx.Response(201, text=stored().model_dump_json()), REFUSED]
    flushed = await house.flush(spool)
    assert [item.content() for item in spool.waiting()] == [b"\n2", b"\n3"]
    assert flushed.waiting == 2
    assert "Connection refused" in str(flushed.reason)


async def test_one_process_at_a_time_sends(house: Awaited, spool: Spool, service: ResultsDouble) -> None:
    add(spool, b"1")
    with Spool(spool.folder).flushing():
        flushed = await house.flush(spool)
        spool.add(STANDARDIZED, b"2")  # adding needs no lock
    assert (flushed.taken, flushed.waiting) == (True, 1)
    assert service.requests == []
    assert (await house.flush(spool)).stored == 2


# ---------------------------------------------------------------------------------------------------- the command


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"SCOREHOUSE_RESULTS_URL": URL})
    return result.exit_code, result.stdout, result.stderr


def push(spool: Spool, *paths: Path) -> tuple[int, str, str]:
    return run("push", "--spool", "--spool-dir", spool.folder, "--patience", "0.1", *paths)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    file = tmp_path / "runs.ndjson"
    file.write_bytes(b"".join(b'{"n": %d}\n' % number for number in range(9)))
    return file


def test_a_push_without_a_service_spools_and_the_next_one_sends(
    spool: Spool, service: ResultsDouble, runs: Path
) -> None:
    service.away = [REFUSED] * 100
    code, out, err = push(spool, runs)
    assert code == 0  # a runner goes on: nothing is lost
    assert out == "0 stored, 0 unchanged, 0 refused, 9 spooled; 0 answers\n"
    assert "9 documents wait in the spool, for: cannot reach the results service" in err
    assert len(spool.waiting()) == 9
    service.away = []
    service.requests.clear()
    code, out, err = push(spool, runs)
    assert (code, out) == (0, "9 stored, 0 unchanged, 0 refused; 90 answers\n")
    assert err == "9 documents from the spool: 9 stored, 0 unchanged\n"
    assert service.documents[9:] == runs.read_bytes().splitlines()
    assert sorted(service.documents[:9]) == service.documents[9:]
    assert names(spool) == set()


def test_what_was_answered_before_it_went_away_is_not_spooled(spool: Spool, service: ResultsDouble, runs: Path) -> None:
    away = StoreUnavailable("away", retry_after_s=0)
    service.judge = lambda document: stored() if json.loads(document)["n"] < 4 else away
    code, out, _ = push(spool, runs)
    assert (code, out) == (0, "4 stored, 0 unchanged, 0 refused, 5 spooled; 40 answers\n")
    assert sorted(json.loads((spool.folder / name).read_bytes())["n"] for name in names(spool)) == [4, 5, 6, 7, 8]


async def test_what_is_spooled_is_not_under_way_any_more(spool: Spool, service: ResultsDouble) -> None:
    service.away = [REFUSED] * 9
    report = PushReport()
    async with AsyncScorehouse(URL, retries=IMPATIENT) as house:
        await push_documents(house, [Document("a:1", b"{}", 0), Document("a:2", b"1", 0)], report, spool=spool)
    assert (report.spooled, report.under_way) == (2, 0)


def test_a_service_that_is_away_is_asked_once_and_not_for_each_document(
    spool: Spool, service: ResultsDouble, tmp_path: Path
) -> None:
    file = tmp_path / "runs.json"
    file.write_bytes(b"[" + b",".join(b'{"n":\n%d}' % number for number in range(100)) + b"]")
    service.away = [httpx.ConnectError("refused")] * 1000
    code, out, _ = run("push", "--spool-dir", spool.folder, "--patience", "0", "--jobs", "1", file)
    assert (code, out) == (0, "0 stored, 0 unchanged, 0 refused, 100 spooled; 0 answers\n")
    assert len(service.requests) == 1
    service.requests.clear()
    run("push", "--spool-dir", spool.folder, "--patience", "0", file)
    assert len(service.requests) == 1  # what waits from earlier was tried, and that was enough


def test_a_key_that_is_not_allowed_this_spools_and_fails(spool: Spool, service: ResultsDouble, runs: Path) -> None:
    """Nothing is lost, but waiting will not help: somebody must look."""
    service.away = [problem_answer(NotAuthenticated("expired yesterday"))] * 9
    code, _, err = push(spool, runs)
    assert code == 1
    assert "expired yesterday" in err
    assert len(spool.waiting()) == 9


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(200, html="sign in"), 1),
        (httpx.Response(302, headers={"Location": "https://login.test/"}), 1),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), 1),
        (httpx.Response(503, headers={"Retry-After": "3600"}, html="busy"), 0),
        (httpx.RemoteProtocolError("illegal status line"), 0),
        (httpx.DecodingError("incorrect header check"), 0),
    ],
)
def test_an_address_that_is_not_ours_spools_and_fails(
    spool: Spool, service: ResultsDouble, runs: Path, answer: httpx.Response | Exception, expected: int
) -> None:
    service.away = [answer] * 99
    assert push(spool, runs)[0] == expected
    assert len(spool.waiting()) == 9


@respx.mock
@pytest.mark.parametrize("command", ["invalidate", "restore"])
def test_a_correction_that_waits_says_so(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr("scorehouse.blocking.time.sleep", lambda _: None)
    respx.post(url__startswith=URL).mock(side_effect=[REFUSED, problem_answer(NotAuthenticated("expired yesterday"))])
    code, _, err = run(command, "n", "--reason", "why", "--author", "ada")
    assert code == 1
    assert "trying again for up to 60 s" in err.splitlines()[0]
    assert "expired yesterday" in err.splitlines()[1]


def test_refusals_are_told_and_not_spooled(spool: Spool, service: ResultsDouble, runs: Path) -> None:
    service.judge = lambda document: InvalidRequest("bad") if json.loads(document)["n"] == 3 else stored()
    code, out, _ = push(spool, runs)
    assert code == 1
    assert f"refused {runs}:4" in out
    assert not spool.folder.exists()


def test_a_spool_that_cannot_be_used_is_told(tmp_path: Path, service: ResultsDouble, runs: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    service.away = [REFUSED] * 9
    code, _, err = push(Spool(tmp_path / "file" / "spool"), runs)
    assert code == 1
    assert f"cannot use the spool {tmp_path / 'file' / 'spool'}: Not a directory" in err
    assert "the rest is neither stored nor kept" in err


def test_the_key_does_not_get_into_the_spool(
    spool: Spool, service: ResultsDouble, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREHOUSE_API_KEY", "sh_secret")
    service.away = [problem_answer(NotAuthenticated("x"))] * 9
    push(spool, runs)
    assert len(names(spool)) == 9
    assert all(
        "sh_secret" not in name and b"sh_secret" not in (spool.folder / name).read_bytes() for name in names(spool)
    )


def test_one_that_the_service_fails_over_does_not_keep_new_ones_back(
    spool: Spool, service: ResultsDouble, runs: Path
) -> None:
    add(spool, b"\n1")
    service.judge = lambda document: Problem("a bug") if document == b"\n1" else stored()
    code, out, err = push(spool, runs)
    assert (code, out) == (0, "9 stored, 0 unchanged, 0 refused; 90 answers\n")
    assert "1 document from earlier pushes waits on in the spool: a bug" in err


def test_list_and_flush(spool: Spool, service: ResultsDouble) -> None:
    add(spool, b"1", b"22")
    code, out, _ = run("spool", "list", "--spool-dir", spool.folder)
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["waiting", "waiting"]
    assert lines[0].endswith(name_of(b"1"))
    assert lines[2] == f"2 waiting, 0 rejected in {spool.folder}"
    assert service.requests == []

    service.judge = lambda document: InvalidRequest("no score") if document == b"22" else stored()
    code, out, err = run("spool", "flush", "--spool-dir", spool.folder)
    assert (code, out) == (1, "1 stored, 0 unchanged, 1 rejected, 0 waiting\n")
    assert "no score" in err
    code, out, _ = run("spool", "list", "--spool-dir", spool.folder)
    assert out.splitlines()[-1] == f"0 waiting, 1 rejected in {spool.folder}"
    assert "no score" in out
    assert run("spool", "flush", "--spool-dir", spool.folder)[0] == 0


@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_what_cannot_be_read_in_the_spool_is_told(
    spool: Spool, service: ResultsDouble, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr("scorehouse.spool.KEPT_BYTES", kept)
    (spool.folder / f"standardized_output-{'0' * 64}.json").mkdir(parents=True)
    code, _, err = run("spool", "flush", "--spool-dir", spool.folder)
    assert code == 1
    assert re.fullmatch(r"scorehouse: cannot (use|read what waits in) the spool .*Is a directory.*\n", err), err


def test_a_flush_without_a_service_is_exit_code_1(spool: Spool, service: ResultsDouble) -> None:
    add(spool, b"1")
    service.away = [REFUSED] * 9
    code, out, err = run("spool", "flush", "--spool-dir", spool.folder, "--patience", "0")
    assert (code, out) == (1, "0 stored, 0 unchanged, 0 rejected, 1 waiting\n")
    assert "1 document from earlier pushes waits" in err

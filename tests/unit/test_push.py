"""`scorehouse push`: which documents are found, as which bytes, and what is told of them."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scorehouse.cli import app
from scorehouse.documents import Document, FilePart, Unreadable, find_files, read_documents, split_array
from scorehouse.push import PushReport, documents_under
from shared.compression import compress
from shared.problems import Fault, InvalidRequest, Problem, ResultConflict, StoreUnavailable
from shared.results import StoredAnswer
from tests.results_double import ResultsDouble, problem_answer, stored, stored_answer

URL = "http://results.test"


def read(file: Path) -> list[tuple[str, bytes]]:
    """The documents of a file, by the part of their place after the file's name."""
    found = []
    for document in read_documents(file):
        assert isinstance(document, Document)
        body = document.body if isinstance(document.body, bytes) else b"".join(document.body.blocks())
        found.append((document.place.removeprefix(str(file)), body))
    return found


def write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    match file.suffix:
        case ".gz":
            content = gzip.compress(content)
        case ".zst":
            content = compress(content)
    file.write_bytes(content)
    return file


ODD = b'{"a" : 1.0,  "big": 12345678901234567890123, "k\\u0065y": "\\"]},{[\\\\"}'


@pytest.mark.parametrize("ending", [".json", ".json.gz", ".json.zst", ".JSON"])
def test_a_json_file_is_one_document_byte_for_byte(tmp_path: Path, ending: str) -> None:
    assert read(write(tmp_path / f"a{ending}", b" \n" + ODD + b"\n")) == [(":1", ODD)]


@pytest.mark.parametrize("ending", [".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst"])
def test_lines_are_documents_byte_for_byte_and_blank_ones_are_passed_by(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"a{ending}", ODD + b"\r\n\n  \n{}\n" + b'{"no": "newline"}')
    assert read(file) == [(":1", ODD), (":4", b"{}"), (":5", b'{"no": "newline"}')]


def test_an_array_is_split_into_its_own_bytes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", b"\n[\n  " + ODD + b',\n  {"x": [1,\n2]}\n , {}]\n')
    assert read(file) == [
        (":3 (document 1)", ODD),
        (":4 (document 2)", b'{"x": [1,\n2]}'),
        (":6 (document 3)", b"{}"),
    ]


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b" [ \n ] "])
def test_nothing_in_a_file_is_no_document(tmp_path: Path, content: bytes) -> None:
    assert read(write(tmp_path / "a.json", content)) == []


@pytest.mark.parametrize(
    ("content", "bodies"),
    [
        (b"[{},]", [b"{}", b""]),
        (b"[{} {}]", [b"{} {}"]),
        (b"[1, 2]", [b"1", b"2"]),
        (b'[{"a": 1}, {"b": ', [b'{"a": 1}', b'{"b":']),
        (b"[{}", [b"{}"]),
        (b"[", [b"["]),
        (b'[{}] {"after": [1]}', [b"{}", b'{"after": [1]}']),
        (b'[{"a]', [b'{"a]']),
    ],
)
def test_a_broken_array_drops_nothing_silently(content: bytes, bodies: list[bytes]) -> None:
    assert [body for _, body in split_array([content], "f")] == bodies


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab"\\[]{},:\n\u1234 '),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"\\]'), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.lists(JSON, max_size=5), block=st.integers(1, 20), indent=st.none() | st.integers(0, 2))
def test_an_array_splits_the_same_wherever_its_blocks_end(values: list[object], block: int, indent: int | None) -> None:
    text = json.dumps(values, indent=indent).encode()
    pieces = list(split_array([text[at : at + block] for at in range(0, len(text), block)], "f"))
    assert [json.loads(body) for _, body in pieces if isinstance(body, bytes)] == values
    for place, body in pieces:
        assert isinstance(body, bytes)
        line = int(place.split(":")[1].split(" ")[0])
        assert text.split(b"\n")[line - 1].strip().startswith(body.split(b"\n")[0][:5].strip()) or indent is None


@pytest.mark.parametrize("ending", ["json", "ndjson", "json.gz", "ndjson.gz", "ndjson.zst"])
@pytest.mark.parametrize("shape", ["array", "whole"])
def test_large_documents_are_left_where_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, shape: str
) -> None:
    monkeypatch.setattr("scorehouse.documents.KEPT_BYTES", 1000)
    monkeypatch.setattr("scorehouse.documents._BLOCK_BYTES", 300)
    bodies = [json.dumps({"n": number, "x": ['"]}' * size]}).encode() for number, size in enumerate((5, 2000, 7, 900))]
    if "ndjson" in ending:
        content = b"\n".join([*bodies[:2], b"", *bodies[2:]])
    elif shape == "array":
        content = b" [\n  " + b" ,\n  ".join(bodies) + b"\n]"
    else:
        bodies = bodies[1:2]
        content = b" " * 2500 + bodies[0]
    file = write(tmp_path / f"a.{ending}", content)
    documents = [document for document in read_documents(file) if isinstance(document, Document)]
    assert [isinstance(document.body, FilePart) for document in documents] == [len(body) >= 1000 for body in bodies]
    assert [body.strip() for _, body in read(file)] == bodies
    assert sum(document.file_bytes for document in documents) == file.stat().st_size
    if shape == "array" and "ndjson" not in ending:
        assert [place for place, _ in read(file)] == [f":{number + 1} (document {number})" for number in range(1, 5)]


@given(values=st.lists(JSON, max_size=5), block=st.integers(1, 20), kept=st.integers(1, 30))
def test_an_array_splits_the_same_whatever_is_kept(values: list[object], block: int, kept: int) -> None:
    text = json.dumps(values, indent=1).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorehouse.documents.KEPT_BYTES", kept)
        found = list(split_array([text[at : at + block] for at in range(0, len(text), block)], "f"))
    bodies = [
        body if isinstance(body, bytes) else text[body.start : body.start + (body.length or 0)] for _, body in found
    ]
    assert [json.loads(body) for body in bodies] == values


def test_an_array_is_not_read_whole(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield b"["
        while True:
            yield b'{"a": 1}, '

    pieces = split_array(endless(), "f")
    assert [next(pieces)[1] for _ in range(1000)] == [b'{"a": 1}'] * 1000


def test_file_bytes_add_up_to_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson.gz", b"".join(b'{"n": %d}\n' % number for number in range(1000)))
    documents = [document for document in read_documents(file) if isinstance(document, Document)]
    assert len(documents) == 1000
    assert sum(document.file_bytes for document in documents) == file.stat().st_size


def test_folders_are_walked_in_order_without_what_is_hidden_or_foreign(tmp_path: Path) -> None:
    wanted = [
        write(tmp_path / name, b"{}")
        for name in ("b.json", "c.jsonl.gz", "d.ndjson", "sub/a.json", "sub/deeper/a.json.gz", "x.y.json")
    ]
    for name in (".hidden.json", ".git/a.json", "notes.txt", "a.json.bak", "a.csv.gz", "sub/json"):
        write(tmp_path / name, b"{}")
    found = list(find_files([tmp_path]))
    assert sorted(map(str, found)) == sorted(map(str, wanted))
    assert found == [*wanted[:3], wanted[5], *wanted[3:5]]


def test_a_file_named_twice_is_pushed_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", b"{}")
    assert list(find_files([file, tmp_path, file])) == [file]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cut.ndjson.gz", gzip.compress(b'{"a": 1}\n' * 10, mtime=0)[:-12], "end-of-stream"),
        ("cut.ndjson.zst", compress(b'{"a": 1}\n' * 10)[:-6], "end-of-stream"),
        ("plain.ndjson.zst", b'{"a": 1}\n', "Zstandard"),
        ("plain.ndjson.gz", b'{"a": 1}\n', "Not a gzipped file"),
        ("damaged.json.gz", gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 20, "invalid"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    *_, last = read_documents(file)
    assert isinstance(last, Unreadable)
    assert last.place == str(file)
    assert reason in last.reason


@pytest.mark.parametrize("name", ["absent.json", "notes.txt", "loop.json", "pipe.json", f"{'long' * 80}.json"])
def test_what_was_named_and_cannot_be_pushed_is_told(tmp_path: Path, name: str) -> None:
    write(tmp_path / "notes.txt", b"{}")
    (tmp_path / "loop.json").symlink_to("loop.json")
    os.mkfifo(tmp_path / "pipe.json")
    [found] = documents_under([tmp_path / name])
    assert isinstance(found, Unreadable)
    assert found.place.endswith(name)


def test_what_a_folder_holds_beside_files_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for without end, Ctrl-C or not."""
    (tmp_path / "a.json").symlink_to("a.json")
    os.mkfifo(tmp_path / "b.json")
    write(tmp_path / "c.json", b"{}")
    places = [(type(found), Path(found.place.partition(":")[0]).name) for found in documents_under([tmp_path])]
    assert places == [(Unreadable, "a.json"), (Unreadable, "b.json"), (Document, "c.json")]


def test_a_link_to_a_folder_is_told_where_it_leads_to_what_is_not_pushed(tmp_path: Path) -> None:
    inside = write(tmp_path / "runs" / "a" / "a.json", b"{}")
    write(tmp_path / "runs" / ".hidden" / "b.json", b"{}")
    write(tmp_path / "elsewhere" / "c.json", b"{}")
    targets = {"latest": "a", "loop": "..", "self": ".", "away": "../elsewhere", "under": ".hidden"}
    for name, target in targets.items():
        (tmp_path / "runs" / name).symlink_to(target)
    found = list(find_files([tmp_path / "runs"]))
    assert [item for item in found if isinstance(item, Path)] == [inside]
    assert [Path(item.place).name for item in found if isinstance(item, Unreadable)] == ["away", "under"]


@pytest.fixture
def service() -> Iterator[ResultsDouble]:
    """A results service behind respx."""
    with respx.mock:
        double = ResultsDouble(URL)
        double.listen()
        yield double


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["push", "--url", URL, "--patience", "0.3", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def numbered(number: int) -> bytes:
    return b"".join(b'{"n": %d}\n' % index for index in range(number))


def test_all_stored_is_exit_code_0(tmp_path: Path, service: ResultsDouble) -> None:
    service.judge = lambda document: stored(unchanged=json.loads(document)["n"] >= 30)
    code, out, err = run(write(tmp_path / "a.ndjson", numbered(50)))
    assert (code, err) == (0, "")
    assert out == "30 stored, 20 unchanged, 0 refused; 500 answers\n"
    assert service.requests == [numbered(50).splitlines()]


def test_files_of_one_document_each_share_requests(tmp_path: Path, service: ResultsDouble) -> None:
    for number in range(20):
        write(tmp_path / f"{number:02}.json", b'{"n": %d}\n' % number)
    assert run(tmp_path)[0] == 0
    assert service.requests == [numbered(20).splitlines()]


def test_pretty_printed_documents_go_alone_as_they_stand(tmp_path: Path, service: ResultsDouble) -> None:
    bodies = [json.dumps({"n": number}, indent=2).encode() for number in range(3)]
    for number, body in enumerate(bodies):
        write(tmp_path / f"{number}.json", body + b"\n")
    assert run(tmp_path)[0] == 0
    assert sorted(service.requests) == [[body] for body in bodies]


def test_raw_inputs_go_to_their_own_path(tmp_path: Path, service: ResultsDouble) -> None:
    service.listen("raw_input")
    assert run(write(tmp_path / "a.json", b"{}"), "--raw")[0] == 0
    assert respx.calls.last.request.url.path == "/raw_input"


@pytest.mark.parametrize("ending", ["ndjson", "json"])
def test_a_refusal_has_its_place_and_reasons_and_the_others_go_on(
    tmp_path: Path, service: ResultsDouble, ending: str
) -> None:
    faults = [Fault(place=f"data.questions[{index}].score", detail="is 7 [sic]") for index in range(8)]

    def judge(document: bytes) -> StoredAnswer | Problem:
        match json.loads(document)["n"]:
            case 1:
                return InvalidRequest("in short", faults=faults)
            case 2:
                return ResultConflict("stored on Monday with other content")
            case _:
                return stored()

    service.judge = judge
    lines = numbered(4)
    place = "{file}:{line}"
    if ending == "json":  # with line breaks, so that each goes alone
        lines = b"[" + b",\n".join(b'{"n":\n %d}' % number for number in range(4)) + b"]"
        place = "{file}:{double} (document {line})"
    file = write(tmp_path / f"a.{ending}", lines)
    code, out, err = run(file, "--jobs", "1")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"refused {place.format(file=file, line=2, double=3)}",
        *(f"    data.questions[{index}].score: is 7 [sic]" for index in range(5)),
        "    and 3 more",
        f"refused {place.format(file=file, line=3, double=5)}",
        "    This result is stored with other content: stored on Monday with other content",
        "2 stored, 0 unchanged, 2 refused; 20 answers",
    ]


def test_equal_warnings_are_told_once(tmp_path: Path, service: ResultsDouble) -> None:
    warnings = [["w1", "w1"], ["w1", "w2"], []]
    service.judge = lambda document: stored(warnings=warnings[json.loads(document)["n"]])
    _, out, _ = run(write(tmp_path / "a.ndjson", numbered(3)))
    assert out.splitlines()[:2] == ["warning (2 documents): w1", "warning (1 document): w2"]


def test_a_file_that_cannot_be_read_is_exit_code_1_and_the_others_go_on(tmp_path: Path, service: ResultsDouble) -> None:
    code, out, _ = run(write(tmp_path / "a.json", b"{}"), tmp_path / "absent.json")
    assert code == 1
    assert service.documents == [b"{}"]
    assert f"unreadable {tmp_path / 'absent.json'}\n    there is no such file or folder\n" in out
    assert "1 stored, 0 unchanged, 0 refused, 1 file not read" in out


def test_a_large_document_that_changes_while_it_is_sent_is_told(
    tmp_path: Path, service: ResultsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorehouse.documents.KEPT_BYTES", 1000)
    lines = [b'{"n": %d, "x": "%b"}' % (number, b"x" * 2000) for number in range(2)]
    file = write(tmp_path / "a.ndjson", b"\n".join(lines))

    def judge(_: bytes) -> StoredAnswer:
        file.write_bytes(lines[0])
        return stored()

    service.judge = judge
    code, out, _ = run(file, "--jobs", "1")
    assert code == 1
    assert f"unreadable {file}:2\n    " in out
    assert "became shorter" in out
    assert out.endswith("1 stored, 0 unchanged, 0 refused, 1 file not read; 10 answers\n")


def test_nothing_found_is_exit_code_1_and_a_sentence(tmp_path: Path) -> None:
    code, out, err = run(tmp_path)
    assert (code, out) == (1, "")
    assert f"no documents in {tmp_path}" in err
    assert ".ndjson" in err


def test_an_empty_path_is_not_the_folder_one_is_in() -> None:
    code, _, complaint = run("")
    assert code == 2
    assert "a path is empty" in complaint


def test_no_service_is_exit_code_1_and_the_next_step(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", b"{}")
    result = CliRunner().invoke(app, ["push", str(file), "--url", "http://127.0.0.1:9", "--patience", "0.2"])
    assert (result.exit_code, result.stdout) == (1, "")
    waiting, complaint = result.stderr.splitlines()
    assert waiting.endswith("trying again for up to 0.2 s …")
    assert "cannot reach the results service at http://127.0.0.1:9" in complaint
    assert "scorehouse up" in complaint
    assert "without an answer" not in complaint  # nothing was sent


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_concerns_every_document_ends_the_push_at_once(
    tmp_path: Path, service: ResultsDouble, status: int
) -> None:
    problem = {"type": "t", "title": "Title", "status": status, "detail": "the detail"}
    service.away = [httpx.Response(status, json=problem)] * 9
    code, _, err = run(write(tmp_path / "a.ndjson", numbered(1000)), "--jobs", "2")
    assert code == 1
    assert "the detail" in err
    assert len(service.requests) <= 2


def test_a_service_that_comes_back_is_waited_for_with_a_line(
    tmp_path: Path, service: ResultsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda _, longest: longest / 10)
    away = problem_answer(StoreUnavailable("the store is away", retry_after_s=0))
    service.away = [away, httpx.ReadError("reset"), httpx.ConnectError("refused")]
    code, out, err = run(write(tmp_path / "a.json", b"{}"))
    assert (code, out) == (0, "1 stored, 0 unchanged, 0 refused; 10 answers\n")
    assert err.splitlines() == [
        "The store is not available: the store is away; trying again for up to 0.3 s …",
        "the service answers again",
    ]


def test_a_store_that_stays_away_ends_the_push_and_tells_what_was_done(tmp_path: Path, service: ResultsDouble) -> None:
    away = StoreUnavailable("the store is away", retry_after_s=0)
    service.judge = lambda document: stored() if json.loads(document)["n"] < 2 else away
    code, out, err = run(write(tmp_path / "a.ndjson", numbered(9)), "--jobs", "1")
    assert code == 1
    assert out == "2 stored, 0 unchanged, 0 refused; 20 answers\n"
    assert "the store is away (7 documents sent without an answer)" in err


class OneAnswer(BaseHTTPRequestHandler):
    """Answers the first document, and keeps the second waiting."""

    second_came = threading.Event()
    release = threading.Event()

    def do_POST(self) -> None:
        if json.loads(self.rfile.read(int(self.headers["Content-Length"])))["n"] == 1:
            self.second_came.set()
            self.release.wait(30)
            return
        response = stored_answer(stored())
        self.send_response(response.status_code)
        self.send_header("Content-Length", str(len(response.content)))
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_ctrl_c_ends_it_at_once_and_tells_what_was_done(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", b"[" + b",".join(b'{"n":\n%d}' % number for number in range(9)) + b"]")
    with ThreadingHTTPServer(("127.0.0.1", 0), OneAnswer) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-m", "scorehouse", "push", str(file), "--url", url, "--jobs", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pushing:
            assert OneAnswer.second_came.wait(30)
            pushing.send_signal(signal.SIGINT)
            out, err = pushing.communicate(timeout=30)
        OneAnswer.release.set()
        server.shutdown()
    assert pushing.returncode == 130, err
    assert out == "1 stored, 0 unchanged, 0 refused; 10 answers\n"
    assert "interrupted (1 document sent without an answer)" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_does_not_end_it(tmp_path: Path) -> None:
    """`scorehouse push … | head -1`: all is pushed and the exit code is that of the push."""
    file = write(tmp_path / "a.json", b'{"n": 0}')
    ours, theirs = os.pipe()
    os.close(ours)
    with ThreadingHTTPServer(("127.0.0.1", 0), OneAnswer) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-m", "scorehouse", "push", str(file), "--url", url]
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
        server.shutdown()
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_report_without_documents_is_not_complete() -> None:
    assert not PushReport().complete


def test_the_client_and_push_need_no_server_packages() -> None:
    """A runner's machine installs the base package only."""
    hide = "import sys; sys.modules.update(dict.fromkeys(('fastapi', 'motor', 'pymongo', 'structlog', 'uvicorn')))"
    code = f"{hide}; import scorehouse, scorehouse.cli; scorehouse.cli.app(['up'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "pip install 'scorehouse[local]'" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "push",
        "spool list",
        "spool flush",
        "invalidate",
        "restore",
        "compare",
        "gate",
        "check",
        "keys create",
        "keys list",
        "keys revoke",
    ],
)
def test_help_teaches_by_examples(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "Exit codes" in shown.stdout
    assert re.search(rf"^   (key=\$\()?scorehouse {command}", shown.stdout, re.MULTILINE), shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_names_of_files_do_not_steer_a_terminal(tmp_path: Path, service: ResultsDouble) -> None:
    service.judge = lambda _: InvalidRequest("bad")
    _, out, _ = run(write(tmp_path / "a\x1b[31m\x9b.json", b"{}"))
    assert "a\\x1b[31m\\x9b.json" in out

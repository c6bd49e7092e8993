"""`scorehouse push`: which documents are found, as which bytes, and what is told of them."""

import gzip
import json
import os
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
from scorehouse.documents import Document, Unreadable, find_files, read_documents, split_array
from scorehouse.push import PushReport, documents_under
from shared.problems import Fault, InvalidRequest, ResultConflict, StoreUnavailable
from shared.results import StoredAnswer, StoreStatus

URL = "http://results.test"


def read(file: Path) -> list[tuple[str, bytes]]:
    """The documents of a file, by the part of their place after the file's name."""
    found = []
    for document in read_documents(file):
        assert isinstance(document, Document)
        found.append((document.place.removeprefix(str(file)), document.body))
    return found


def write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


ODD = b'{"a" : 1.0,  "big": 12345678901234567890123, "k\\u0065y": "\\"]},{[\\\\"}'


@pytest.mark.parametrize("ending", [".json", ".json.gz", ".JSON"])
def test_a_json_file_is_one_document_byte_for_byte(tmp_path: Path, ending: str) -> None:
    assert read(write(tmp_path / f"a{ending}", b" \n" + ODD + b"\n")) == [(":1", ODD)]


@pytest.mark.parametrize("ending", [".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz"])
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
    assert [json.loads(body) for _, body in pieces] == values
    for place, body in pieces:
        line = int(place.split(":")[1].split(" ")[0])
        assert text.split(b"\n")[line - 1].strip().startswith(body.split(b"\n")[0][:5].strip()) or indent is None


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


def stored(*, unchanged: bool = False, warnings: list[str] | None = None) -> httpx.Response:
    status = StoreStatus.UNCHANGED if unchanged else StoreStatus.CREATED
    answer = StoredAnswer(
        result_name="n", status=status, unchanged=unchanged, sha256="0", questions=10, warnings=warnings or []
    )
    return httpx.Response(200 if unchanged else 201, text=answer.model_dump_json())


def refused(problem: InvalidRequest | ResultConflict | StoreUnavailable) -> httpx.Response:
    headers = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    return httpx.Response(problem.status, headers=headers, text=problem.document().model_dump_json())


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["push", "--url", URL, *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@respx.mock
def test_all_stored_is_exit_code_0(tmp_path: Path) -> None:
    bodies = {b'{"n": %d}' % number for number in range(50)}
    file = write(tmp_path / "a.ndjson", b"\n".join(sorted(bodies)))
    route = respx.post(f"{URL}/standardized_output").mock(side_effect=[stored()] * 30 + [stored(unchanged=True)] * 20)
    code, out, err = run(file)
    assert (code, err) == (0, "")
    assert out == "30 stored, 20 unchanged, 0 refused; 500 answers\n"
    assert {call.request.content for call in route.calls} == bodies


@respx.mock
def test_raw_inputs_go_to_their_own_path(tmp_path: Path) -> None:
    respx.post(f"{URL}/raw_input").mock(return_value=stored())
    assert run(write(tmp_path / "a.json", b"{}"), "--raw")[0] == 0


@respx.mock
def test_a_refusal_has_its_place_and_reasons_and_the_others_go_on(tmp_path: Path) -> None:
    faults = [Fault(place=f"data.questions[{index}].score", detail="is 7 [sic]") for index in range(8)]

    def answer(request: httpx.Request) -> httpx.Response:
        match json.loads(request.content)["n"]:
            case 1:
                return refused(InvalidRequest("in short", faults=faults))
            case 2:
                return refused(ResultConflict("stored on Monday with other content"))
            case _:
                return stored()

    respx.post(f"{URL}/standardized_output").mock(side_effect=answer)
    file = write(tmp_path / "a.ndjson", b"".join(b'{"n": %d}\n' % number for number in range(4)))
    code, out, err = run(file, "--jobs", "1")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"refused {file}:2",
        *(f"    data.questions[{index}].score: is 7 [sic]" for index in range(5)),
        "    and 3 more",
        f"refused {file}:3",
        "    This result is stored with other content: stored on Monday with other content",
        "2 stored, 0 unchanged, 2 refused; 20 answers",
    ]


@respx.mock
def test_equal_warnings_are_told_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", b"{}\n" * 3)
    respx.post(f"{URL}/standardized_output").mock(
        side_effect=[stored(warnings=["w1", "w1"]), stored(warnings=["w1", "w2"]), stored()]
    )
    _, out, _ = run(file)
    assert out.splitlines()[:2] == ["warning (2 documents): w1", "warning (1 document): w2"]


@respx.mock
def test_a_file_that_cannot_be_read_is_exit_code_1_and_the_others_go_on(tmp_path: Path) -> None:
    respx.post(f"{URL}/standardized_output").mock(return_value=stored())
    code, out, _ = run(write(tmp_path / "a.json", b"{}"), tmp_path / "absent.json")
    assert code == 1
    assert f"unreadable {tmp_path / 'absent.json'}\n    there is no such file or folder\n" in out
    assert "1 stored, 0 unchanged, 0 refused, 1 file not read" in out


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
    result = CliRunner().invoke(app, ["push", str(file), "--url", "http://127.0.0.1:9"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot reach the results service at http://127.0.0.1:9" in result.stderr
    assert "scorehouse up" in result.stderr
    assert "without an answer" not in result.stderr  # nothing was sent


@respx.mock
@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_concerns_every_document_ends_the_push_at_once(tmp_path: Path, status: int) -> None:
    problem = {"type": "t", "title": "Title", "status": status, "detail": "the detail"}
    route = respx.post(f"{URL}/standardized_output").respond(status, json=problem)
    code, _, err = run(write(tmp_path / "a.ndjson", b"{}\n" * 100), "--jobs", "2")
    assert code == 1
    assert "the detail" in err
    assert route.call_count <= 2


@respx.mock
def test_a_store_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    away = refused(StoreUnavailable("the store is away", retry_after_s=0))
    respx.post(f"{URL}/standardized_output").mock(side_effect=[away, away, stored()])
    assert run(write(tmp_path / "a.json", b"{}"))[0] == 0


@respx.mock
def test_a_store_that_stays_away_ends_the_push_and_tells_what_was_done(tmp_path: Path) -> None:
    away = refused(StoreUnavailable("the store is away", retry_after_s=0))
    respx.post(f"{URL}/standardized_output").mock(side_effect=[stored(), *[away] * 5])
    code, out, err = run(write(tmp_path / "a.ndjson", b"{}\n" * 9), "--jobs", "1")
    assert code == 1
    assert out == "1 stored, 0 unchanged, 0 refused; 10 answers\n"
    assert "the store is away" in err


class OneAnswer(BaseHTTPRequestHandler):
    """Answers the first document, and keeps the second waiting."""

    second_came = threading.Event()
    release = threading.Event()

    def do_POST(self) -> None:
        if json.loads(self.rfile.read(int(self.headers["Content-Length"])))["n"] == 1:
            self.second_came.set()
            self.release.wait(30)
            return
        response = stored()
        self.send_response(response.status_code)
        self.send_header("Content-Length", str(len(response.content)))
        self.end_headers()
        self.wfile.write(response.content)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_ctrl_c_ends_it_at_once_and_tells_what_was_done(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", b"".join(b'{"n": %d}\n' % number for number in range(9)))
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


def test_help_teaches_by_examples() -> None:
    for words in ([], ["push"], ["up"]):
        shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "100"})
        assert shown.exit_code == 0
        assert "Exit codes" in shown.stdout
        assert f"scorehouse {words[0] if words else 'up'}" in shown.stdout

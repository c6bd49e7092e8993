"""What `scorehouse push` finds of harnesses, sends and tells. The service is a double that fails when told."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
import respx
from typer.testing import CliRunner

from scorehouse.cli import app
from scorehouse.client import AsyncScorehouse
from scorehouse.harness_outputs import Found, find_outputs, is_document
from scorehouse.harness_push import push_outputs
from scorehouse.harness_tally import HarnessReport, losses
from shared.compression import decompress
from shared.formats.tree import File
from shared.imports import ComparedAggregate, ImportedFinding, ImportedRun, ImportReport, RowsLeftOut
from shared.problems import Fault, InvalidRequest, NotFound, Problem, StoreUnavailable, TooLarge, UnrecognisedFormat
from tests.harness_files import lm_eval_files, write_files
from tests.importing_service import importing
from tests.results_double import ResultsDouble, problem_answer

URL = "http://results.test"
DOCUMENT = {"run_id": "r", "benchmark_name": "mmlu", "timestamp": "2024-01-01T00:00:00Z", "model_id": "m"}
DOCUMENT_BYTES = json.dumps(DOCUMENT | {"source": "s", "data": {"questions": []}}).encode()


def output(folder: Path, *scores: float, model: str = "org/model") -> Path:
    """A harness's output, in `folder`."""
    return write_files(folder, lm_eval_files({"math_500": scores or (1.0, 0.0)}, model=model))


def zipped(file: Path, *contents: str) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for content in contents:
            archive.writestr(content, content)
    return file


def files_of(found: Found) -> list[list[str]]:
    """The files of each output, by their paths without the time of the run."""
    return [sorted(file.path.split("_2026")[0] for file in one.files) for one in found.outputs]


# --- what is found


def test_outputs_are_found_with_their_files_and_the_rest_is_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    output(root / "a")
    output(root / "b" / "c")
    (root / "notes.txt").write_text("x")
    (root / "empty.json").write_bytes(b"")
    (root / ".hidden.json").write_bytes(b"{}")
    output(root / ".cache")
    found = find_outputs([root])
    assert files_of(found) == [
        ["runs/a/results", "runs/a/samples_math_500"],
        ["runs/b/c/results", "runs/b/c/samples_math_500"],
    ]
    assert [file.path for file in found.others] == ["runs/empty.json", "runs/notes.txt"]
    assert not found.unreadable
    assert found.outputs[0].place.startswith(str(root / "a" / "results_"))
    assert found.outputs[0].bytes == sum(file.stat().st_size for file in (root / "a").iterdir())


def test_files_named_one_by_one_belong_together(tmp_path: Path) -> None:
    files = sorted(output(tmp_path / "a").iterdir())
    assert files_of(find_outputs(reversed(files))) == [["a/results", "a/samples_math_500"]]


def test_folders_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    roots = [output(tmp_path / "x" / "out"), output(tmp_path / "y" / "out"), output(tmp_path / "2")]
    assert [paths[0] for paths in files_of(find_outputs(roots))] == ["2/out/results", "3/2/results", "out/results"]


@pytest.mark.parametrize("again", [".", "a", "a/../a", "link"])
def test_what_is_named_twice_is_found_once(tmp_path: Path, again: str) -> None:
    output(tmp_path / "a")
    (tmp_path / "link").symlink_to("a")
    assert len(find_outputs([tmp_path / "a", tmp_path / again]).outputs) == 1
    assert len(find_outputs([tmp_path / again, tmp_path / "a"]).outputs) == 1


def test_links_to_files_are_followed_and_a_file_is_there_once(tmp_path: Path) -> None:
    real = output(tmp_path / "blobs")
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in real.iterdir():
        (linked / file.name).symlink_to(file)
    assert files_of(find_outputs([linked])) == [["linked/results", "linked/samples_math_500"]]
    (real / "a_latest.json").symlink_to(next(real.glob("results*")).name)
    assert files_of(find_outputs([tmp_path])) == [
        [f"{tmp_path.name}/blobs/{n}" for n in ("results", "samples_math_500")]
    ]


def test_dangling_links_and_loops_are_no_obstacle(tmp_path: Path) -> None:
    output(tmp_path / "a")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "gone.eval").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.eval")
    found = find_outputs([tmp_path])
    assert len(found.outputs) == 1
    assert [(item.place, item.reason) for item in found.unreadable] == [
        (str(tmp_path / "gone.eval"), "No such file or directory")
    ]


def test_a_file_that_is_closed_to_us_keeps_no_other_from_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's refusal is played; one comes early, one only when it is opened."""
    output(tmp_path / "a")
    early, late = tmp_path / "a" / "early.json", tmp_path / "a" / "late.json"
    early.write_text("{}")
    late.write_text("{}")
    monkeypatch.setattr("os.access", lambda path, _: path != early)
    really_open = File.open

    def refuse(file: File) -> object:
        if file.location == late:
            raise PermissionError(13, "Permission denied", str(late))
        return really_open(file)

    monkeypatch.setattr(File, "open", refuse)
    found = find_outputs([tmp_path])
    assert len(found.outputs) == 1
    assert {item.place: item.reason for item in found.unreadable} == {
        str(early): "no permission to read it",
        str(late): "Permission denied",
    }


def test_a_file_that_goes_while_it_is_looked_for_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output(tmp_path / "a")
    late = tmp_path / "a" / "late.json"
    late.write_text("{}")
    really_open = File.open

    def remove(file: File) -> object:
        late.unlink(missing_ok=True)
        return really_open(file)

    monkeypatch.setattr(File, "open", remove)
    found = find_outputs([tmp_path])
    assert (len(found.outputs), len(found.unreadable), len(found.others)) == (1, 0, 0)


def test_archives_are_found_by_name_in_folders_and_by_content_when_named(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", "x")
    checkpoint = zipped(tmp_path / "model.bin", "x")
    (tmp_path / "fake.zip").write_text("no zip")
    found = find_outputs([tmp_path])
    assert [(one.format, one.files[0].name, one.is_named) for one in found.outputs] == [(None, "a.zip", False)]
    [named] = find_outputs([checkpoint]).outputs
    assert (named.format, named.is_named) == (None, True)


def test_only_one_format_is_found_when_asked_for(tmp_path: Path) -> None:
    output(tmp_path / "a")
    assert len(find_outputs([tmp_path], "lm-eval").outputs) == 1
    assert find_outputs([tmp_path], "helm").outputs == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", DOCUMENT_BYTES, True),
        ("a.json", b'{"data": [' + b"1," * 100_000 + b"1]," + DOCUMENT_BYTES[1:], True),
        ("a.json", DOCUMENT_BYTES[:-1] + b" " * 200_000 + b"}", True),
        ("a.ndjson.gz", gzip.compress(DOCUMENT_BYTES, mtime=0), True),
        ("a.json.gz", gzip.compress(b'{"data": [' + b"1," * 100_000 + b"1]," + DOCUMENT_BYTES[1:], mtime=0), True),
        ("a.json.gz", gzip.compress(b'{"a": 1}', mtime=0), False),
        ("a.json.gz", b"\x1f\x8bdamaged", True),  # whoever reads it says what is wrong
        ("a.json", b"", False),
        ("a.json", b'{"task_name": "x"}', False),
        ("report.json", b'{"dry_run": false, "findings": [{"runs": [{"benchmark_name": "mmlu"}]}]}', False),
        ("a.txt", DOCUMENT_BYTES, False),
    ],
)
def test_documents_beside_outputs_are_told_by_their_envelope(
    tmp_path: Path, name: str, content: bytes, expected: bool
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert is_document(File(name, file, len(content))) is expected


# --- what is told of it


def finding(**changes: object) -> ImportedFinding:
    return ImportedFinding.model_validate({"format": "lm-eval", "place": "a/results.json", "files": 2, **changes})


def figure(**changes: object) -> ComparedAggregate:
    fields = {"task": "t", "name": "acc", "kind": "mean", "stated": 0.5, "samples": 4, "agrees": False}
    return ComparedAggregate.model_validate({**fields, "recomputed": 0.75, **changes})


def run(**changes: object) -> ImportedRun:
    fields = {"result_name": "n", "benchmark_name": "mmlu", "registered": True, "model_id": "m", "tasks": ["t"]}
    return ImportedRun.model_validate({**fields, "status": "created", "questions": 3, **changes})


PROBLEM = InvalidRequest("in short", faults=[Fault(place="data", detail="is odd")]).document()


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"aggregates": [figure(agrees=True), figure(agrees=None)]}, []),
        ({"problem": "is empty"}, ["is empty"]),
        ({"aggregates": [figure()]}, ["t acc: stated 0.5, its 4 rows come to 0.75"]),
        (
            {"aggregates": [figure(kind="stderr", stated=None, note="n")]},
            ["t acc stderr: stated not a number, its 4 rows come to 0.75; n"],
        ),
        (
            {"aggregates": [figure()] * 9},
            [*["t acc: stated 0.5, its 4 rows come to 0.75"] * 4, "and 5 more figures that do not come out"],
        ),
        ({"incomplete": "it was cancelled"}, ["the run is not whole: it was cancelled"]),
        ({"runs": [run(status="refused", problem=PROBLEM)]}, ["n: in short", "    data: is odd"]),
        (
            {"runs": [run(status="conflict", problem=PROBLEM)] * 6},
            [*["n: in short", "    data: is odd"] * 4, "and 2 more runs that are not stored"],
        ),
        (
            {"refused": [RowsLeftOut(reason="no id", rows=1, places=["a:1"])]},
            ["1 row refused: no id (a:1)"],
        ),
        (
            {"refused": [RowsLeftOut(reason=f"r{n}", rows=n, places=["a:1"]) for n in range(1, 7)]},
            [f"{n} row{'s' if n > 1 else ''} refused: r{n} (a:1)" for n in range(1, 5)]
            + ["and 11 more rows refused for other reasons"],
        ),
    ],
)
def test_losses_have_a_line_each(changes: dict[str, object], lines: list[str]) -> None:
    assert losses(finding(**changes)) == lines


def test_the_report_stays_small_however_much_there_is(tmp_path: Path) -> None:
    [one] = find_outputs([output(tmp_path / "a")]).outputs
    report = HarnessReport()
    answer = ImportReport(
        dry_run=False,
        findings=[finding(problem="odd", rows_taken=2)],
        unrecognised=[],
        files_unrecognised=0,
        complete=False,
    )
    for _ in range(1000):
        report.add(one, answer)
    assert (report.losing, len(report.losses), report.total.taken, report.complete) == (1000, 10, 2000, False)


# --- pushing


class ImportDouble(ResultsDouble):
    """Takes documents as ResultsDouble does, and imports: each is one run, of as many rows as it has files."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.imports: list[tuple[dict[str, str], dict[str, bytes]]] = []
        self.import_answers: list[httpx.Response | Exception] = []
        """What the next imports are answered instead."""

    def listen(self, kind: str = "standardized_output") -> None:
        super().listen(kind)
        respx.post(f"{self.url}/import").mock(side_effect=self.take_import)

    async def take_import(self, request: httpx.Request) -> httpx.Response:
        body = b"".join([block async for block in request.stream])  # type: ignore[union-attr]
        if request.headers.get("content-encoding") == "zstd":
            body = decompress(body, 1 << 30)
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        files = {}
        for part in message_from_bytes(head + body).walk():
            if name := part.get_filename():
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                files[name] = content
        self.imports.append((dict(request.url.params), files))
        if self.import_answers:
            answer = self.import_answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        taken = finding(place=next(iter(files)), files=len(files), rows_taken=len(files), runs=[run()])
        return import_answer(taken)


def import_answer(*findings: ImportedFinding) -> httpx.Response:
    report = ImportReport(
        dry_run=False,
        findings=list(findings),
        unrecognised=[],
        files_unrecognised=0,
        complete=not any(map(losses, findings)),
    )
    return httpx.Response(200, text=report.model_dump_json())


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImportDouble]:
    monkeypatch.setattr("random.uniform", lambda _, longest: longest / 10)
    with respx.mock:
        double = ImportDouble(URL)
        double.listen()
        yield double


def push(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["push", *map(str, words), "--url", URL, "--patience", "0.3"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_outputs_documents_and_archives_are_pushed_together(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path / "a")
    output(tmp_path / "b", model="other")
    zipped(tmp_path / "c.zip", "x")
    (tmp_path / "d.json").write_bytes(DOCUMENT_BYTES)
    (tmp_path / "config.json").write_bytes(b"{}")
    code, out, err = push(tmp_path)
    assert (code, err) == (0, "")
    sent = Counter((parameters.get("format"), len(files)) for parameters, files in service.imports)
    assert sent == {("lm-eval", 2): 2, (None, 1): 1}
    assert service.documents == [DOCUMENT_BYTES]
    assert f"1 file passed by, neither of a harness nor documents: {tmp_path / 'config.json'}\n" in out
    assert "3 runs of harnesses: 3 stored, 0 unchanged\n" in out
    assert out.endswith("1 stored, 0 unchanged, 0 refused; 10 answers\n")
    table = [line.split() for line in out.splitlines() if line.startswith(("harness ", "lm-evaluation-harness "))]
    assert table[1] == ["lm-evaluation-harness", "3", "5", "3", "5", "0", "0", "0", "0", "0"]


def test_what_is_chosen_goes_with_every_output(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path / "a")
    assert (
        push(tmp_path, "--model", "m", "--metric", "acc", "--filter", "f", "--timestamp", "2024-01-01T00:00:00Z")[0]
        == 0
    )
    assert [parameters for parameters, _ in service.imports] == [
        {"format": "lm-eval", "model_id": "m", "metric": "acc", "filter": "f", "timestamp": "2024-01-01T00:00:00Z"}
    ]


def test_raw_recognises_nothing(tmp_path: Path, service: ImportDouble) -> None:
    service.listen("raw_input")
    assert push(output(tmp_path / "a"), "--raw")[0] == 0
    assert (service.imports, len(service.documents)) == ([], 3)


def test_a_trial_says_that_it_does_not_look_at_documents(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path / "a")
    (tmp_path / "d.json").write_bytes(DOCUMENT_BYTES)
    code, out, _ = push(tmp_path, "--dry-run")
    assert (code, service.documents, service.imports[0][0]["dry_run"]) == (0, [], "true")
    assert "1 file of documents not looked at: a trial is for what harnesses wrote\n" in out
    assert "nothing stored, for this was a trial" in out
    code, out, err = push(tmp_path / "d.json", "--dry-run")
    assert (code, err) == (1, "")
    assert "1 file of documents not looked at" in out


def test_a_format_alone_leaves_all_else_and_says_so(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path / "a")
    (tmp_path / "d.json").write_bytes(DOCUMENT_BYTES)
    code, out, _ = push(tmp_path, "--format", "lm-eval")
    assert (code, len(service.imports), service.documents) == (0, 1, [])
    assert f"1 file passed by, for --format lm-eval was asked for alone: {tmp_path / 'd.json'}\n" in out
    code, out, err = push(tmp_path, "--format", "helm")
    assert (code, out, len(service.imports), service.documents) == (1, "", 1, [])
    assert (
        err
        == f"scorehouse: no output of HELM in {tmp_path} (3 other files); without --format everything is looked for\n"
    )


def test_what_was_named_and_is_nothing_is_told(tmp_path: Path, service: ImportDouble) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("x")
    code, out, _ = push(output(tmp_path / "a"), notes, tmp_path / "absent")
    assert code == 1
    assert f"unreadable {notes}\n" in out
    assert f"unreadable {tmp_path / 'absent'}\n" in out
    assert len(service.imports) == 1


def test_an_archive_that_holds_nothing_is_a_failure_only_if_it_was_named(tmp_path: Path, service: ImportDouble) -> None:
    archive = zipped(tmp_path / "c.zip", "x")
    output(tmp_path / "a")
    nothing = problem_answer(UnrecognisedFormat("none of 1 file"))
    service.import_answers = [import_answer(finding(runs=[run()])), nothing]
    code, out, _ = push(tmp_path, "--jobs", "1")
    assert code == 0
    assert f"1 file with nothing of a harness in it: {archive}\n" in out
    service.import_answers = [nothing]
    code, out, _ = push(archive)
    assert code == 1
    assert f"not stored {archive}\n    Nothing in the files is a known harness's output: none of 1 file\n" in out


@pytest.mark.parametrize(
    "problem", [InvalidRequest("bad [bold]file[/bold]\nand more"), Problem("The service failed; its log tells why.")]
)
def test_an_output_that_is_refused_or_failed_over_leaves_the_others_be(
    tmp_path: Path, service: ImportDouble, problem: Problem
) -> None:
    for number in range(4):
        output(tmp_path / f"{number}")
    service.import_answers = [problem_answer(problem)] * 2
    code, out, _ = push(tmp_path, "--jobs", "1")
    assert (code, len(service.imports)) == (1, 4)
    first, *rest = out.splitlines()
    assert first.startswith(f"not stored {tmp_path / '0' / 'results_'}")
    assert rest[0] == f"    {problem.title}: {problem.detail}".replace("\n", "\\n")
    assert "2 runs of harnesses: 2 stored" in out


@pytest.mark.parametrize("status", [401, 403])
def test_what_concerns_every_output_ends_the_push_at_once(tmp_path: Path, service: ImportDouble, status: int) -> None:
    for number in range(5):
        output(tmp_path / f"{number}")
    problem = {"type": "t", "title": "Title", "status": status, "detail": "the detail"}
    service.import_answers = [httpx.Response(status, json=problem)] * 5
    code, _, err = push(tmp_path, "--jobs", "1")
    assert (code, len(service.imports)) == (1, 1)
    assert "Title: the detail" in err


def test_a_service_that_cannot_import_yet_is_called_old(tmp_path: Path, service: ImportDouble) -> None:
    service.import_answers = [problem_answer(NotFound("there is no /import"))]
    code, _, err = push(output(tmp_path / "a"))
    assert code == 1
    assert "the results service there is older than this command" in err


def test_a_service_that_restarts_is_waited_for_and_sent_all_again(tmp_path: Path, service: ImportDouble) -> None:
    away = problem_answer(StoreUnavailable("the store is away", retry_after_s=0))
    service.import_answers = [away, httpx.ReadError("reset"), httpx.ConnectError("refused")]
    code, out, err = push(output(tmp_path / "a"))
    assert (code, len(service.imports)) == (0, 4)
    assert service.imports[0] == service.imports[-1]
    assert "1 stored" in out
    assert err.splitlines()[-1] == "the service answers again"


def test_an_upload_that_is_not_taken_compressed_goes_plain(tmp_path: Path, service: ImportDouble) -> None:
    service.import_answers = [problem_answer(TooLarge("over 200 times as large"))]
    code, _, _ = push(output(tmp_path / "a", *[1.0] * 1000))
    encodings = [call.request.headers.get("content-encoding") for call in respx.calls]
    assert (code, encodings) == (0, ["zstd", None])
    assert service.imports[0] == service.imports[1]
    assert respx.calls[1].request.headers["content-length"] != "0"


def test_a_spool_keeps_documents_and_says_what_it_does_not_keep(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path / "in" / "a")
    output(tmp_path / "in" / "b")
    (tmp_path / "in" / "d.json").write_bytes(DOCUMENT_BYTES)
    service.import_answers = [httpx.ConnectError("refused")] * 99
    spool = ("--spool-dir", tmp_path / "spool")
    code, out, err = push(tmp_path / "in", *spool, "--jobs", "2")
    assert code == 1
    assert "0 stored, 0 unchanged, 0 refused, 1 spooled" in out
    assert "2 outputs of harnesses not sent: cannot reach" in err
    assert "the spool keeps documents only" in err
    assert "1 document waits in the spool" in err
    assert service.documents == []

    asked = len(service.imports)
    service.away = [httpx.ConnectError("refused")] * 99  # now the flush finds out, and nothing is asked twice
    code, _, err = push(tmp_path / "in", *spool)
    assert (code, len(service.imports)) == (1, asked)
    assert "2 outputs of harnesses not sent" in err

    service.away, service.import_answers = [], []
    assert push(tmp_path / "in", *spool)[0] == 0
    assert len(service.imports) == asked + 2
    assert set(service.documents) == {DOCUMENT_BYTES}


def test_an_output_that_changes_while_it_is_sent_is_told(
    tmp_path: Path, service: ImportDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = next(output(tmp_path / "a").glob("samples*"))
    really = ImportDouble.take_import

    async def write_on(double: ImportDouble, request: httpx.Request) -> httpx.Response:
        with samples.open("ab") as more:
            more.write(b"{}\n")
        return await really(double, request)

    monkeypatch.setattr(ImportDouble, "take_import", write_on)
    service.listen()
    code, out, _ = push(tmp_path)
    assert code == 1
    assert "it changed while it was sent; push it again when it is finished" in out


def test_an_output_that_goes_before_it_is_sent_is_told(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path / "a")
    output(tmp_path / "b")
    found = find_outputs([tmp_path])
    lost = found.outputs[1].files[0].location
    lost.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scorehouse.push_command.find_outputs", lambda *_: found)
        code, out, _ = push(tmp_path)
    assert (code, len(service.imports)) == (1, 1)
    assert f"not stored {lost}\n    {lost}: No such file or directory\n" in out


# --- the report


def report_of(file: Path) -> ImportReport:
    return ImportReport.model_validate_json(file.read_bytes())


def test_the_report_has_everything(tmp_path: Path, service: ImportDouble) -> None:
    for number in range(3):
        output(tmp_path / "in" / f"{number}")
    odd = finding(runs=[run()], aggregates=[figure(stated=None, recomputed=None, agrees=None)])
    service.import_answers = [problem_answer(InvalidRequest("bad")), import_answer(odd)]
    file = tmp_path / "report.json"
    assert push(tmp_path / "in", "--report", file, "--jobs", "1")[0] == 1
    report = report_of(file)
    assert (report.dry_run, report.complete) == (False, False)
    assert [one.problem for one in report.findings] == ["The request has values that are not allowed: bad", None, None]

    assert push(tmp_path / "in", "--report", file)[0] == 0
    assert report_of(file).complete


def test_a_report_in_the_folder_is_no_document(tmp_path: Path, service: ImportDouble) -> None:
    output(tmp_path)
    file = tmp_path / "report.json"
    for _ in range(2):
        assert push(tmp_path, "--report", file)[0] == 0
        assert report_of(file).complete
    assert push(tmp_path)[0] == 0
    assert service.documents == []


def test_a_push_that_fails_leaves_a_report_of_what_it_did(tmp_path: Path, service: ImportDouble) -> None:
    for number in range(3):
        output(tmp_path / "in" / f"{number}")
    denied = {"type": "t", "title": "Title", "status": 403, "detail": "the detail"}
    service.import_answers = [import_answer(finding(runs=[run()])), httpx.Response(403, json=denied)]
    file = tmp_path / "report.json"
    assert push(tmp_path / "in", "--report", file, "--jobs", "1")[0] == 1
    report = report_of(file)
    assert (len(report.findings), report.complete) == (1, False)


@pytest.mark.parametrize("place", ["absent/report.json", "/dev/full"])
def test_a_report_that_cannot_be_written_is_told(tmp_path: Path, service: ImportDouble, place: str) -> None:
    code, _, err = push(output(tmp_path / "a"), "--report", tmp_path / place)
    assert code == 1
    assert f"report {tmp_path / place}" in err
    assert len(service.imports) == (0 if place.startswith("absent") else 1)
    assert "Traceback" not in err


def test_ten_losses_are_told_and_the_rest_counted(tmp_path: Path, service: ImportDouble) -> None:
    for number in range(13):
        output(tmp_path / f"{number}")
    lossy = import_answer(finding(runs=[run()], incomplete="it was \x1b[31mcancelled\n2 runs of harnesses: 2 stored"))
    service.import_answers = [lossy] * 13
    _, out, _ = push(tmp_path)
    told = [line for line in out.splitlines() if "the run is not whole" in line]
    assert told == ["    the run is not whole: it was \\x1b[31mcancelled\\n2 runs of harnesses: 2 stored"] * 10
    assert "and 3 more with something lost or not equal; --report FILE has every one\n" in out


def test_runs_of_unknown_benchmarks_are_told_once(tmp_path: Path, service: ImportDouble) -> None:
    service.import_answers = [import_answer(finding(runs=[run(registered=False), run(registered=False)]))]
    _, out, _ = push(output(tmp_path / "a"))
    assert "2 runs of benchmarks that this registry does not know: kept" in out


def test_jobs_are_how_many_outputs_go_at_once(
    tmp_path: Path, service: ImportDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    under_way = 0
    really = ImportDouble.take_import
    two = asyncio.Barrier(2)

    async def count(double: ImportDouble, request: httpx.Request) -> httpx.Response:
        nonlocal under_way
        under_way += 1
        at_once.append(under_way)
        await two.wait()
        answer = await really(double, request)
        under_way -= 1
        return answer

    monkeypatch.setattr(ImportDouble, "take_import", count)
    service.listen()
    for number in range(6):
        output(tmp_path / f"{number}")
    assert push(tmp_path, "--jobs", "2")[0] == 0
    assert (len(at_once), max(at_once)) == (6, 2)


def test_ctrl_c_ends_it_and_tells_what_was_stored(tmp_path: Path) -> None:
    for number in range(3):
        output(tmp_path / "in" / f"{number}")
    file = tmp_path / "report.json"
    with importing() as (url, service):
        command = [sys.executable, "-m", "scorehouse", "push", str(tmp_path / "in"), "--jobs", "1", "--url", url]
        service.hold_after = 1
        service.hold.clear()
        with subprocess.Popen(
            [*command, "--report", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as pushing:
            assert service.came.acquire(timeout=30)
            assert service.came.acquire(timeout=30)
            pushing.send_signal(signal.SIGINT)
            out, err = pushing.communicate(timeout=30)
    assert pushing.returncode == 130
    assert "interrupted (1 output sent without an answer); push again to go on" in err
    assert "Traceback" not in err
    assert "lm-evaluation-harness        1 " in out
    report = report_of(file)
    assert (len(report.findings), report.complete) == (1, False)


def test_on_a_terminal_the_bar_counts_bytes_while_they_are_sent(tmp_path: Path) -> None:
    """A terminal is too much for a test; the file that is read is told of block by block."""
    told: list[int] = []
    [one] = find_outputs([output(tmp_path / "a", *[1.0] * 3000)]).outputs
    with importing() as (url, _):

        async def push_one() -> None:
            async with AsyncScorehouse(url) as house:
                report = HarnessReport()
                await push_outputs(
                    house, [one], report, parameters={}, jobs=1, on_read=lambda _, read: told.append(read)
                )

        asyncio.run(push_one())
    assert (told[0], told[-1]) == (0, one.bytes)
    assert len(told) > 4

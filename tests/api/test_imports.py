"""`POST /import`: files become a raw input with attachments, and standardized results; or nothing changes."""

import asyncio
import errno
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from results_service.imports import Importer, _paths_beside
from results_service.store import ResultStore
from scorehouse.client import AsyncScorehouse
from shared.formats.harness import Finding
from shared.formats.known import find_all
from shared.formats.standardize import StandardResult
from shared.formats.tree import File, read_tree
from shared.problems import StoreUnavailable
from tests.api.conftest import Stack
from tests.harness_files import TIME, lm_eval_files, write_files

if TYPE_CHECKING:
    from tests.conftest import ResultsUnderTest, StartResults

FILES = lm_eval_files({"math_500": [1.0, 0.0, 1.0, 1.0]})


def form(files: Mapping[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for name, content in files.items()]


async def send(client: httpx.AsyncClient, files: Mapping[str, bytes], **parameters: Any) -> httpx.Response:
    return await client.post("/import", files=form(files), params=parameters)


def zipped(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


async def test_files_become_a_raw_input_and_standardized_results(results: "ResultsUnderTest") -> None:
    answer = await send(results.client, FILES)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["complete"]
    [finding] = report["findings"]
    [run] = finding["runs"]
    assert (finding["format"], finding["files"], finding["rows_taken"], finding["rows_refused"]) == ("lm-eval", 2, 4, 0)
    assert (finding["agreeing"], finding["differing"]) == (1, 0)
    assert finding["fields_left"]["arguments"] == 4
    assert (run["status"], run["benchmark_name"], run["registered"], run["questions"]) == (
        "created",
        "math500",
        True,
        4,
    )

    stored = (await results.client.get(f"/standardized_output/{run['result_name']}")).json()
    assert stored["timestamp"] == TIME
    assert stored["model_id"] == "org/model"
    assert stored["source"] == "lm-eval"
    assert stored["provenance"]["harness_version"] == "0.4.9"
    assert stored["provenance"]["raw_input"] == finding["raw_input"]
    assert [question["score"] for question in stored["data"]["questions"]] == [1.0, 0.0, 1.0, 1.0]

    raw = (await results.client.get(f"/raw_input/{finding['raw_input']}")).json()
    assert raw["standardization"] == "done"
    assert {file["path"] for file in raw["data"]["files"]} == set(FILES)
    for name, content in FILES.items():
        kept = await results.client.get(f"/raw_input/{finding['raw_input']}/files/{name}")
        assert kept.content == content
    told = await results.client.get(f"/raw_input/{finding['raw_input']}/standardization")
    assert told.json() == [finding]


async def test_the_same_files_are_unchanged_however_they_come(results: "ResultsUnderTest") -> None:
    first = (await send(results.client, FILES)).json()["findings"][0]
    before = results.stored()
    elsewhere = {f"a/b/{name}": content for name, content in FILES.items()}
    ways = [
        await send(results.client, FILES),
        await send(results.client, elsewhere),
        await results.client.post("/import", content=zipped(elsewhere), headers={"Content-Type": "application/zip"}),
        await results.client.post("/import", content=tarred(FILES)),
        await send(results.client, {"all.zip": zipped(FILES)}),
    ]
    for answer in ways:
        [finding] = answer.json()["findings"]
        assert [run["status"] for run in finding["runs"]] == ["unchanged"]
        assert finding["raw_input"] == first["raw_input"]
    assert results.stored() == before


async def test_renamed_files_are_unchanged_too(results: "ResultsUnderTest") -> None:
    first = (await send(results.client, lm_eval_files({"math_500": [1.0]}))).json()["findings"][0]
    names = iter(("results.json", "samples_math_500.jsonl"))
    renamed = {next(names): content for content in lm_eval_files({"math_500": [1.0]}).values()}
    [finding] = (await send(results.client, renamed)).json()["findings"]
    assert (finding["raw_input"], finding["runs"][0]["status"]) == (first["raw_input"], "unchanged")
    kept = await results.client.get(f"/raw_input/{first['raw_input']}/files")
    assert "results.json" not in kept.text


async def test_a_trial_stores_nothing(results: "ResultsUnderTest") -> None:
    before = results.stored()
    report = (await send(results.client, FILES, dry_run="true")).json()
    [finding] = report["findings"]
    assert report["dry_run"]
    assert (finding["raw_input"], finding["rows_taken"], finding["agreeing"]) == (None, 4, 1)
    assert finding["runs"][0]["status"] is None
    assert results.stored() == before


async def test_a_body_of_one_file_is_named_by_the_address(results: "ResultsUnderTest") -> None:
    results_file = next(iter(FILES.values()))
    answer = await results.client.post("/import", content=results_file, params={"filename": "any.json"})
    [finding] = answer.json()["findings"]
    assert (finding["place"], finding["runs"][0]["questions"]) == ("any.json", 0)


async def test_a_figure_that_does_not_come_out_is_told(results: "ResultsUnderTest") -> None:
    [finding] = (await send(results.client, lm_eval_files({"math_500": [1.0, 0.0]}, stated=0.9))).json()["findings"]
    [figure] = [figure for figure in finding["aggregates"] if figure["agrees"] is False]
    assert (figure["stated"], figure["recomputed"], figure["difference"]) == (0.9, 0.5, -0.4)


async def test_rows_that_cannot_be_taken_are_told_and_the_others_stored(results: "ResultsUnderTest") -> None:
    files = dict(FILES)
    name = next(name for name in files if name.startswith("samples"))
    files[name] += b'{"doc_id": 9, "cut sho'
    report = (await send(results.client, files)).json()
    [finding] = report["findings"]
    assert not report["complete"]
    assert (finding["rows_taken"], finding["rows_refused"]) == (4, 1)
    assert finding["refused"][0]["places"] == [f"{name}:5"]
    raw = (await results.client.get(f"/raw_input/{finding['raw_input']}")).json()
    assert raw["standardization"] == "partly"


async def test_what_nobody_knows_changes_nothing(results: "ResultsUnderTest") -> None:
    before = results.stored()
    answer = await send(results.client, {"notes.txt": b"hello", "x.json": b'{"a": 1}'})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:scorehouse:problem:unrecognised-format"
    assert "POST /raw_input" in answer.json()["detail"]
    assert results.stored() == before


async def test_files_beside_what_is_known_are_listed(results: "ResultsUnderTest") -> None:
    report = (await send(results.client, {**FILES, "notes.txt": b"hello"}, dry_run="true")).json()
    assert (report["unrecognised"], report["files_unrecognised"]) == (["notes.txt"], 1)


@pytest.mark.parametrize(
    ("content", "content_type", "place", "said"),
    [
        (b"", "application/zip", "body", "is empty"),
        (b"--b\r\n", "multipart/form-data", "Content-Type", "with a boundary"),
        (b"--b\r\n", "multipart/form-data; boundary=b", "body", "ends in the middle"),
        (b"nonsense" * 100, "multipart/form-data; boundary=b", "body", "ends in the middle"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", "body", "has no files"),
        (
            b'--b\r\nContent-Disposition: form-data; name="dry_run"\r\n\r\ntrue\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            "form field 'dry_run'",
            "options such as dry_run go into the address",
        ),
        (b"--b\r\nX: %b\r\n" % (b"y" * 100_000), "multipart/form-data; boundary=b", "body", "is no form that is read"),
        (
            b'--b\r\nContent-Disposition: form-data; name="f"; filename="\xff"\r\n\r\n{}\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            "body",
            "is no multipart form",
        ),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    results: "ResultsUnderTest", content: bytes, content_type: str, place: str, said: str
) -> None:
    answer = await results.client.post("/import", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 422
    [fault] = answer.json()["faults"]
    assert fault["place"] == place
    assert said in fault["detail"]


@pytest.mark.parametrize("name", ["../out.json", "/etc/passwd", "a/../../b.json", "C:\\x.json", "a\\..\\..\\b"])
async def test_names_that_lead_elsewhere_are_refused(results: "ResultsUnderTest", name: str) -> None:
    before = results.stored()
    part = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n{{}}\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await results.client.post("/import", content=part.encode(), headers=headers)
    assert answer.status_code == 422, answer.text
    assert results.stored() == before


async def test_an_archive_that_leads_elsewhere_is_refused(results: "ResultsUnderTest") -> None:
    before = results.stored()
    answer = await results.client.post("/import", content=zipped({**FILES, "../../evil": b"x"}))
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:scorehouse:problem:unsafe-archive")
    assert "../../evil" in answer.json()["detail"]
    assert results.stored() == before


async def test_limits_of_an_import_are_its_own(start_results: "StartResults") -> None:
    async with start_results(max_body_bytes=100, max_import_bytes=20_000, max_import_files=3) as results:
        assert (await send(results.client, FILES)).status_code == 200
        large = await send(results.client, {**FILES, "more": b"x" * 20_000})
        assert (large.status_code, large.json()["type"]) == (413, "urn:scorehouse:problem:too-large")
        assert "MAX_IMPORT_BYTES" in large.json()["detail"]
        many = await send(results.client, {**FILES, "a": b"", "b": b""})
        assert many.status_code == 413
        assert "MAX_IMPORT_FILES" in many.json()["detail"]
        bomb = await results.client.post("/import", content=zipped({**FILES, "zeros": bytes(1_000_000)}))
        assert bomb.status_code in (413, 422)


@pytest.mark.parametrize(
    "parameters", [{"format": "unheard-of"}, {"dry_run": "perhaps"}, {"colour": "red"}, {"timestamp": "yesterday"}]
)
async def test_options_are_checked(results: "ResultsUnderTest", parameters: dict[str, str]) -> None:
    assert (await send(results.client, FILES, **parameters)).status_code == 422


async def test_a_format_may_be_named(results: "ResultsUnderTest") -> None:
    assert (await send(results.client, FILES, format="lm-eval", dry_run="true")).status_code == 200
    other = await send(results.client, FILES, format="helm", dry_run="true")
    assert (other.status_code, other.json()["type"]) == (422, "urn:scorehouse:problem:unrecognised-format")


async def test_a_conflict_is_told_with_its_run(results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch) -> None:
    run = (await send(results.client, FILES)).json()["findings"][0]["runs"][0]
    # The same run id with other scores: as when a reader has learned to read more of the same file.
    stored = (await results.client.get(f"/standardized_output/{run['result_name']}")).json()
    monkeypatch.setattr("shared.formats.rows.TEXT_MAX", 0)
    report = (await send(results.client, FILES)).json()
    [now] = report["findings"][0]["runs"]
    assert (now["status"], now["problem"]["status"], report["complete"]) == ("conflict", 409, False)
    after = (await results.client.get(f"/standardized_output/{run['result_name']}")).json()
    assert after == stored


async def test_a_store_that_goes_away_is_503_and_the_same_again_completes_it(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ResultStore.put
    calls = 0

    async def fail_second(self: ResultStore, result: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnavailable("gone", retry_after_s=1)
        return await put(self, result)

    monkeypatch.setattr(ResultStore, "put", fail_second)
    assert (await send(results.client, FILES)).status_code == 503
    report = (await send(results.client, FILES)).json()
    assert [run["status"] for run in report["findings"][0]["runs"]] == ["created"]
    assert len((await results.client.get("/raw_input")).json()["items"]) == 1


async def test_many_at_once_are_one(start_results: "StartResults") -> None:
    async with start_results() as one, start_results() as other:
        answers = await asyncio.gather(*(send(results.client, FILES) for _ in range(4) for results in (one, other)))
        statuses = [answer.json()["findings"][0]["runs"][0]["status"] for answer in answers]
        assert sorted(statuses) == ["created"] + ["unchanged"] * 7
        feed = await one.client.get("/feed")
        assert feed.text.count("\n") == 1


async def test_one_run_from_two_files_at_the_same_time_is_one_result(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    log = inspect_log()
    first = (await send(results.client, {"log.json": log})).json()["findings"][0]
    keep_links = Importer._keep_links  # noqa: SLF001
    looked: list[int] = []

    async def look_too_early(self: Importer, found: Sequence[StandardResult]) -> None:
        looked.append(len(found))
        if len(looked) > 1:
            await keep_links(self, found)

    monkeypatch.setattr(Importer, "_keep_links", look_too_early)
    report = (await send(results.client, {"log.json": log + b"\n"})).json()
    [finding] = report["findings"]
    assert report["complete"]
    assert finding["raw_input"] != first["raw_input"]
    assert [run["status"] for run in finding["runs"]] == ["unchanged"]
    assert looked == [1, 1]


async def test_no_temporary_file_is_left(
    results: "ResultsUnderTest", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert (await send(results.client, {"a.zip": zipped(FILES)})).status_code == 200
    assert (await send(results.client, {"a": b"x"})).status_code == 422
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - it is empty


# --- Raw inputs that are standardized in the background ------------------------------------------------------------


async def settled(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            raw: dict[str, Any] = (await client.get(f"/raw_input/{name}")).json()
            if raw["standardization"] != "queued":
                return raw
            await asyncio.sleep(0.02)


def raw_input(data: Any, **changes: Any) -> bytes:
    envelope = {"run_id": "r", "benchmark_name": "math500", "model_id": "mine", "source": "lab", "timestamp": TIME}
    return json.dumps({**envelope, **changes, "data": data}).encode()


async def test_a_raw_input_is_standardized_in_the_background(results: "ResultsUnderTest") -> None:
    data = json.loads(next(iter(FILES.values())))
    answer = await results.client.post("/raw_input?standardize=true", content=raw_input(data))
    assert answer.status_code == 201
    raw = await settled(results.client, answer.json()["result_name"])
    assert raw["standardization"] == "done"
    [finding] = (await results.client.get(f"/raw_input/{raw['result_name']}/standardization")).json()
    stored = (await results.client.get(f"/standardized_output/{finding['runs'][0]['result_name']}")).json()
    assert (stored["model_id"], stored["benchmark_name"]) == ("mine", "math500")
    assert stored["provenance"]["raw_input"] == raw["result_name"]
    assert stored["data"]["score"] == 0.75


async def test_one_that_breaks_its_reader_holds_up_no_other(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(tree: Any, only: Any) -> Any:
        if b"broken" in next(iter(tree.values())).head():
            raise KeyError("unforeseen")
        return find_all(tree, only)

    monkeypatch.setattr("results_service.imports.find_all", find)
    states = {}
    for run_id, data in (("a", {"broken": 1}), ("b", json.loads(next(iter(FILES.values()))))):
        answer = await results.client.post("/raw_input?standardize=true", content=raw_input(data, run_id=run_id))
        states[run_id] = (await settled(results.client, answer.json()["result_name"]))["standardization"]
    assert states == {"a": "failed", "b": "done"}


async def test_one_that_nobody_knows_says_so(results: "ResultsUnderTest") -> None:
    answer = await results.client.post("/raw_input?standardize=true", content=raw_input({"anything": 1}))
    assert (await settled(results.client, answer.json()["result_name"]))["standardization"] == "unrecognised"


async def test_without_being_asked_nothing_is_standardized(results: "ResultsUnderTest") -> None:
    data = json.loads(next(iter(FILES.values())))
    name = (await results.client.post("/raw_input", content=raw_input(data))).json()["result_name"]
    assert (await results.client.get(f"/raw_input/{name}")).json()["standardization"] is None
    again = await results.client.post("/raw_input?standardize=true", content=raw_input(data))
    assert again.json()["status"] == "unchanged"
    assert (await settled(results.client, name))["standardization"] == "done"


async def test_what_a_crash_left_queued_is_done_at_the_next_start(start_results: "StartResults") -> None:
    async with start_results() as results:
        data = json.loads(next(iter(FILES.values())))
        name = (await results.client.post("/raw_input", content=raw_input(data))).json()["result_name"]
        results.database["raw_input"].update_one({}, {"$set": {"standardization": "queued"}})
    async with start_results() as results:
        assert (await settled(results.client, name))["standardization"] == "done"


@pytest.mark.parametrize("value", ["yes", "", "TRUE"])
async def test_the_flag_is_true_or_false(results: "ResultsUnderTest", value: str) -> None:
    answer = await results.client.post(f"/raw_input?standardize={value}", content=raw_input({}))
    assert (answer.status_code, answer.json()["faults"][0]["place"]) == (422, "query.standardize")


# --- Into the analysis ------------------------------------------------------------------------------------------------


async def test_imported_runs_are_grouped_at_once(stack: Stack) -> None:
    files = lm_eval_files({"mmlu_anatomy": [1.0, 0.0], "mmlu_virology": [1.0], "mmlu_philosophy": [0.0, 0.0]})
    assert (await send(stack.results, files)).json()["complete"]
    await stack.settle()
    answer = (await stack.analyze(benchmark="mmlu", level1="category", level2="subject")).json()
    assert {(row["category"], row["subject"]): row["mean"] for row in answer["rows"]} == {
        ("Humanities", "philosophy"): 0.0,
        ("Other", "anatomy"): 0.5,
        ("Other", "virology"): 1.0,
    }


async def test_a_folder_is_pushed_by_the_client(stack: Stack, tmp_path: Path) -> None:
    write_files(tmp_path, {f"deep/er/{name}": content for name, content in FILES.items()})
    async with AsyncScorehouse(str(stack.results.base_url)) as house:
        report = await house.import_files(list(read_tree(tmp_path).values()), format="lm-eval")
        assert [run.questions for run in report.findings[0].runs] == [4]


async def test_a_full_disk_is_503(results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("results_service.uploaded_files._Receiver._write", full)
    answer = await send(results.client, FILES)
    assert answer.status_code == 503
    assert "no room for temporary files" in answer.json()["detail"]
    assert answer.headers["retry-after"]


# --- Files as nobody foresaw them -----------------------------------------------------------------------------------


def inspect_log(**changes: Any) -> bytes:
    log: dict[str, Any] = {
        "version": 2,
        "status": "success",
        "results": None,
        "eval": {"task": "sums", "model": "org/model", "dataset": {"name": "sums"}, "created": TIME, "eval_id": "e1"},
        "samples": [{"id": 1, "epoch": 1, "input": "1+1?", "target": "2", "scores": {"match": {"value": "C"}}}],
    }
    return json.dumps(log | changes).encode()


async def test_halves_of_characters_do_not_stop_an_import(results: "ResultsUnderTest") -> None:
    samples = [
        {"id": number, "epoch": 1, "input": text, "target": "2", text: text, "scores": {"match": {"value": "C"}}}
        for number, text in enumerate(("What? \ud83d", "whole \U0001f600"))
    ]
    answer = await send(results.client, {"log.json": inspect_log(samples=samples)})
    assert answer.status_code == 200, answer.text
    [finding] = answer.json()["findings"]
    assert (finding["rows_taken"], finding["rows_refused"]) == (2, 0)
    assert set(finding["fields_left"]) == {"What? \ufffd", "whole \U0001f600"}


async def test_a_reader_that_fails_stops_no_other_finding(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("unforeseen")

    monkeypatch.setattr("shared.formats.inspect_log.InspectLog.read", fail)
    for dry_run in ("true", "false"):
        report = (await send(results.client, {"a.json": inspect_log(), **FILES}, dry_run=dry_run)).json()
        broken, good = report["findings"]
        assert not report["complete"]
        assert "not as its reader expects (KeyError)" in broken["problem"]
        assert (good["rows_taken"], good["problem"]) == (4, None)


async def test_a_reader_that_fails_midway_stores_nothing_of_it(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.formats.inspect_log.sample_of", lambda *_: 1 // 0)
    before = results.stored()
    for dry_run in ("true", "false"):
        report = (await send(results.client, {"a.json": inspect_log()}, dry_run=dry_run)).json()
        [run] = report["findings"][0]["runs"]
        assert (run["status"], "ZeroDivisionError" in run["problem"]["detail"]) == ("refused", True)
    assert results.stored() == before


async def test_a_report_stays_small_whatever_is_in_the_files(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.formats.harness.FIELDS_MAX", 10)
    monkeypatch.setattr("results_service.import_records.REPORT_MAX_BYTES", 2000)
    samples = [
        {"id": number, "epoch": 1, "input": "?", f"field {number} {'x' * 1000}": 1, "common": 1}
        for number in range(100)
    ]
    samples.append({"id": "y" * 5000})
    [finding] = (await send(results.client, {"log.json": inspect_log(samples=samples)})).json()["findings"]
    left = finding["fields_left"]
    assert (left["common"], left["(further fields)"], len(left)) == (100, 91, 11)
    assert max(map(len, left)) <= 301
    assert max(len(place) for refused in finding["refused"] for place in refused["places"]) <= 301
    [kept] = (await results.client.get(f"/raw_input/{finding['raw_input']}/standardization")).json()
    assert (kept["rows_taken"], kept["fields_left"]) == (finding["rows_taken"], {})
    assert "too much to be kept" in kept["warnings"][0]


async def test_stated_figures_are_listed_up_to_a_number_those_that_differ_first(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("results_service.imports.AGGREGATES_MAX", 1)
    files = {**lm_eval_files({"math_500": [1.0]}), **lm_eval_files({"math_500": [1.0], "aime24": [0.0]}, stated=0.0)}
    [finding] = (await send(results.client, files, dry_run="true")).json()["findings"]
    assert (finding["agreeing"], finding["differing"]) == (1, 1)
    assert [figure["agrees"] for figure in finding["aggregates"]] == [False]
    assert "2 stated figures are counted, and 1 of them are listed" in finding["warnings"]


# --- Names that are taken, and crashes between ------------------------------------------------------------------------


async def test_files_said_to_be_another_models_are_a_conflict_and_others_are_stored(
    results: "ResultsUnderTest",
) -> None:
    await send(results.client, FILES)
    other = {f"b/{name}": content for name, content in lm_eval_files({"aime24": [1.0]}).items()}
    again = {f"a/{name}": content for name, content in FILES.items()}
    answer = await send(results.client, again | other, model_id="mine")
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["findings"]
    assert (first["runs"][0]["status"], first["runs"][0]["problem"]["status"]) == ("conflict", 409)
    assert (second["runs"][0]["status"], second["runs"][0]["model_id"]) == ("created", "mine")


async def test_a_crash_between_attached_files_is_completed(results: "ResultsUnderTest") -> None:
    [finding] = (await send(results.client, FILES)).json()["findings"]
    files = results.database["attachments"]
    kept = files.count_documents({})
    assert kept == 2
    files.delete_one({"all": {"$exists": False}})  # as when the first was written, and no more
    renamed = dict(zip(("results.json", "samples_math_500.jsonl"), FILES.values(), strict=True))
    for again in (renamed, FILES):
        report = (await send(results.client, again)).json()
        assert report["complete"]
        assert files.count_documents({}) == kept
        for name, content in FILES.items():
            assert (await results.client.get(f"/raw_input/{finding['raw_input']}/files/{name}")).content == content
        files.delete_one({"all": {"$exists": False}})


async def test_the_same_files_at_once_under_other_names_are_one(start_results: "StartResults") -> None:
    async with start_results() as one, start_results() as other:
        renamed = dict(zip(("results.json", "samples_math_500.jsonl"), FILES.values(), strict=True))
        ways = [FILES, renamed] * 3
        clients = [one.client, other.client] * 3
        answers = await asyncio.gather(*map(send, clients, ways))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert all(answer.json()["complete"] for answer in answers)
        assert one.database["attachments"].count_documents({}) == 2
        assert one.database["raw_input"].count_documents({}) == 1


async def test_files_that_would_have_one_name_keep_their_whole_paths(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [File(path, Path("nowhere"), 1) for path in ("a/b/x.json", "x.json", "a/b/c/y.json")]
    assert _paths_beside(Finding("some", files)) == [file.path for file in files]
    assert _paths_beside(Finding("some", files[::2])) == ["x.json", "c/y.json"]


async def test_the_names_of_very_many_files_are_kept(
    results: "ResultsUnderTest", monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a chunk of the store holds."""
    monkeypatch.setattr("results_service.intake.WHOLE_BYTES", 100)
    [finding] = (await send(results.client, FILES)).json()["findings"]
    raw = (await results.client.get(f"/raw_input/{finding['raw_input']}")).json()
    assert {file["path"] for file in raw["data"]["files"]} == set(FILES)
    [again] = (await send(results.client, FILES)).json()["findings"]
    assert [run["status"] for run in again["runs"]] == ["unchanged"]


async def test_another_filter_of_the_same_files_is_a_result_of_its_own(results: "ResultsUnderTest") -> None:
    """Under its own name, and the first filter's is the one that comes without being asked for."""
    files = dict(FILES)
    name = next(name for name in files if name.startswith("samples"))
    files[name] += files[name].replace(b'"filter": "none"', b'"filter": "other"').replace(b'"acc": 1.0', b'"acc": 0.0')
    runs: dict[str, list[str]] = {}
    for filter_ in (None, "none", "other", "other"):
        asked = {} if filter_ is None else {"filter": filter_}
        [finding] = (await send(results.client, files, **asked)).json()["findings"]
        [run] = finding["runs"]
        runs.setdefault(run["result_name"], []).append(run["status"])
    assert list(runs.values()) == [["created", "unchanged"], ["created", "unchanged"]]
    scores = []
    for result_name in runs:
        stored = (await results.client.get(f"/standardized_output/{result_name}")).json()
        scores.append([question["score"] for question in stored["data"]["questions"]])
    assert scores == [[1.0, 0.0, 1.0, 1.0], [0.0] * 4]


async def test_a_log_that_states_more_samples_than_it_holds_says_so(results: "ResultsUnderTest") -> None:
    score = {"name": "match", "scorer": "match", "scored_samples": 5, "metrics": {"accuracy": {"value": 0.4}}}
    log = inspect_log(results={"total_samples": 5, "completed_samples": 5, "scores": [score]})
    [finding] = (await send(results.client, {"log.json": log}, dry_run="true")).json()["findings"]
    [figure] = finding["aggregates"]
    assert (figure["recomputed"], figure["agrees"]) == (1.0, False)
    assert figure["note"] == "it is stated over 5 samples, and 1 are in the files"
    assert "the log speaks of 5 samples and holds 1" in finding["warnings"]

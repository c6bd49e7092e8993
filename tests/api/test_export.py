"""Exports of a real service: each format gives back the very results, so that pushing them changes nothing."""

import gzip
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import jsonschema  # type: ignore[import-untyped]
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from results_service.app import create_app
from results_service.settings import ResultsSettings
from scorehouse.calls import ScorehouseError
from scorehouse.export import (
    EveryEvalEverWriter,
    ExportReport,
    ParquetWriter,
    StateChoice,
    Writer,
    export_results,
    open_ndjson,
)
from scorehouse.result_download import ResultDownloads
from scorehouse.retries import Retries
from shared.compression import ZstdDecoder
from shared.results import ResultKind, StoreStatus
from tests.api.conftest import serve
from tests.exports import READERS, exported, files_in
from tests.real_data import REAL_DATA, needs_real_data

FORMATS = ["ndjson", *READERS]

QUESTIONS = {
    "plain": '{"questions":[{"question_id":"q1","score":1.0,"answer":"B","target":"B","metadata":{"subject":"sea"}}]}',
    "whole": '{"questions":[{"question_id":"q1","score":1},{"question_id":"q2","score":0},'
    '{"question_id":"q3","score":1.0}]}',
    "numbers": '{"questions":[{"question_id":"q","score":0.50,"latency_ms":1e2,"cost_usd":0.10,"input_tokens":7,'
    '"output_tokens":0,"metadata":{"big":123456789012345678901234567890,"e":1E5,"one":1,"float":1.0,"neg":-0}}]}',
    "unicode": '{"questions":[{"question_id":"é\\u00e9\\ud83d\\ude00 \\"/","score":0.25,'
    '"answer":"한국어\\n\\u2028\\u0000","target":"\\t","metadata":{"Größe":"ü"}}]}',
    "statuses": '{"questions":[{"question_id":"a","status":"refused"},'
    '{"question_id":"b","status":"error","score":null},{"question_id":"c","status":"scored","score":1.0},'
    '{"question_id":"d","status":"unscored","score":0.5},'
    '{"question_id":"e","status":"truncated","answer":null,"target":null,"metadata":{}}]}',
    "attempts": '{"questions":[{"question_id":"a","attempt":0,"score":1.0},'
    '{"question_id":"a","attempt":1,"score":0.0}]}',
    "extra": '{"questions":[{"question_id":"a","score":1.0,"notes":[1,1.0,{"x":null}],"question":"Why?","rubric":""}],'
    '"accuracy":1.0,"nested":{"b":[true]},"scorehouse.rest":"x"}',
    "answers": '{"questions":[{"question_id":"a","score":1.0,"answer":["x",1],"target":["y"]},'
    '{"question_id":"b","score":1.0,"answer":4,"target":{"z":1}},'
    '{"question_id":"c","score":0.0,"answer":"","target":""}]}',
    "metadata": '{"questions":[{"question_id":"a","score":1.0,"metadata":{"level":3,"proof":true,"x":null,"l":[1]}},'
    '{"question_id":"b","score":1.0,"metadata":{"level":"three","proof":false,"scorehouse.rest":"!","dot.ted":"d"}},'
    '{"question_id":"c","score":1.0,"metadata":{"level":2.5,"part":1.5}},'
    '{"question_id":"d","score":1.0,"metadata":{"part":1}}]}',
    "order": '{"questions":[{"score":1.0,"metadata":{"b":"1","a":"2"},"question_id":"z"}],"a":1}',
    "pretty": '{\n  "questions": [\n    {"question_id": "q", "score": 1.0,\r\n "metadata": {"k": "v"}}\n  ],\n'
    ' "note": "x"\n}',
    "empty": '{"questions":[]}',
    "empty with more": '{"accuracy": 0.5, "questions": [ ]}',
}
WITHOUT_QUESTIONS = {
    "stated": '{"accuracy":0.75,"by":{"sea":1,"land":1.0}}',
    "array": '[1, 1.0, {"big": 123456789012345678901234567890}]',
    "nothing": "{}",
    "text": '{"report":"line\\nline \\u0001 data \\u0001","questionable":[]}',
    "pretty stated": '{\n\t"score": 3\n}',
    "huge number": '{"score": 1e999, "n": 0.10}',
}
DOCUMENTS = QUESTIONS | WITHOUT_QUESTIONS


def body(name: str, data: str, **changes: Any) -> bytes:
    envelope: dict[str, Any] = {
        "run_id": name, "benchmark_name": f"odd {name}", "timestamp": "2024-01-01T12:00:00.1234567Z",
        "model_id": "acme/gull-7b", "source": "tests",
    }  # fmt: skip
    if name in ("plain", "stated"):
        config = {"temperature": 0.0, "n": 1, "deep": {"big": 10**30}}
        provenance = {"harness": "own", "harness_version": "1.2", "grader": "exact", "config": config}
        envelope |= {"tokenizer_id": "tok/é", "provenance": provenance}
    envelope |= changes
    return json.dumps(envelope).encode().removesuffix(b"}") + b',"data":' + data.encode() + b"}"


@pytest.fixture
async def url(mongo_url: str, mongo_database: str) -> AsyncIterator[str]:
    settings = ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled")
    async with serve(create_app(settings)) as address:
        yield address


@pytest.fixture
async def house(url: str) -> AsyncIterator[ResultDownloads]:
    async with ResultDownloads(url, retries=Retries(patience_s=0)) as opened:
        yield opened


async def push_odd(house: ResultDownloads, kind: ResultKind = ResultKind.STANDARDIZED) -> None:
    for name, data in DOCUMENTS.items():
        assert (await house.push(kind, body(name, data))).status is StoreStatus.CREATED


async def export(
    house: ResultDownloads,
    writer: Writer,
    kind: ResultKind = ResultKind.STANDARDIZED,
    state: StateChoice = StateChoice.VALID,
    **filters: Any,
) -> ExportReport:
    report = ExportReport()
    await export_results(house, writer, report, kind=kind, filters=filters, state=state)  # type: ignore[arg-type]
    return report


async def export_as(house: ResultDownloads, file_format: str, out: Path, **options: Any) -> ExportReport:
    match file_format:
        case "ndjson":
            with open_ndjson(out) as writer:
                return await export(house, writer, **options)
        case "every_eval_ever":
            return await export(house, EveryEvalEverWriter(out), **options)
        case _:
            return await export(house, ParquetWriter(out), **options)


@pytest.mark.parametrize("file_format", FORMATS)
async def test_importing_an_export_changes_nothing(house: ResultDownloads, file_format: str, tmp_path: Path) -> None:
    await push_odd(house)
    out = tmp_path / "out"
    report = await export_as(house, file_format, out)
    assert (report.written, report.kept, report.refused) == (len(DOCUMENTS), 0, [])
    documents = list(exported(file_format, out))
    assert len(documents) == len(DOCUMENTS)
    for document in documents:
        assert (await house.push(ResultKind.STANDARDIZED, document)).status is StoreStatus.UNCHANGED, document
    assert not [file for file in files_in(tmp_path, "*") if file.name.endswith(".part")]


@pytest.mark.parametrize("ending", ["ndjson", "ndjson.gz", "ndjson.zst"])
@pytest.mark.parametrize("kind", ResultKind)
async def test_ndjson_has_the_documents_as_they_were_pushed(
    house: ResultDownloads, kind: ResultKind, ending: str, tmp_path: Path
) -> None:
    await push_odd(house, kind)
    file = tmp_path / f"all.{ending}"
    await export_as(house, "ndjson", file, kind=kind)
    packed = file.read_bytes()
    if ending.endswith("zst"):
        decoder = ZstdDecoder()
        packed = b"".join(decoder.decode(packed))
        assert decoder.is_complete()
    elif ending.endswith("gz"):
        packed = gzip.decompress(packed)
    lines = packed.splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == list(DOCUMENTS)
    for line, (name, data) in zip(lines, DOCUMENTS.items(), strict=True):
        answer = await house.push(kind, line)
        assert (answer.status, answer.sha256) == (StoreStatus.UNCHANGED, sha256(data.encode()).hexdigest())
        assert name in ("pretty", "pretty stated") or line.endswith(b',"data":' + data.encode() + b"}")


@needs_real_data
async def test_the_files_are_what_the_published_schemas_ask_for(house: ResultDownloads, tmp_path: Path) -> None:
    await push_odd(house)
    await export_as(house, "every_eval_ever", tmp_path)
    folder = REAL_DATA / "native" / "every_eval_ever" / "every_eval_ever" / "schemas"
    of_aggregates, of_rows = (
        jsonschema.Draft7Validator(json.loads((folder / f"{name}.schema.json").read_text()))
        for name in ("eval", "instance_level_eval")
    )
    aggregates = files_in(tmp_path, "*.json")
    assert len(aggregates) == len(DOCUMENTS)
    for file in aggregates:
        of_aggregates.validate(json.loads(file.read_text()))
    rows = [json.loads(line) for file in files_in(tmp_path, "*.jsonl") for line in file.read_text().splitlines()]
    assert len(rows) == sum(len(json.loads(data)["questions"]) for data in QUESTIONS.values())
    for row in rows:
        of_rows.validate(row)


async def test_every_eval_ever_states_what_the_answers_come_to(house: ResultDownloads, tmp_path: Path) -> None:
    data = json.dumps({"questions": [{"question_id": f"q{n}", "score": n % 2, "answer": "x"} for n in range(5)]})
    await house.push_standardized(body("tides", data, benchmark_name="tides"))
    await export_as(house, "every_eval_ever", tmp_path)
    [file] = files_in(tmp_path, "*.json")
    assert file.relative_to(tmp_path).parts[:4] == ("data", "tides", "acme", "gull-7b")
    document = json.loads(file.read_text())
    [stated] = document["evaluation_results"]
    assert stated["score_details"]["score"] == pytest.approx(0.4)
    error = stated["score_details"]["uncertainty"]["standard_error"]["value"]
    assert error == pytest.approx((0.24 * 5 / 4 / 5) ** 0.5)
    details = document["detailed_evaluation_results"]
    samples = tmp_path / details["file_path"]
    assert details["total_rows"] == len(samples.read_text().splitlines()) == 5
    assert details["checksum"] == sha256(samples.read_bytes()).hexdigest()
    first = json.loads(samples.read_text().splitlines()[1])
    assert (first["evaluation"], first["output"]) == ({"score": 1, "is_correct": True}, {"raw": ["x"]})


async def test_parquet_has_typed_columns(house: ResultDownloads, tmp_path: Path) -> None:
    from pyarrow import parquet

    questions = [
        {"question_id": f"q{n}", "score": n % 2, "latency_ms": 1.5, "input_tokens": n, "metadata": {
            "subject": "sea" if n else "land", "level": n, "share": n / 2, "proof": n > 1}}
        for n in range(3)
    ]  # fmt: skip
    await house.push_standardized(body("tides", json.dumps({"questions": questions}), benchmark_name="tides"))
    await export_as(house, "parquet", tmp_path)
    [file] = files_in(tmp_path, "*.parquet")
    table = parquet.read_table(file)
    assert table.column("score").to_pylist() == [0.0, 1.0, 0.0]
    assert table.column("status").to_pylist() == ["scored"] * 3
    assert table.column("model_id").to_pylist() == ["acme/gull-7b"] * 3
    types = {name: str(table.schema.field(f"metadata.{name}").type) for name in ("subject", "level", "share", "proof")}
    assert types == {"subject": "string", "level": "int64", "share": "double", "proof": "bool"}
    assert table.column("scorehouse.rest").null_count == 3


@pytest.mark.parametrize("file_format", READERS)
async def test_a_folder_is_gone_on_with(house: ResultDownloads, file_format: str, tmp_path: Path) -> None:
    await push_odd(house)
    await export_as(house, file_format, tmp_path, run_id="plain")
    files = {file: file.stat().st_mtime_ns for file in files_in(tmp_path, "*")}
    report = await export_as(house, file_format, tmp_path)
    assert (report.kept, report.written) == (1, len(DOCUMENTS) - 1)
    assert {file: file.stat().st_mtime_ns for file in files} == files


async def test_the_state_chooses_and_what_is_left_out_is_counted(house: ResultDownloads, tmp_path: Path) -> None:
    first = await house.push_standardized(body("first", "{}"))
    await house.push_standardized(body("second", "{}"))
    await house.invalidate(first.result_name, "ada", "wrong key")
    for state, runs, left_out in (
        (StateChoice.VALID, ["second"], 1),
        (StateChoice.INVALIDATED, ["first"], 1),
        (StateChoice.ALL, ["first", "second"], 0),
    ):
        file = tmp_path / f"{state}.ndjson"
        report = await export_as(house, "ndjson", file, state=state)
        assert [json.loads(line)["run_id"] for line in file.read_bytes().splitlines()] == runs
        assert report.left_out == left_out


async def test_filters_choose(house: ResultDownloads, tmp_path: Path) -> None:
    await push_odd(house)
    await house.push_standardized(body("late", "{}", timestamp="2025-01-01T00:00:00Z", model_id="other"))
    for number, filters in enumerate(
        ({"model_id": "other"}, {"run_id": "late"}, {"benchmark_name": "odd late"}, {"since": "2024-06-01T00:00:00Z"})
    ):
        file = tmp_path / f"{number}.ndjson"
        await export_as(house, "ndjson", file, **filters)
        assert [json.loads(line)["run_id"] for line in file.read_bytes().splitlines()] == ["late"]


async def test_an_export_that_fails_leaves_no_file(house: ResultDownloads, tmp_path: Path) -> None:
    await push_odd(house)
    with pytest.raises(ScorehouseError):
        await export_as(house, "ndjson", tmp_path / "all.ndjson", since="yesterday")
    assert files_in(tmp_path, "*") == []


@pytest.mark.parametrize(("kind", "file_format"), [(ResultKind.RAW, "ndjson")])
async def test_data_larger_than_a_block_comes_back(
    house: ResultDownloads, kind: ResultKind, file_format: str, tmp_path: Path
) -> None:
    data = json.dumps({"lines": ["é\n" * 50] * 20_000}, ensure_ascii=False, indent=1)
    assert len(data.encode()) > 3_000_000
    await house.push(kind, body("large", data))
    await export_as(house, file_format, tmp_path / "all", kind=kind)
    [line] = (tmp_path / "all").read_bytes().splitlines()
    answer = await house.push(kind, line)
    assert (answer.status, answer.sha256) == (StoreStatus.UNCHANGED, sha256(data.encode()).hexdigest())


async def test_a_service_that_is_busy_is_waited_for(mongo_url: str, mongo_database: str, tmp_path: Path) -> None:
    app = create_app(ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled"))
    refusals = iter([503, 503])

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/standardized_output/" in scope["path"] and (status := next(refusals, None)):
            await PlainTextResponse("busy", status)(scope, receive, send)
        else:
            await app(scope, receive, send)

    async with (
        serve(cast("FastAPI", busy)) as url,
        ResultDownloads(url, retries=Retries(patience_s=20, first_wait_s=0.01)) as patient,
    ):
        await patient.push_standardized(body("plain", "{}"))
        report = await export_as(patient, "ndjson", tmp_path / "all.ndjson")
    assert report.written == 1
    assert next(refusals, None) is None

"""`scorehouse export` on a real service: what it says, what it leaves, and that `scorehouse push` takes it back."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from results_service.app import create_app
from results_service.settings import ResultsSettings
from scorehouse.cli import app
from scorehouse.export import ParquetWriter
from scorehouse.result_download import FetchedResult
from tests.api.conftest import serve

ENVELOPE = {"benchmark_name": "mmlu", "timestamp": "2024-01-01T12:00:00Z", "model_id": "acme/gull", "source": "tests"}
DATA = {
    "one": {"questions": [{"question_id": "q1", "score": 1, "answer": "é", "metadata": {"subject": "sea"}}]},
    "two": {"questions": [{"question_id": "q1", "score": 0.5, "status": "scored", "cost_usd": 0.1}], "n": 1},
    "three": {"accuracy": 0.25},
}


@pytest.fixture
async def url(mongo_url: str, mongo_database: str) -> AsyncIterator[str]:
    """A service with three results."""
    app = create_app(ResultsSettings(mongo_url=mongo_url, mongo_database=mongo_database, auth="disabled"))
    async with serve(app) as address, httpx.AsyncClient(base_url=address) as client:
        for run_id, data in DATA.items():
            body = json.dumps(ENVELOPE | {"run_id": run_id, "data": data})
            assert (await client.post("/standardized_output", content=body)).status_code == 201
        yield address


async def run(*words: str | Path) -> Result:
    """The command, in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, [str(word) for word in words])


@pytest.mark.parametrize("file_format", ["ndjson", "every_eval_ever", "parquet"])
async def test_what_is_exported_is_pushed_back_unchanged(url: str, file_format: str, tmp_path: Path) -> None:
    out = tmp_path / ("all.ndjson" if file_format == "ndjson" else "folder")
    done = await run("export", "--format", file_format, "--out", out, "--url", url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "3 written, 0 there already; 2 answers" in done.stdout.splitlines()
    report = tmp_path / "report.json"
    pushed = await run("push", out, "--url", url, "--report", report)
    assert pushed.exit_code == 0, pushed.output
    if file_format == "ndjson":
        assert "0 stored, 3 unchanged" in pushed.stdout
    else:
        findings = json.loads(report.read_text())["findings"]
        assert [run["status"] for finding in findings for run in finding["runs"]] == ["unchanged"] * 3


async def test_a_folder_is_gone_on_with_and_a_file_written_anew(url: str, tmp_path: Path) -> None:
    await run("export", "--format", "parquet", "--out", tmp_path, "--url", url, "--run", "one")
    again = await run("export", "--format", "parquet", "--out", tmp_path, "--url", url)
    assert "2 written, 1 there already; 1 answer" in again.stdout
    for _ in range(2):
        done = await run("export", "--format", "ndjson", "--out", tmp_path / "new" / "all.ndjson", "--url", url)
        assert "3 written, 0 there already" in done.stdout


async def test_nothing_is_written_where_nothing_passes(url: str, tmp_path: Path) -> None:
    for file_format, out in (("ndjson", tmp_path / "all.ndjson"), ("parquet", tmp_path / "folder")):
        done = await run("export", "--format", file_format, "--out", out, "--url", url, "--benchmark", "mnlu")
        assert done.exit_code == 1
        assert "no result passes the filters" in done.stderr
        assert not out.exists()


async def test_a_wrong_place_is_told(url: str, tmp_path: Path) -> None:
    done = await run("export", "--format", "ndjson", "--out", tmp_path, "--url", url)
    assert done.exit_code == 1
    assert "is a folder; ndjson is one file" in done.stderr
    file = tmp_path / "file"
    file.write_text("mine")
    done = await run("export", "--format", "every_eval_ever", "--out", file, "--url", url)
    assert done.exit_code == 1
    assert "is a file; every_eval_ever is a folder of files" in done.stderr
    assert file.read_text() == "mine"


async def test_a_file_stays_as_it_was_where_the_service_is_away(tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_text("of yesterday")
    done = await run("export", "--format", "ndjson", "--out", file, "--url", "http://127.0.0.1:9", "--patience", "0")
    assert done.exit_code == 1
    assert "cannot reach the results service" in done.stderr
    assert f"{file} is not written" in done.stderr
    assert [one.name for one in [file, *file.parent.glob(".*")]] == ["all.ndjson"]
    assert file.read_text() == "of yesterday"


async def test_raw_inputs_are_pushed_back_unchanged(url: str, tmp_path: Path) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        body = json.dumps(ENVELOPE | {"run_id": "raw", "data": [1, 1.0, {"x": None}]})
        assert (await client.post("/raw_input", content=body)).status_code == 201
    file = tmp_path / "raw.ndjson.gz"
    done = await run("export", "--format", "ndjson", "--raw", "--out", file, "--url", url)
    assert "1 written" in done.stdout
    assert "files that are kept with raw inputs are not in it" in done.stdout
    pushed = await run("push", "--raw", file, "--url", url)
    assert "0 stored, 1 unchanged" in pushed.stdout


async def test_an_export_that_is_packed_with_zstd_may_be_pushed(url: str, tmp_path: Path) -> None:
    await run("export", "--format", "ndjson", "--out", tmp_path / "all.ndjson.zst", "--url", url)
    done = await run("push", tmp_path / "all.ndjson.zst", "--url", url)
    assert "\n0 stored, 3 unchanged, 0 refused" in done.stdout


async def test_an_interrupted_export_leaves_what_is_whole(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ParquetWriter.add

    def second_is_interrupted(writer: ParquetWriter, result: FetchedResult) -> None:
        add(writer, result)
        if result.summary.run_id == "two":
            raise KeyboardInterrupt

    monkeypatch.setattr(ParquetWriter, "add", second_is_interrupted)
    done = await run("export", "--format", "parquet", "--out", tmp_path, "--url", url)
    assert done.exit_code == 130
    assert "export again to go on" in done.stderr
    monkeypatch.undo()
    again = await run("export", "--format", "parquet", "--out", tmp_path, "--url", url)
    assert "1 written, 2 there already" in again.stdout


async def test_raw_inputs_are_ndjson_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = await run("export", "--format", "parquet", "--raw", "--out", tmp_path)
    assert done.exit_code == 2
    assert "--format ndjson" in done.stderr


async def test_parquet_without_pyarrow_says_what_to_install(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorehouse.export_command.find_spec", lambda _name: None)
    done = await run("export", "--format", "parquet", "--out", tmp_path / "out", "--url", url)
    assert done.exit_code == 1
    assert "pip install 'scorehouse[parquet]'" in done.stderr

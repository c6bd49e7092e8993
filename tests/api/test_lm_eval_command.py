"""`scorehouse lm-eval` against real services, with a harness of our own making that writes what the real one does."""

import os
from pathlib import Path
from typing import Any

import pytest

from scorehouse.live_journal import journals
from scorehouse.spool import Spool
from shared.results import StoreStatus
from tests.api.conftest import Stack
from tests.api.test_live_push import command, import_files_of, live_runs, url_of
from tests.harness_files import lm_eval_files, write_files

_MAIN = """
import os, pathlib, shutil, signal, sys, time
arguments = sys.argv[1:]
print("arguments", *arguments)
if "--fail-early" in arguments:
    sys.exit(3)
folder = pathlib.Path(arguments[arguments.index("--output_path") + 1]) / "org__model"
assert "--log_samples" in arguments
shutil.copytree(os.environ["WRITTEN"], folder, dirs_exist_ok=True)
if "--kill-command" in arguments:
    os.kill(os.getppid(), signal.SIGKILL)
sys.exit(5 if "--fail-late" in arguments else 0)
"""


@pytest.fixture
def harness(tmp_path: Path) -> dict[str, str]:
    """The environment in which `lm_eval` is ours, and writes a run of 700 samples."""
    write_files(tmp_path / "packages" / "lm_eval", {"__init__.py": b"", "__main__.py": _MAIN.encode()})
    scores = {"mmlu_anatomy": [float(number % 3 == 0) for number in range(700)]}
    write_files(tmp_path / "written", lm_eval_files(scores))
    return {
        "PYTHONPATH": f"{tmp_path / 'packages'}{os.pathsep}{Path(__file__).parents[2]}",
        "WRITTEN": str(tmp_path / "written"),
        "SCOREHOUSE_SPOOL_DIR": str(tmp_path / "state"),
    }


def spool_of(harness: dict[str, str], url: str) -> Spool:
    return Spool(Path(harness["SCOREHOUSE_SPOOL_DIR"]) / url.removeprefix("http://").replace(":", "_"))


async def stored(stack: Stack) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await stack.results.get("/standardized_output")).json()["items"]
    return items


async def test_what_the_harness_measured_is_stored_with_its_files_and_importing_them_changes_nothing(
    stack: Stack, harness: dict[str, str]
) -> None:
    url = url_of(stack)
    code, told = await command("lm-eval", "--url", url, "--", "run", "--tasks", "mmlu_anatomy", **harness)
    assert code == 0, told
    assert "arguments run --tasks mmlu_anatomy --log_samples --output_path" in told
    assert "700 answers shown" in told
    assert "1 run of harnesses: 1 stored, 0 unchanged" in told
    [result] = await stored(stack)
    assert (result["benchmark_name"], result["questions"]) == ("mmlu", 700)
    assert list((await live_runs(stack)).values()) == [("finished", 700)]
    files = (await stack.results.get(f"/raw_input/{result['provenance']['raw_input']}/files")).json()["items"]
    assert len(files) == 2
    report = await import_files_of(stack, Path(harness["WRITTEN"]))
    assert report.findings[0].runs[0].status is StoreStatus.UNCHANGED
    spool = spool_of(harness, url)
    assert journals(spool) == []
    assert list((spool.folder / "lm-eval").iterdir()) == []
    await stack.settle()
    answer = (await stack.analyze(benchmark="mmlu", level1="subject")).json()
    assert [(row["subject"], row["n"]) for row in answer["rows"]] == [("anatomy", 700)]


async def test_only_what_is_new_in_a_given_folder_is_pushed(
    stack: Stack, harness: dict[str, str], tmp_path: Path
) -> None:
    write_files(tmp_path / "out" / "before", lm_eval_files({"math_500": [1.0]}, model="org/other"))
    given = ("--output_path", str(tmp_path / "out"))
    code, told = await command("lm-eval", "--url", url_of(stack), "--", "run", *given, "--fail-late", **harness)
    assert code == 5, told
    assert [result["model_id"] for result in await stored(stack)] == ["org/model"]
    assert (tmp_path / "out" / "org__model").exists()


async def test_a_harness_that_fails_before_it_writes_pushes_nothing(stack: Stack, harness: dict[str, str]) -> None:
    url = url_of(stack)
    code, told = await command("lm-eval", "--url", url, "--", "run", "--fail-early", **harness)
    assert (code, "wrote no results" in told) == (3, True), told
    assert await stored(stack) == []
    assert journals(spool_of(harness, url)) == []


async def test_what_waits_while_the_service_is_away_is_flushed(stack: Stack, harness: dict[str, str]) -> None:
    folder = str(Path(harness["SCOREHOUSE_SPOOL_DIR"]) / "own")
    away = ("--url", "http://127.0.0.1:9", "--spool-dir", folder, "--patience", "0")
    code, told = await command("lm-eval", *away, "--", "run", **harness)
    assert (code, "the results wait in" in told) == (0, True), told
    code, told = await command("spool", "flush", "--url", url_of(stack), "--spool-dir", folder, **harness)
    assert (code, "imported" in told) == (0, True), told
    assert [result["questions"] for result in await stored(stack)] == [700]
    assert journals(Spool(Path(folder))) == []


async def test_a_killed_command_leaves_what_the_harness_wrote_to_whoever_comes_next(
    stack: Stack, harness: dict[str, str]
) -> None:
    url = url_of(stack)
    code, _ = await command("lm-eval", "--url", url, "--", "run", "--kill-command", **harness)
    assert code == -9
    assert await stored(stack) == []
    code, told = await command("spool", "flush", "--url", url, **harness)
    assert (code, "imported" in told) == (0, True), told
    assert [result["questions"] for result in await stored(stack)] == [700]

"""`scorehouse lm-eval`: what the harness is called with, and where it writes."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from scorehouse import lm_eval_command
from scorehouse.lm_eval_command import LmEvalOptions, output_folder, run_lm_eval, with_samples
from scorehouse.spool import Spool


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["run", "--model", "hf"], None),
        (["--output_path", "out", "--model", "hf"], "out"),
        (["run", "--output_path=out/deep"], "out/deep"),
        (["run", "-o", "out/run.json"], "out"),
        (["run", "--output", "out"], "out"),
        (["run", "--config", "{folder}/with.yaml"], "out"),
        (["run", "-C", "{folder}/without.yaml"], None),
        (["run", "--config={folder}/with.yaml", "-o", "other"], "other"),
        (["run", "--config", "{folder}/absent.yaml"], None),
        (["run", "--output_path"], None),
    ],
)
def test_where_the_harness_writes_is_read_as_it_reads_it(
    arguments: Sequence[str], folder: str | None, tmp_path: Path
) -> None:
    (tmp_path / "with.yaml").write_text("model: hf\noutput_path: 'out'  # here\n")
    (tmp_path / "without.yaml").write_text("model: hf\noutput_path: null\n")
    found = output_folder([argument.format(folder=tmp_path) for argument in arguments])
    assert found == (None if folder is None else Path(folder))


@pytest.mark.parametrize(
    ("arguments", "folder", "called_with"),
    [
        (["run"], Path("f"), ["run", "--log_samples", "--output_path", "f"]),
        (["run", "--log_samples"], Path("f"), ["run", "--log_samples", "--output_path", "f"]),
        (["run", "-s", "-o", "x"], None, ["run", "-s", "-o", "x"]),
        (["run", "-o", "x"], None, ["run", "-o", "x", "--log_samples"]),
    ],
)
def test_samples_are_asked_for_where_they_are_not(
    arguments: Sequence[str], folder: Path | None, called_with: Sequence[str]
) -> None:
    assert with_samples(arguments, folder) == called_with


def test_a_harness_that_is_not_there_is_told_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lm_eval_command, "find_spec", lambda _: None)
    options = LmEvalOptions("http://127.0.0.1:9", Spool(tmp_path), 0)
    assert run_lm_eval(["run"], options) == 1
    assert "pip install lm-eval" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

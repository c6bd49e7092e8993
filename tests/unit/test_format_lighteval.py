"""The lighteval reader: results and details of several versions, told apart, joined and read in small parts."""

import builtins
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample, Stated
from shared.formats.json_reading import Unreadable
from shared.formats.lighteval import LIGHTEVAL, split_key
from shared.formats.tree import read_tree
from shared.submission import Status

DATE = "2025-03-04T10-20-30.123456"
MODEL = "example-labs/tiny"

PROMPT = "The following are questions about bones.\n\nHow many bones has a hand?\nA. 9\nB. 27\nC. 3\nAnswer:"


def _results(
    tasks: Mapping[str, Mapping[str, Any]], *, configs: Mapping[str, Any] | None = None, **general: Any
) -> dict[str, Any]:
    return {
        "config_general": {
            "lighteval_sha": "abc123",
            "num_fewshot_seeds": 1,
            "max_samples": None,
            "start_time": 12.5,
            "end_time": 99.5,
            "total_evaluation_time_secondes": "87.0",
            "model_config": {"model_name": MODEL, "dtype": "bfloat16", "generation_parameters": {"temperature": 0.0}},
            "model_name": MODEL,
            **general,
        },
        "results": tasks,
        "versions": dict.fromkeys(tasks, 2),
        "config_tasks": configs or {},
        "summary_tasks": {},
        "summary_general": {},
    }


def _row(number: int, metric: Mapping[str, Any], **parts: Mapping[str, Any]) -> dict[str, Any]:
    doc = {
        "query": f"What is {number} + {number}?",
        "choices": [str(2 * number)],
        "gold_index": 0,
        "instruction": None,
        "specific": {"level": "easy", "steps": number, "answer_text": "hidden", "long": "x" * 201},
        "id": str(number),
        "task_name": "sums|0",
        "num_samples": 1,
        **parts.get("doc", {}),
    }
    response = {
        "input": "…",
        "input_tokens": [1, 2, 3],
        "text": [f"It is {2 * number}."],
        "output_tokens": [[4, 5]],
        "text_post_processed": None,
        "logprobs": [],
        **parts.get("response", {}),
    }
    return {"doc": doc, "metric": metric, "model_response": response}


def _write(
    root: Path, results: Mapping[str, Any] | None, details: Mapping[str, Sequence[Mapping[str, Any]]], date: str = DATE
) -> Path:
    """A folder as lighteval leaves it."""
    if results is not None:
        folder = root / "results" / MODEL
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"results_{date}.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    for task, rows in details.items():
        folder = root / "details" / MODEL / date
        folder.mkdir(parents=True, exist_ok=True)
        parquet.write_table(
            pa.Table.from_pylist(list(rows)), folder / f"details_{task}_{date}.parquet", row_group_size=2
        )
    return root


def _find(root: Path) -> list[Finding]:
    return list(LIGHTEVAL.find(read_tree(root)))


def _read(root: Path, **options: Any) -> list[HarnessRun]:
    (finding,) = _find(root)
    return [run for run in LIGHTEVAL.read(finding, ReadOptions(**options)) if isinstance(run, HarnessRun)]


def _samples(run: HarnessRun, task: int = 0) -> tuple[list[Sample], Ledger]:
    ledger = Ledger()
    samples = run.tasks[task].samples
    assert samples is not None
    return list(samples(ledger)), ledger


SUMS = _results(
    {"sums|0": {"em": 0.5, "em_stderr": 0.5, "chars": 9.5}, "all": {"em": 0.5, "em_stderr": 0.5, "chars": 9.5}},
    configs={"sums|0": {"name": "sums", "hf_repo": "example-labs/sums-v1", "effective_num_docs": 2}},
)
SUM_ROWS = [_row(1, {"em": 1, "chars": 9.0}), _row(2, {"em": 0, "chars": 10.0})]


def test_a_run_with_its_details(tmp_path: Path) -> None:
    (run,) = _read(_write(tmp_path, SUMS, {"sums|0": SUM_ROWS}))
    assert (run.model_id, run.timestamp, run.harness_version) == (MODEL, "2025-03-04T10:20:30.123456Z", "abc123")
    assert run.config == {
        "num_fewshot_seeds": 1,
        "model_name": MODEL,
        "model_config": {"model_name": MODEL, "dtype": "bfloat16"},
        "generation_parameters": {"temperature": 0.0},
        "num_fewshots": "0",
    }
    (task,) = run.tasks
    assert (task.names, task.metric, task.version, task.expected) == (["sums", "example-labs/sums-v1"], "em", "2", 2)
    assert task.stated == [
        Stated("em", 0.5, count=2),
        Stated("chars", 9.5, count=2),
        Stated("em", 0.5, "stderr", count=2),
    ]
    samples, ledger = _samples(run)
    assert samples[0] == Sample(
        id="1",
        score=1.0,
        answer="It is 2.",
        target="2",
        question="What is 1 + 1?",
        input_tokens=3,
        output_tokens=2,
        origin={"doc": {"level": "easy", "steps": 1}},
        metrics={"em": 1.0, "chars": 9.0},
    )
    assert [(sample.id, sample.score) for sample in samples] == [("1", 1.0), ("2", 0.0)]
    assert ledger.left == {
        "doc.num_samples": 2,
        "model_response.input": 2,
        "doc.specific.answer_text": 2,
        "doc.specific.long": 2,
    }
    assert _samples(run)[0] == samples


def test_columns_with_underscores(tmp_path: Path) -> None:
    rows = [{f"__{key}__": value for key, value in row.items()} for row in SUM_ROWS]
    (plain,) = _read(_write(tmp_path / "plain", SUMS, {"sums|0": SUM_ROWS}))
    (underscored,) = _read(_write(tmp_path / "underscored", SUMS, {"sums|0": rows}))
    assert _samples(underscored)[0] == _samples(plain)[0]
    assert _samples(underscored)[1].left == _samples(plain)[1].left


@pytest.mark.parametrize("as_text", [False, True])
def test_columns_side_by_side(as_text: bool, tmp_path: Path) -> None:
    rows = [
        {
            "example": "What is 1 + 1?",
            "instruction": "",
            "full_prompt": "…",
            "choices": ["2"],
            "gold_index": [0],
            "gold": ["2"],
            "predictions": ["It is 2."],
            "cont_tokens": [[4, 5]],
            "metrics": {"em": 1.0},
            "specifics": {"level": "easy"},
        }
    ]
    if as_text:  # what lighteval falls back to where Parquet cannot hold what is nested
        rows = [{key: value if isinstance(value, str) else str(value) for key, value in row.items()} for row in rows]
    (run,) = _read(_write(tmp_path, _results({"lighteval|sums|0|0": {"em": 1.0}}), {"lighteval|sums|0|0": rows}))
    samples, ledger = _samples(run)
    assert samples == [
        Sample(
            id="0",
            score=1.0,
            answer="It is 2.",
            target="2",
            question="What is 1 + 1?",
            origin={"doc": {"level": "easy"}},
            metrics={"em": 1.0},
        )
    ]
    assert ledger.left == {"full_prompt": 1, "cont_tokens": 1}


def test_choices_are_taken_out_of_the_prompt(tmp_path: Path) -> None:
    doc = {"query": PROMPT, "instruction": PROMPT.partition("How")[0], "choices": [" A", " B", " C"], "gold_index": 1}
    response = {"text": [], "output_tokens": [[7], [8], [9]], "logprobs": [-2.0, -3.0, -1.0]}
    rows = [_row(0, {"acc": 0}, doc={**doc, "task_name": "mmlu:anatomy|5"}, response=response)]
    (run,) = _read(_write(tmp_path, _results({"mmlu:anatomy|5": {"acc": 0.0}}), {"mmlu:anatomy|5": rows}))
    (sample,) = _samples(run)[0]
    assert (sample.question, sample.choices) == ("How many bones has a hand?", ["9", "27", "3"])
    assert (sample.answer, sample.target, sample.output_tokens) == ("C", "B", None)
    assert run.tasks[0].names == ["mmlu:anatomy", "mmlu"]
    assert run.tasks[0].origin == {"subset": "anatomy"}


@pytest.mark.parametrize(
    ("choices", "query", "question", "taken"),
    [
        (["yes", "no"], "Is it?", "Is it?", ["yes", "no"]),
        (["A", "B"], "Which?\nA) one\nB) two\nlines", "Which?", ["one", "two\nlines"]),
        (["A", "B"], "Which?\n A: one", "Which?\n A: one", []),  # not all of them are there
        (["A", "B"], "A or B?", "A or B?", []),
        ([], "Say something.", "Say something.", []),
    ],
)
def test_questions_and_choices(choices: list[str], query: str, question: str, taken: list[str], tmp_path: Path) -> None:
    rows = [_row(0, {"acc": 1}, doc={"choices": choices, "query": query, "gold_index": 0})]
    (run,) = _read(_write(tmp_path, SUMS, {"sums|0": rows}))
    (sample,) = _samples(run)[0]
    if query.endswith("lines"):
        taken = ["one", "two"]  # the last choice ends with its line
    assert (sample.question, list(sample.choices)) == (question, taken)


def test_averages_are_no_tasks_and_their_errors_are_not_taken(tmp_path: Path) -> None:
    average = {"acc": 0.75, "acc_stderr": 0.3}
    tasks = {"mmlu:anatomy|5": {"acc": 1.0, "acc_stderr": 0.0}, "mmlu:virology|5": {"acc": 0.5, "acc_stderr": 0.5}}
    results = _results({**tasks, "mmlu:_average|5": average, "all": average})
    details = {
        key: [_row(n, {"acc": n % 2}, doc={"task_name": key}) for n in numbers]
        for key, numbers in {"mmlu:anatomy|5": (1, 3), "mmlu:virology|5": (1, 2)}.items()
    }
    (run,) = _read(_write(tmp_path, results, details))
    assert [task.names[0] for task in run.tasks] == ["mmlu:anatomy", "mmlu:virology"]
    stated = [stated for task in run.tasks for stated in task.stated]
    assert {(item.metric, item.value, item.kind) for item in stated if not item.tasks} == {
        *(("acc", 1.0, "mean"), ("acc", 0.0, "stderr"), ("acc", 0.5, "mean"), ("acc", 0.5, "stderr"))
    }
    (averaged,) = [item for item in stated if item.tasks]
    assert averaged == Stated(
        "acc", 0.75, name="acc (mmlu:_average)", tasks=["mmlu:anatomy", "mmlu:virology"], per_task=True
    )
    assert sum("errors of averages" in warning for warning in run.warnings) == 1


def test_one_task_with_several_numbers_of_examples(tmp_path: Path) -> None:
    tasks = {"sums|0": {"em": 1.0}, "sums|5": {"em": 0.0}, "words|0": {"em": 1.0}}
    details = {key: [_row(1, {"em": int(value["em"])}, doc={"task_name": key})] for key, value in tasks.items()}
    runs = _read(_write(tmp_path, _results(tasks), details))
    assert [[task.names[0] for task in run.tasks] for run in runs] == [["sums", "words"], ["sums"]]
    assert [run.config["num_fewshots"] for run in runs] == ["0", "5"]
    assert [_samples(run)[0][0].score for run in runs] == [1.0, 0.0]


def test_repeated_ids_are_attempts(tmp_path: Path) -> None:
    rows = [_row(1, {"em": 1}), _row(2, {"em": 0}), _row(1, {"em": 0})]
    (run,) = _read(_write(tmp_path, SUMS, {"sums|0": rows}))
    assert [(sample.id, sample.attempt) for sample in _samples(run)[0]] == [("1", 0), ("2", 0), ("1", 1)]


def test_metrics(tmp_path: Path) -> None:
    tasks = {"sums|0": {"bleu": 12.0, "em": 0.5, "em_stderr": 0.1}}
    rows = [
        _row(1, {"em": True, "f1": 0.5, "bleu": ["a"]}),
        _row(2, {"em": None, "f1": 0.25, "bleu": ["b"]}),
        _row(3, {"em": float("nan"), "f1": 0.0, "bleu": []}),
    ]
    root = _write(tmp_path, _results(tasks), {"sums|0": rows})
    (run,) = _read(root)
    # bleu is of the whole: what the rows hold of it are no scores
    assert run.tasks[0].metric == "em"
    assert [(sample.score, sample.status) for sample in _samples(run)[0]] == [
        (1.0, Status.SCORED),
        (None, Status.UNSCORED),
        (None, Status.UNSCORED),
    ]
    (run,) = _read(root, metric="f1")
    assert [sample.score for sample in _samples(run)[0]] == [0.5, 0.25, 0.0]
    with pytest.raises(NotReadable, match=r"has no metric 'acc', only bleu, em, f1"):
        _read(root, metric="acc")


def test_several_outputs_and_golds(tmp_path: Path) -> None:
    doc = {"choices": ["4", "four"], "gold_index": [0, 1]}
    response = {"text": ["a", "b"], "output_tokens": [[1, 2], [3]], "input_tokens": []}
    (run,) = _read(_write(tmp_path, SUMS, {"sums|0": [_row(2, {"em": 1}, doc=doc, response=response)] * 3}))
    for sample in _samples(run)[0]:
        assert (sample.answer, sample.target) == (["a", "b"], ["4", "four"])
        assert (sample.input_tokens, sample.output_tokens) == (None, 3)


def test_results_without_details(tmp_path: Path) -> None:
    (run,) = _read(_write(tmp_path, SUMS, {}))
    assert [(task.names[0], task.samples, task.metric) for task in run.tasks] == [("sums", None, "em")]


def test_details_without_results(tmp_path: Path) -> None:
    root = _write(tmp_path, None, {"sums|0": SUM_ROWS})
    with pytest.raises(NotReadable, match="does not say which model was run: say it as model_id"):
        _read(root)
    (run,) = _read(root, model_id="m")
    assert (run.model_id, run.tasks[0].names, run.tasks[0].metric) == ("m", ["sums"], "em")
    assert [sample.score for sample in _samples(run)[0]] == [1.0, 0.0]


def test_runs_are_kept_apart_by_date(tmp_path: Path) -> None:
    later = DATE.replace("10-20", "11-20")
    _write(tmp_path, SUMS, {"sums|0": SUM_ROWS})
    _write(tmp_path, SUMS, {"sums|0": SUM_ROWS[:1]}, later)
    findings = _find(tmp_path)
    assert [len(finding.files) for finding in findings] == [2, 2]
    runs = [LIGHTEVAL.read(finding, ReadOptions())[0] for finding in findings]
    assert [len(_samples(run)[0]) for run in runs if isinstance(run, HarnessRun)] == [2, 1]


def test_another_folder_is_the_same_run(tmp_path: Path) -> None:
    def told(root: Path) -> tuple[Any, ...]:
        (run,) = _read(root)
        return (
            run.model_id,
            run.timestamp,
            run.run_key,
            run.config,
            [task.names for task in run.tasks],
            _samples(run)[0],
        )

    first = told(_write(tmp_path / "a", SUMS, {"sums|0": SUM_ROWS}))
    flat = tmp_path / "b"
    flat.mkdir()
    for file in [file for file in (tmp_path / "a").rglob("*") if file.is_file()]:
        (flat / file.name).write_bytes(file.read_bytes())
    assert told(flat) == first


def test_renamed_files_are_recognised_by_what_is_in_them(tmp_path: Path) -> None:
    _write(tmp_path / "a", SUMS, {"sums|0": SUM_ROWS})
    for number, file in enumerate(sorted(file for file in (tmp_path / "a").rglob("*") if file.is_file())):
        (tmp_path / f"data{number}{file.suffix}").write_bytes(file.read_bytes())
        file.unlink()
    (run,) = _read(tmp_path)
    assert (run.model_id, run.tasks[0].names[0], run.timestamp) == (MODEL, "sums", None)
    assert len(_samples(run)[0]) == 2


def test_what_is_not_lighteval_is_left_alone(tmp_path: Path) -> None:
    documents: dict[str, Any] = {
        "results_2025-01-01T00-00-00.json": {"results": {"gsm8k": {"em": 1}}, "configs": {}, "lm_eval_version": "0.4"},
        "scorehouse.json": {"run_id": "r", "benchmark_name": "b", "timestamp": "t", "model_id": "m", "data": {}},
        "nested.json": {"a": {"config_general": {"x": 1}}},
        "list.json": [1],
    }
    for name, document in documents.items():
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "text.parquet").write_bytes(b"PAR1 and no more PAR1")
    (tmp_path / "short.parquet").write_bytes(b"PAR1")
    parquet.write_table(pa.table({"doc": ["x"], "metric": [1.0]}), tmp_path / "other.parquet")
    assert _find(tmp_path) == []


def test_a_file_that_is_cut(tmp_path: Path) -> None:
    root = _write(tmp_path, SUMS, {"sums|0": [_row(number, {"em": 1}) for number in range(50)]})
    (file,) = root.rglob("*.parquet")
    (run,) = _read(root)
    text = bytearray(file.read_bytes())
    text[4:2000] = b"\0" * 1996  # its description at the end is whole
    file.write_bytes(text)
    with pytest.raises(Unreadable, match=r"details_sums\|0_.*cannot be read as Parquet"):
        _samples(run)


def test_results_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "results_x.json").write_text('{"config_general": {"lighteval_sha": "?"}, "results"', encoding="utf-8")
    with pytest.raises(Unreadable, match=r"results_x\.json: is not JSON"):
        _read(tmp_path)
    (tmp_path / "results_x.json").write_text('{"config_general": {"model_name": "m"}, "results": {}}', encoding="utf-8")
    with pytest.raises(NotReadable, match="names no task"):
        _read(tmp_path)


def test_without_a_reader_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _write(tmp_path, SUMS, {"sums|0": SUM_ROWS})
    real = builtins.__import__

    def without_pyarrow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    assert len(_find(root)) == 1
    with pytest.raises(NotReadable, match=r"pip install 'scorehouse\[parquet\]'"):
        _read(root)


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [_row(number, {"em": 1}) for number in range(1000)]
    (run,) = _read(_write(tmp_path, SUMS, {"sums|0": rows}))
    batches: list[int] = []
    real = parquet.ParquetFile.iter_batches

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        for batch in real(self, *args, **kwargs):
            batches.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", counted)
    samples = run.tasks[0].samples
    assert samples is not None
    reading = samples(Ledger())
    assert next(reading).id == "0"
    assert len(batches) == 1
    assert [int(sample.id) for sample in reading] == list(range(1, 1000))
    assert sum(batches) == 1000
    assert len(batches) > 4
    assert all(left == right for left, right in pairwise(batches[:-1]))


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("gsm8k|0", (None, "gsm8k", "0")),
        ("lighteval|gsm8k|5", ("lighteval", "gsm8k", "5")),
        ("leaderboard|mmlu:anatomy|5|0", ("leaderboard", "mmlu:anatomy", "5")),
        ("harness|hendrycksTest-anatomy|5", ("harness", "hendrycksTest-anatomy", "5")),
        ("lighteval:gsm8k:0", ("lighteval", "gsm8k", "0")),
        ("lighteval:mmlu:anatomy:5", ("lighteval", "mmlu:anatomy", "5")),
        ("lighteval|math_500", ("lighteval", "math_500", None)),
        ("mmlu:anatomy", (None, "mmlu:anatomy", None)),
        ("2024|0", (None, "2024", "0")),
    ],
)
def test_keys_of_tasks(key: str, parts: tuple[str | None, str, str | None]) -> None:
    assert split_key(key) == parts

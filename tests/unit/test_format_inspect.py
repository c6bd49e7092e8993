"""Inspect's logs: `.json` and `.eval`, finished, running and damaged; what a sample's scores and texts become."""

import json
import math
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.formats import inspect_log
from shared.formats.comparison import Tallies, compare
from shared.formats.harness import HarnessRun, Ledger, NotReadable, ReadOptions, Sample
from shared.formats.inspect_head import read_log, scoring_of
from shared.formats.inspect_log import INSPECT
from shared.formats.inspect_sample import Scoring, number_of, sample_of
from shared.formats.json_reading import Unreadable
from shared.formats.mapping import map_task
from shared.formats.tree import read_tree
from shared.registry.load import load_registry
from shared.submission import Status
from tests.real_data import REAL_DATA, needs_real_data

if sys.version_info >= (3, 14):
    import zipfile
else:
    from backports.zstd import zipfile

MODEL = "acme/gull-7b"


def sample(id_: str | int = 1, epoch: int = 1, value: Any = "C", **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": id_, "epoch": epoch, "input": f"When is high tide at pier {id_}?", "target": "noon",
        "messages": [{"role": "user", "content": "…"}], "store": {}, "events": [{"event": "model"}],
        "output": {"model": "gull", "choices": [{"message": {"content": "At noon."}, "stop_reason": "stop"}],
                   "completion": "At noon."},
        "scores": {"tides": {"value": value, "answer": "noon", "explanation": "It is."}},
        "metadata": {"level": 3, "harbour": "north", "solution": "x" * 201, "tags": ["a"]},
        "model_usage": {MODEL: {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}},
        "total_time": 2.5, "working_time": 1.25, "uuid": "u1", "error_retries": [], "attachments": {},
    }  # fmt: skip
    return {key: value for key, value in (made | changes).items() if value is not None}


def score(metrics: dict[str, float], name: str = "tides", **changes: Any) -> dict[str, Any]:
    figures = {key: {"name": key, "value": value, "params": {}} for key, value in metrics.items()}
    return {"name": name, "scorer": "tides", "params": {}, "metrics": figures} | changes


def log(samples: Sequence[dict[str, Any]] | None, *scores: dict[str, Any], **changes: Any) -> dict[str, Any]:
    epochs = changes.pop("epochs", 1)
    ids = list(dict.fromkeys(one["id"] for one in samples or ()))
    made: dict[str, Any] = {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": "ev1", "run_id": "r1", "task_id": "t1", "created": "2026-03-01T10:00:00+09:00",
            "task": "harbour/tides", "task_version": 2, "task_args": {"subset": "north", "names": ["a"]},
            "dataset": {"name": "acme/tides", "sample_ids": ids}, "model": MODEL,
            "model_generate_config": {"temperature": 0.5}, "config": {"epochs": epochs, "epochs_reducer": ["mean"]},
            "packages": {"inspect_ai": "0.3.208"}, "scorers": [{"name": "tides"}],
        },
        "plan": {"steps": [{"solver": "generate"}]},
        "results": {"total_samples": len(samples or ()), "completed_samples": len(samples or ()),
                    "scores": list(scores)},
        "stats": {"started_at": "2026-03-01T10:00:01+09:00"},
    }  # fmt: skip
    made["eval"] |= changes.pop("eval", {})
    return made | changes | ({"samples": samples} if samples is not None else {})


def write_json(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, indent=2), "utf-8")
    return path


def write_eval(
    path: Path, document: dict[str, Any], method: int = zipfile.ZIP_DEFLATED, *, running: bool = False
) -> Path:
    head = {key: value for key, value in document.items() if key != "samples"}
    samples = list(document.get("samples") or ())
    random.Random(5).shuffle(samples)  # they are written as they are finished
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("_journal/start.json", json.dumps({key: head[key] for key in ("version", "eval", "plan")}))
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one, indent=2))
        archive.writestr("_journal/summaries/1.json", "[]")
        if not running:
            archive.writestr("header.json", json.dumps(head))
    return path


def read(path: Path, options: ReadOptions = ReadOptions()) -> tuple[HarnessRun, list[Sample], Ledger]:  # noqa: B008
    (finding,) = INSPECT.find(read_tree(path))
    (run,) = INSPECT.read(finding, options)
    ledger = Ledger()
    samples = run.tasks[0].samples
    return run, list(samples(ledger)) if samples else [], ledger


def agreements(path: Path) -> dict[str, bool | None]:
    run, samples, _ = read(path)
    tallies = Tallies(run)
    for one in samples:
        tallies.of(run.tasks[0]).add(one)
    return {one.name: one.agrees for one in compare(run, tallies)}


def convert(changes: dict[str, Any] | None = None, scoring: Scoring | None = None, **more: Any) -> Sample:
    return sample_of(sample(**(changes or {}), **more), scoring or Scoring(MODEL, "tides"), Ledger())


def test_a_log_says_what_was_run(tmp_path: Path) -> None:
    document = log([sample()], score({"accuracy": 1.0}))
    run, samples, ledger = read(write_json(tmp_path / "log.json", document))
    (task,) = run.tasks
    assert (run.model_id, run.timestamp, run.run_key) == (MODEL, "2026-03-01T01:00:00Z", "ev1")
    assert (run.harness_version, run.incomplete, run.warnings) == ("0.3.208", None, [])
    assert run.config["generation"] == {"temperature": 0.5}
    assert (task.names, task.version, task.metric, task.expected) == (
        ["harbour/tides", "tides", "acme/tides"], "2", "tides", 1,
    )  # fmt: skip
    assert task.origin == {"task": "harbour/tides", "dataset": "acme/tides", "task_args": {"subset": "north"}}
    assert samples == [
        Sample(
            id="1", score=1.0, answer="noon", target="noon", question="When is high tide at pier 1?", latency_ms=1250.0,
            input_tokens=10, output_tokens=4, origin={"metadata": {"level": 3, "harbour": "north"}},
            metrics={"tides": 1.0},
        )
    ]  # fmt: skip
    assert ledger.left == Counter(
        ["messages", "events", "uuid", "metadata.solution", "metadata.tags", "scores.explanation"]
    )


@pytest.mark.parametrize(
    ("language", "benchmark"), [("EN_US", "mmlu"), ("HI_IN", "mmlu_0_shot_hi_in"), ("default", "mmlu_0_shot_default")]
)
def test_a_benchmark_in_another_language_is_another(tmp_path: Path, language: str, benchmark: str) -> None:
    document = log([])
    document["eval"] |= {"task": "inspect_evals/mmlu_0_shot", "task_args": {"language": language}}
    (tmp_path / "log.json").write_text(json.dumps(document))
    [finding] = INSPECT.find(read_tree(tmp_path))
    [run] = INSPECT.read(finding, ReadOptions())
    assert map_task(run.tasks[0].names, load_registry()).benchmark == benchmark


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_ZSTANDARD])
@pytest.mark.parametrize("ids", [[1, 2, 10, 9], ["10", "9", "a/b", "x_epoch_1"]])
def test_the_same_log_as_json_and_as_eval_is_the_same(tmp_path: Path, method: int, ids: list[str | int]) -> None:
    rows = [sample(id_, epoch, "CI"[epoch - 1]) for epoch in (1, 2) for id_ in sorted(ids)]
    document = log(rows, score({"accuracy": 0.5}), epochs=2)
    packed, packed_samples, packed_ledger = read(write_eval(tmp_path / "log.eval", document, method))
    plain, plain_samples, plain_ledger = read(write_json(tmp_path / "log.json", document))
    assert [(one.id, one.attempt) for one in packed_samples] == [(str(row["id"]), row["epoch"] - 1) for row in rows]
    assert packed_samples == plain_samples
    assert packed_ledger.left == plain_ledger.left
    assert replace(packed, tasks=[]) == replace(plain, tasks=[])


@pytest.mark.parametrize("running", [False, True])
def test_logs_are_known_by_what_is_in_them(tmp_path: Path, running: bool) -> None:
    document = log([sample()], score({"accuracy": 1.0}))
    write_json(tmp_path / "data.txt", document)
    write_eval(tmp_path / "data.zip", document, running=running)
    for name, other in {
        "ours.json": {"run_id": "r", "benchmark_name": "mmlu", "timestamp": "…", "model_id": "m", "data": {"eval": {}}},
        "lm_eval.json": {"results": {}, "configs": {}, "config": {"model": "hf"}, "eval": "no"},
        "settings.json": {"version": 2, "status": "success", "eval": {"model": "m", "task": "t"}},
        "list.json": [document],
    }.items():
        (tmp_path / name).write_text(json.dumps(other))
    (tmp_path / "cut.json").write_text('{"eval": {"task": "t"')
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("samples/1_epoch_1.json", "{}")
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04 and no more")
    found = [finding.place for finding in INSPECT.find(read_tree(tmp_path))]
    assert found == ["data.txt", "data.zip"]


def test_a_running_log_is_read_as_far_as_it_got(tmp_path: Path) -> None:
    document = log([sample(1), sample(2)])
    document["eval"]["dataset"]["sample_ids"] = [1, 2, 3]
    run, samples, ledger = read(write_eval(tmp_path / "log.eval", document, running=True))
    assert run.incomplete == "its status is started"
    assert (run.tasks[0].metric, run.tasks[0].expected, len(samples)) == ("tides", 3, 2)
    assert list(ledger.warnings) == ["the log speaks of 3 samples and holds 2"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"status": "cancelled"}, "its status is cancelled"),
        ({"status": "error", "error": {"message": "no key\nat line 3"}}, "its status is error: no key"),
        ({"results": {"total_samples": 5, "logged_samples": 2, "scores": []}}, "2 of 5 samples were run"),
    ],
)
def test_runs_cut_short_say_so(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    run, _, _ = read(write_json(tmp_path / "log.json", log([sample()], **changes)))
    assert run.incomplete == told


def test_a_json_that_ends_too_early_gives_the_samples_before(tmp_path: Path) -> None:
    path = write_json(tmp_path / "log.json", log([sample(number) for number in range(5)]))
    whole = path.read_text("utf-8")
    path.write_text(whole[: whole.index('"id": 3')], "utf-8")
    (finding,) = INSPECT.find(read_tree(path))
    (run,) = INSPECT.read(finding, ReadOptions())
    assert run.incomplete == "the file ends too early"
    assert run.tasks[0].samples is not None
    samples = run.tasks[0].samples(Ledger())
    assert [next(samples).id for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(Unreadable, match=r"log\.json"):
        next(samples)


def test_members_that_cannot_be_read_are_refused_alone(tmp_path: Path) -> None:
    path = write_eval(tmp_path / "log.eval", log([sample(1)]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("samples/2_epoch_1.json", "{")
        archive.writestr("samples/3_epoch_1.json", "[]")
        archive.writestr("samples/4_epoch_1.json", '{"epoch": 1}')
        archive.writestr("samples/5_epoch_1.json", "{}", zipfile.ZIP_BZIP2)
        archive.writestr("samples/6_epoch_1.json", json.dumps(sample(6)), zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"at pier 6", b"at pier 7"))  # its checksum tells
    _, samples, ledger = read(path)
    assert [one.id for one in samples] == ["1"]
    assert [(reason, *places) for reason, places in ledger.refused.items()] == [
        ("is not JSON", "log.eval:samples/2_epoch_1.json"),
        ("is no object", "log.eval:samples/3_epoch_1.json"),
        ("is no sample of Inspect: an id and an epoch are expected", "log.eval:samples/4_epoch_1.json"),
        ("is packed by a method that is not read: deflate and zstd are", "log.eval:samples/5_epoch_1.json"),
        ("cannot be unpacked: BadZipFile", "log.eval:samples/6_epoch_1.json"),
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_ZSTANDARD])
def test_a_member_never_unpacks_to_more_than_it_says(tmp_path: Path, method: int) -> None:
    size = 64 * 1024 * 1024
    path = write_eval(tmp_path / "log.eval", log([sample(1)]))
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("samples/2_epoch_1.json", b" " * size)
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        _, samples, ledger = read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [one.id for one in samples] == ["1"]
    assert list(ledger.refused) == ["cannot be unpacked: BadZipFile"]
    assert peak < size / 8


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_half_an_archive_is_told(tmp_path: Path, keep: float) -> None:
    path = write_eval(tmp_path / "log.eval", log([sample()]))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(Unreadable, match="no whole zip archive"):
        read(path)


@pytest.mark.parametrize("write", [write_json, write_eval])
def test_a_log_without_samples_has_its_figures_alone(tmp_path: Path, write: Any) -> None:
    for number, document in enumerate([log(None, score({"accuracy": 0.5})), log([], score({"accuracy": 0.5}))]):
        run, _, _ = read(write(tmp_path / f"{number}.log", document))
        assert run.tasks[0].samples is None
        assert [(one.name, one.value) for one in run.tasks[0].stated] == [("tides/accuracy", 0.5)]


def test_the_first_version_had_one_score(tmp_path: Path) -> None:
    row = sample() | {"score": {"value": "P", "answer": "noon"}}
    del row["scores"]
    document = log([row], eval={"eval_id": "", "scorers": None})
    document["results"] = {"scorer": {"name": "tides"}, "metrics": {"accuracy": {"name": "accuracy", "value": 0.5}}}
    path = write_json(tmp_path / "log.json", document)
    run, samples, _ = read(path)
    assert (run.run_key, samples[0].score, samples[0].metrics) == ("r1-t1", 0.5, {"tides": 0.5})
    assert agreements(path) == {"tides/accuracy": True}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("C", 1), ("I", 0), ("P", 0.5), ("N", 0), ("yes", 1), ("No", 0), ("TRUE", 1), ("false", 0), (True, 1),
        (False, 0), (3, 3), (0.25, 0.25), ("0.75", 0.75), ("-2", -2), ("c", None), ("A", None), ("inf", None),
        (math.nan, None), (math.inf, None), ([1, 1], None), ({"a": 1}, None), (None, None), ("", None),
        (10**400, None),
    ],
)  # fmt: skip
def test_values_are_read_as_inspect_reads_them(value: object, number: float | None) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize("write", [write_json, write_eval])
def test_a_bare_nan_is_no_score(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "log", log([sample(1), sample(2, value=math.nan)], score({"accuracy": 1.0})))
    _, samples, ledger = read(path)
    assert [(one.status, one.score, one.metrics) for one in samples] == [
        (Status.SCORED, 1.0, {"tides": 1.0}),
        (Status.UNSCORED, None, {}),
    ]
    assert not ledger.warnings
    assert agreements(path) == {"tides/accuracy": True}


BROKEN: dict[str, Any] = {"error": {"message": "broke", "traceback": "…"}}
FILTERED: dict[str, Any] = {"output": {"choices": [{"stop_reason": "content_filter"}]}}


@pytest.mark.parametrize(
    ("changes", "status", "score_"),
    [
        ({"scores": {}, **BROKEN}, Status.ERROR, None),
        ({"scores": None, **BROKEN}, Status.ERROR, None),
        (BROKEN, Status.SCORED, 1.0),  # scored all the same
        ({"scores": {}}, Status.UNSCORED, None),
        ({"limit": {"type": "token", "limit": 100}}, Status.SCORED, 1.0),
        ({"scores": {}, "limit": {"type": "token", "limit": 100}}, Status.TRUNCATED, None),
        ({"value": math.nan, **FILTERED}, Status.REFUSED, None),
        (FILTERED, Status.SCORED, 1.0),
        ({"scores": {"tides": {"value": math.nan, "reason": "refusal"}}}, Status.REFUSED, None),
        ({"invalidation": {"author": "kim"}}, Status.UNSCORED, None),
        ({"value": ["C", "I"]}, Status.UNSCORED, None),
    ],
)
def test_what_became_of_a_sample(changes: dict[str, Any], status: Status, score_: float | None) -> None:
    made = convert(changes)
    assert (made.status, made.score) == (status, score_)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"value": 7}, "goes beyond 0 to 1"),
        ({"value": ["C"]}, "is neither a number nor"),
        ({"invalidation": {"author": "kim"}}, "invalidated"),
        ({"error_retries": [{"message": "x"}]}, "tried again"),
    ],
)
def test_what_is_odd_about_a_sample_is_told(changes: dict[str, Any], warning: str) -> None:
    ledger = Ledger()
    sample_of(sample(**changes), Scoring(MODEL, "tides"), ledger)
    (told,) = ledger.warnings
    assert warning in told


def test_a_score_of_several_numbers(tmp_path: Path) -> None:
    rows = [
        sample(1, scores={}, **BROKEN),
        sample(2, value={"long": 7, "good": True, "note": None}),
        sample(3, value={"good": 0, "long": math.nan}),
    ]
    path = write_json(tmp_path / "log.json", log(rows, score({"mean": 0.5}, "good"), score({"mean": 7.0}, "long")))
    run, samples, _ = read(path)
    assert run.tasks[0].metric == "tides.good"
    assert [one.score for one in samples] == [None, 1.0, 0.0]
    assert samples[1].metrics == {"tides.long": 7.0, "tides.good": 1.0}
    assert agreements(path) == {"tides.good/mean": True, "tides.long/mean": True}
    # Where the head does not say which of them it is, it is the first that a sample has.
    path = write_json(tmp_path / "log.json", log(rows, score({"custom": 0.5})))
    run, samples, _ = read(path)
    assert (run.tasks[0].metric, [one.score for one in samples]) == ("tides.long", [None, 7.0, None])


@pytest.mark.parametrize(
    ("metrics", "key"),
    [
        ({"good": [{"name": "mean"}], "long": [{"name": "mean"}]}, "good"),
        ([{"good": [{"name": "mean"}]}], "good"),
        ([{"name": "accuracy"}, {"good": [{"name": "mean"}]}], None),
        ({"*": [{"name": "mean"}]}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_running_log_has_the_score_that_it_will_have(tmp_path: Path, metrics: object, key: str | None) -> None:
    row = sample(value={"long": 7, "good": 1})
    document = log([row], eval={"scorers": [{"name": "tides", "metrics": metrics}]})
    assert scoring_of(read_log({"eval": document["eval"]})) == Scoring(MODEL, "tides", key)
    run, _, _ = read(write_eval(tmp_path / "log.eval", document, running=True))
    assert run.tasks[0].metric == f"tides.{key or 'long'}"


SEVERAL = [
    score({"accuracy": 1.0}),
    score({"mean": 0.5}, "good", scorer="judge"),
    score({"mean": 0.5}, "long", scorer="judge"),
]


@pytest.mark.parametrize(
    ("metric", "changes", "expected"),
    [
        (None, {}, ("tides", None)),
        (None, {"headline": {"scorer": "judge", "score": "long"}}, ("judge", "long")),
        (None, {"headline": {"scorer": "gone"}}, ("tides", None)),
        ("judge", {}, ("judge", "good")),
        ("judge.long", {}, ("judge", "long")),
        ("judge.other", {}, ("judge", "other")),
        ("tides", {}, ("tides", None)),
        (None, {"scores": [score({}), SEVERAL[1]]}, ("judge", "good")),
    ],
)
def test_which_score_is_taken(metric: str | None, changes: dict[str, Any], expected: tuple[str, str | None]) -> None:
    document = log(None, *SEVERAL)
    document["results"] |= changes
    scoring = scoring_of(read_log(document), metric)
    assert (scoring.scorer, scoring.key) == expected


def test_a_scorer_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(NotReadable, match=r"no scorer is called 'judges'; the log has tides, judge\.good, judge\.long"):
        scoring_of(read_log(log(None, *SEVERAL)), "judges")


def test_a_chosen_scorer_is_the_score(tmp_path: Path) -> None:
    row = sample(scores={"tides": {"value": "C"}, "judge": {"value": {"good": 0.25, "long": 2}, "answer": "late"}})
    path = write_json(tmp_path / "log.json", log([row], *SEVERAL))
    run, (made,), _ = read(path, ReadOptions(metric="judge"))
    assert (run.tasks[0].metric, made.score, made.answer) == ("judge.good", 0.25, "late")
    run, (made,), _ = read(path)
    assert (made.score, made.answer) == (1.0, "At noon.")
    assert run.warnings == ["there are several scorers (tides, judge): the score is tides's"]


def test_figures_over_epochs_are_over_questions(tmp_path: Path) -> None:
    # Question 1 has one attempt left: the mean over questions is not the mean over attempts.
    rows = [sample(1, 1, "C"), sample(1, 2, math.nan), sample(2, 1, "I"), sample(2, 2, "I")]
    stated = [
        score({"accuracy": 0.5, "stderr": 0.5}, reducer="mean", scored_samples=2),
        score({"accuracy": 1.0}, reducer="mode", scored_samples=2),
        score({"accuracy": 1 / 3}, scored_samples=3),
    ]
    path = write_json(tmp_path / "log.json", log(rows, *stated, epochs=2))
    run, _, _ = read(path)
    assert [(one.kind, one.per_question, one.count) for one in run.tasks[0].stated] == [
        ("mean", True, 2), ("stderr", True, 2), ("accuracy of mode", True, 2), ("mean", False, 3),
    ]  # fmt: skip
    assert agreements(path) == {
        "tides/accuracy (mean)": True, "tides/stderr (mean)": True, "tides/accuracy (mode)": None,
        "tides/accuracy": True,
    }  # fmt: skip


def test_samples_of_one_id_all_come_and_figures_are_over_ids(tmp_path: Path) -> None:
    rows = [sample("a"), sample("a", value="I"), sample("b", value="I")]
    path = write_json(tmp_path / "log.json", log(rows, score({"accuracy": 0.25}, scored_samples=2)))
    _, samples, _ = read(path)
    assert [(one.id, one.attempt, one.score) for one in samples] == [("a", 0, 1.0), ("a", 0, 0.0), ("b", 0, 0.0)]
    assert agreements(path) == {"tides/accuracy": True}


def test_a_head_may_name_a_scorer_with_its_package(tmp_path: Path) -> None:
    row = sample(scores={"length": {"value": 40}, "tides": {"value": "C"}})
    document = log([row], eval={"scorers": [{"name": "acme/tides"}, {"name": "length"}]})
    _, (made,), _ = read(write_eval(tmp_path / "log.eval", document, running=True))
    assert made.score == 1.0


def test_archives_and_members_have_a_size_that_is_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_eval(tmp_path / "log.eval", log([sample(1), sample(2, input="Why? " * 1000)]))
    monkeypatch.setattr(inspect_log, "VALUE_MAX_BYTES", 4000)
    _, samples, ledger = read(path)
    assert [one.id for one in samples] == ["1"]
    assert list(ledger.refused) == ["has more than 4,000 bytes"]
    monkeypatch.setattr(inspect_log, "UNPACKED_MAX_BYTES", 5000)
    with pytest.raises(Unreadable, match="unpacks to more than 5,000 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("figure", "kind"),
    [
        ({"name": "inspect_ai/accuracy"}, "mean"),
        ({"name": "stderr", "params": {"cluster": "harbour"}}, "clustered stderr"),
        ({"name": "stderr", "options": {"cluster": "harbour"}}, "clustered stderr"),
        ({"name": "mean", "group": "grouped"}, "mean of grouped"),
        ({"name": "std"}, "std"),
    ],
)
def test_what_cannot_be_recomputed_has_a_kind_of_its_own(tmp_path: Path, figure: dict[str, Any], kind: str) -> None:
    stated = score({})
    stated["metrics"] = {"m": figure | {"value": 1}}
    run, _, _ = read(write_json(tmp_path / "log.json", log([sample()], stated)))
    assert [one.kind for one in run.tasks[0].stated] == [kind]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 14, "reasoning_tokens": 3}, (10, 4)),
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 24, "reasoning_tokens": 10}, (10, 14)),
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 44, "input_tokens_cache_read": 20,
          "input_tokens_cache_write": 10}, (40, 4)),
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 14, "input_tokens_cache_read": 8}, (10, 4)),
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 19, "input_tokens_cache_read": 8,
          "reasoning_tokens": 5}, (10, 9)),
        ({"input_tokens": 10, "output_tokens": 4, "total_tokens": 20, "input_tokens_cache_read": 6,
          "reasoning_tokens": 3}, (16, 4)),
        ({"input_tokens": "many", "output_tokens": 4}, (None, None)),
    ],
)  # fmt: skip
def test_tokens_are_counted_alike_whoever_serves(
    usage: dict[str, Any], expected: tuple[int | None, int | None]
) -> None:
    made = convert({"model_usage": {"acme/judge": {"input_tokens": 999, "output_tokens": 999}, MODEL: usage}})
    assert (made.input_tokens, made.output_tokens) == expected


@pytest.mark.parametrize(
    ("changes", "question"),
    [
        ({"input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"},
                    {"role": "assistant", "content": "Hm."}]}, "Why?"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "image", "image": "…"},
                                                 {"type": "text", "text": "not?"}]}]}, "Why\nnot?"),
        ({"input": "attachment://5f", "attachments": {"5f": "A long one?"}}, "A long one?"),
        ({"input": [{"role": "user", "content": "attachment://5f"}], "attachments": {"5f": "A long one?"}},
         "A long one?"),
        ({"input": "attachment://5f"}, "attachment://5f"),
        ({"input": [{"role": "system", "content": "Be brief."}]}, None),
    ],
)  # fmt: skip
def test_the_question_is_the_text_that_the_user_sent(
    tmp_path: Path, changes: dict[str, Any], question: str | None
) -> None:
    for path in (
        write_json(tmp_path / "log.json", log([sample(**changes)])),
        write_eval(tmp_path / "log.eval", log([sample(**changes)])),
    ):
        _, (made,), _ = read(path)
        assert made.question == question


def test_the_answer_is_the_models_text_where_nothing_was_extracted() -> None:
    said = {"scores": {"tides": {"value": "I"}}, "choices": ["noon", "dusk"], "target": ["A", "B"]}
    assert convert(said).answer == "At noon."
    older = convert(said, output={"choices": [{"message": {"content": [{"type": "text", "text": "At dusk."}]}}]})
    assert (older.answer, older.choices, older.target) == ("At dusk.", ["noon", "dusk"], ["A", "B"])


def test_times_without_an_offset_are_not_taken(tmp_path: Path) -> None:
    document = log([sample()], eval={"created": "2026-03-01T10:00:00"}, stats={"started_at": ""})
    run, _, _ = read(write_json(tmp_path / "log.json", document))
    assert run.timestamp is None
    assert "has no offset" in run.warnings[0]


_odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "C", "attachment://x", "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["value", "role", "content", "text", "tides", MODEL, "message"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(sample())), _odd, max_size=4))
def test_whatever_stands_in_a_sample_it_is_one_or_is_refused(changes: dict[str, Any]) -> None:
    row = sample() | changes
    scoring = Scoring(MODEL)
    try:
        made = sample_of(row, scoring.settled(row) or scoring, Ledger())
    except ValueError:
        assert {"id", "epoch"} & changes.keys()
        return
    assert (made.score is not None) == (made.status is Status.SCORED)
    assert all(math.isfinite(number) for number in made.metrics.values())


REAL = {
    "data_arc_qwen.json": 3, "data_arc_sonnet.json": 5, "data_pubmedqa_gpt4o_mini.json": 2, "gsm8k.json": 5,
    "healthbench.json": 5, "ifeval.json": 5, "math.json": 5, "mmlu-0-shot.json": 5, "mmlu-pro.json": 5,
    "2025-09-15T15-02-26-04-00_popularity_L8g2GLGDDfsiXvdJ8LyZNJ.eval": 100,
    "2025-09-15T15-02-26-04-00_popularity_LthYhadZHuQjsMYHHKRep2.eval": 100,
    "2025-09-15T15-02-26-04-00_popularity_eF3BogZE3jzpiWBjjDWbik.eval": 100,
    "2025-09-15T15-04-34-04-00_popularity_CuCFPdqnwXupUkxp69nJ2a.eval": 50,
    "2025-09-15T15-04-34-04-00_popularity_J5EskSJVsBD9iRd47twk8x.eval": 50,
    "2025-09-15T15-04-34-04-00_popularity_jKN69eAYYpZFAZhRgMAztp.eval": 50,
    "retry-2-then-success.eval": 1, "2025-05-12T20-28-13-04-00_no-samples.json": 0, "mmlu-no-summary-choices.eval": 1,
    "mmlu-summary-choices.eval": 1, "log_formats.eval": 1, "log_formats.json": 1,
}  # fmt: skip


@needs_real_data
def test_real_logs() -> None:
    tree = read_tree(REAL_DATA / "native")
    found = {finding.files[0].name: finding.files[0].location for finding in INSPECT.find(tree)}
    assert found.keys() == REAL.keys()
    counts: Counter[bool | None] = Counter()
    for name, location in found.items():
        run, samples, ledger = read(location)
        assert len(samples) == REAL[name]
        assert not ledger.refused
        assert run.timestamp is not None
        assert all(one.question and one.metrics for one in samples if one.status is Status.SCORED)
        counts.update(agreements(location).values())
    # Ten are of a metric of ifeval's own, two of a log without samples, the rest standard errors of a single sample.
    assert counts == {True: 34, None: 16}


@needs_real_data
def test_real_logs_of_one_run_in_both_forms_are_the_same() -> None:
    folder = REAL_DATA / "native/inspect_ai/history/tests/log/test_eval_log"
    packed, packed_samples, _ = read(folder / "log_formats.eval")
    plain, plain_samples, _ = read(folder / "log_formats.json")
    assert (packed.run_key, packed.timestamp, packed.model_id) == (plain.run_key, plain.timestamp, plain.model_id)
    assert packed_samples == plain_samples

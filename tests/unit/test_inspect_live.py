"""A running evaluation of Inspect against its finished log: the same questions, in the same order."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from scorehouse.inspect_live import LiveEvaluation
from scorehouse.live_journal import Ended, Journal
from shared.formats.standardize import StandardResult
from shared.registry.load import load_registry
from tests.inspect_files import PLAN, inspect_sample, inspect_spec, write_inspect_log

REGISTRY = load_registry()
Begin = Callable[[dict[str, Any]], LiveEvaluation]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins an evaluation."""
    opened: list[Journal] = []

    def make(spec: dict[str, Any]) -> LiveEvaluation:
        journal = Journal.create(tmp_path / "live", spec["eval_id"])
        assert journal is not None
        opened.append(journal)
        return LiveEvaluation(spec, PLAN, REGISTRY, journal)

    yield make
    for journal in opened:
        journal.close()


def ending(live: LiveEvaluation) -> str | None:
    return live.push.ending.how if live.push.ending else None


SCORES = {"match": {"value": {"whole": 1, "part": 0}, "answer": "x"}}
NONE = {"match": {"value": {"whole": float("nan"), "part": float("nan")}}}


@pytest.mark.parametrize(
    ("ids", "changes"),
    [
        ([2, 10, 1], {}),
        (["10", "9", "b/c", "1"], {}),
        ([1, 2], {"scores": SCORES}),
        ([1, 2], {"scores": {"match": {"value": "?"}}}),
        ([1, 2], {"scores": NONE}),
        ([1, 2], {"scores": None, "error": {"message": "x"}}),
        ([1, 2], {"target": ["a", "b"], "choices": ["a", "b", "c"]}),
        ([1, 2], {"metadata": {"level": "no level", "other": "x" * 300}}),
        ([1, 2], {"attachments": {"a1": "long"}, "input": "attachment://a1"}),
    ],
    ids=[
        "numbers",
        "texts",
        "several numbers",
        "no score",
        "not a number",
        "errors",
        "choices",
        "odd metadata",
        "attachments",
    ],
)
def test_what_ended_in_any_order_is_what_the_log_has(
    begin: Begin, tmp_path: Path, ids: list[int | str], changes: dict[str, Any]
) -> None:
    spec = inspect_spec(ids, epochs=2)
    samples = [inspect_sample(id_, epoch=epoch, **changes) for id_ in ids for epoch in (2, 1)]
    live = begin(spec)
    for sample in samples:
        live.add(sample)
    live.finish(write_inspect_log(tmp_path / "log.json", spec, samples))
    assert ending(live) == "finish"


def test_samples_that_end_at_the_same_time_do_not_mix(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = inspect_spec(range(1, 41))
    samples = [inspect_sample(id_) for id_ in range(1, 41)]
    live = begin(spec)

    read = StandardResult.questions

    def slowly(result: StandardResult) -> Iterator[bytes]:
        Event().wait(0.002)  # whoever else may go on does so now
        return read(result)

    monkeypatch.setattr(StandardResult, "questions", slowly)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(live.add, samples))
    live.finish(write_inspect_log(tmp_path / "log.json", spec, samples))
    ended = [line for line in live.push.journal.read() if isinstance(line, Ended)]
    assert sorted(line.rank for line in ended) == list(range(40))
    assert all(f'"question_id":"{line.rank + 1}"'.encode() in bytes(line.question) for line in ended)
    assert ending(live) == "finish"


def test_the_score_is_settled_by_the_first_sample_that_has_one(begin: Begin, tmp_path: Path) -> None:
    spec = inspect_spec([1, 2, 3], scorers=[])
    samples = [
        inspect_sample(1, scores=None, error={"message": "x"}),
        inspect_sample(2, scores=SCORES),
        inspect_sample(3, scores=SCORES),
    ]
    live = begin(spec)
    live.add(samples[0])
    assert not live.push.may_open
    live.add(samples[1])
    assert live.push.may_open
    live.add(samples[2])
    assert live.push.envelope is not None
    assert live.push.envelope.provenance is not None
    assert live.push.envelope.provenance.grader == "match.whole"


@pytest.mark.parametrize(
    "log",
    [
        lambda samples: samples[:1],
        lambda samples: [*samples, inspect_sample(7)],
        lambda samples: [inspect_sample(1, value="I"), samples[1]],
    ],
    ids=["fewer", "one that nobody knew of", "another score"],
)
def test_a_log_that_says_something_else_is_imported(
    begin: Begin, tmp_path: Path, log: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    spec = inspect_spec([1, 2])
    samples = [inspect_sample(1), inspect_sample(2)]
    live = begin(spec)
    for sample in samples:
        live.add(sample)
    live.push._cut(is_over=False)  # noqa: SLF001 - as if they had been sent
    file = write_inspect_log(tmp_path / "log.json", spec, log(samples))
    live.finish(file)
    assert ending(live) == "import"
    assert live.push.ending is not None
    assert list(live.push.ending.files) == [str(file)]


def test_a_log_that_cannot_be_read_is_for_the_service_to_judge(begin: Begin, tmp_path: Path) -> None:
    live = begin(inspect_spec([1]))
    live.add(inspect_sample(1))
    live.finish(tmp_path / "absent.eval")
    assert ending(live) == "import"


def test_a_sample_that_is_not_on_the_list_waits_for_the_log(begin: Begin, tmp_path: Path) -> None:
    live = begin(inspect_spec([1]))
    live.add(inspect_sample(2))
    live.add({"id": None})
    assert [line for line in live.push.journal.read() if getattr(line, "rank", None) is not None] == []

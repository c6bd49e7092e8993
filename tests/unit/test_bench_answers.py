"""The benchmarks' made-up answers: documents and columns say the same, and a wrong answer ends a benchmark."""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared.analysis import AnalysisRequest
from tests.bench.duckdb_peer import DuckdbPeer
from tests.bench.group_bys import check_cells, different_requests
from tests.bench.mmlu import MODELS, QUESTIONS, STATUSES, MadeUpMmlu, MadeUpRun, first_of_each_subject

PART = 0.02


@pytest.fixture(scope="module")
def mmlu() -> MadeUpMmlu:
    return MadeUpMmlu(seed=3)


@pytest.fixture(scope="module")
def runs(mmlu: MadeUpMmlu) -> list[MadeUpRun]:
    asked = first_of_each_subject(PART)
    return [mmlu.run(number, asked) for number in range(2 * MODELS)]


def questions(run: MadeUpRun) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run.document)["data"]["questions"]
    return found


def test_the_whole_has_mmlus_shape(mmlu: MadeUpMmlu) -> None:
    assert (QUESTIONS, len(set(mmlu.subjects)), len(set(mmlu.categories))) == (14_042, 57, 4)
    assert len(set(mmlu.ids)) == QUESTIONS
    assert len(first_of_each_subject(1.0)) == QUESTIONS
    assert {mmlu.subjects[number] for number in first_of_each_subject(PART)} == set(mmlu.subjects)


def test_document_and_columns_say_the_same(mmlu: MadeUpMmlu, runs: list[MadeUpRun]) -> None:
    for run in runs:
        told = questions(run)
        assert [question["question_id"] for question in told] == [mmlu.ids[number] for number in run.asked]
        assert [question["status"] for question in told] == [STATUSES[status] for status in run.statuses]
        assert np.array_equal([question.get("score", np.nan) for question in told], run.scores, equal_nan=True)
        for question in told:
            if question["status"] == "scored":
                assert question["score"] == float(question["answer"] == question["target"])
    assert {question["status"] for run in runs for question in questions(run)} == set(STATUSES)


def test_a_run_is_the_same_for_the_same_seed(mmlu: MadeUpMmlu, runs: list[MadeUpRun]) -> None:
    asked = first_of_each_subject(PART)
    assert MadeUpMmlu(seed=3).run(1, asked).document == runs[1].document
    assert MadeUpMmlu(seed=4).run(1, asked).document != runs[1].document
    assert mmlu.run(1, asked, prefix="other").result_name != runs[1].result_name


def answer(runs: list[MadeUpRun]) -> list[dict[str, Any]]:
    """The rows of a model × category × subject group-by, the slow way."""
    cells: dict[tuple[str, str, str], list[tuple[str, float | None]]] = defaultdict(list)
    for run in runs:
        for question in questions(run):
            place = question["metadata"]
            key = (run.model, place["category"], place["subject"])
            cells[key].append((question["question_id"], question.get("score")))
    rows = []
    for (model, category, subject), attempts in cells.items():
        scores = [score for _, score in attempts if score is not None]
        rows.append(
            {
                "model": model,
                "category": category,
                "subject": subject,
                "n": len(scores),
                "n_questions": len({name for name, _ in attempts}),
                "mean": sum(scores) / len(scores),
            }
        )
    return rows


def spoil(key: str, by: float) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[7][key] += by

    return change


@pytest.mark.parametrize("names", ["text", "enums"])
def test_duckdb_counts_as_the_documents_do(mmlu: MadeUpMmlu, runs: list[MadeUpRun], names: Any) -> None:
    with DuckdbPeer(mmlu, names) as peer:
        peer.add(runs)
        latest = runs[-MODELS:]
        for chosen, of_them in ((None, runs), ([run.result_name for run in latest], latest)):
            check_cells(json.dumps({"rows": answer(of_them)}).encode(), peer.group_with_questions(chosen), "test")


@pytest.mark.parametrize(
    "change",
    [
        spoil("n", 1),
        spoil("n_questions", -1),
        spoil("mean", 2e-9),
        lambda rows: rows.pop(),
        lambda rows: rows.append(rows[0]),
        lambda rows: rows[0].update(subject="other"),
    ],
    ids=["n", "n_questions", "mean", "missing", "twice", "other group"],
)
def test_a_wrong_answer_ends_the_benchmark(
    mmlu: MadeUpMmlu, runs: list[MadeUpRun], change: Callable[[list[dict[str, Any]]], object]
) -> None:
    rows = answer(runs)
    change(rows)
    with DuckdbPeer(mmlu, "text") as peer:
        peer.add(runs)
        with pytest.raises(SystemExit):
            check_cells(json.dumps({"rows": rows}).encode(), peer.group_with_questions(), "test")


def test_the_crowds_requests_are_valid_and_differ(mmlu: MadeUpMmlu) -> None:
    requests = [AnalysisRequest.model_validate(request) for request in different_requests(mmlu)]
    assert len({request.model_dump_json() for request in requests}) == 64

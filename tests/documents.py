"""Standardized results for tests, as the analysis service meets them, and a slow reference for its sums."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from analysis_service.projection.apply import ResultEntry
from analysis_service.projection.prepare import PreparedRun, prepare_run
from shared.names import result_name
from shared.registry.specs import Registry
from shared.results import FeedEntry

Answer = dict[str, Any]


def make_answer(question_id: str, score: float | None = 1.0, **changes: Any) -> Answer:
    """One entry of `data.questions`; metadata by keyword `metadata`."""
    answer: Answer = {"question_id": question_id, **changes}
    if score is not None:
        answer["score"] = score
    return answer


def document(
    answers: Sequence[Answer] | None = None,
    *,
    data: Any = None,
    run_id: str = "run-1",
    benchmark: str = "math500",
    model: str = "gpt-4",
    source: str = "tests",
    timestamp: str = "2024-01-01T12:00:00Z",
    state: str = "valid",
    live: str | None = None,
    provenance: dict[str, Any] | None = None,
) -> bytes:
    """What the results service answers for a result, or with `live`, its state, for a live run."""
    content = json.dumps({"questions": answers} if data is None else data)
    return json.dumps(
        {
            "result_name": result_name(timestamp, benchmark, run_id),
            "run_id": run_id,
            "benchmark_name": benchmark,
            "timestamp": timestamp,
            "model_id": model,
            "source": source,
            "sha256": sha256(content.encode()).hexdigest(),
            "state": state,
            **({} if live is None else {"live": live}),
            **({} if provenance is None else {"provenance": provenance}),
            "data": json.loads(content),
        }
    ).encode()


def prepare(registry: Registry, answers: Sequence[Answer] | None = None, **changes: Any) -> PreparedRun:
    """A result, ready to be applied."""
    return prepare_run(document(answers, **changes), registry)


def entry_of(run: PreparedRun, seq: int, kind: str = "result") -> FeedEntry:
    """The feed's entry for a result, or for a live run."""
    href = f"/standardized_output/{run.result_name}" if run.live is None else f"/live_runs/{run.result_name}/questions"
    return FeedEntry(seq=seq, kind=kind, result_name=run.result_name, sha256=run.sha256, href=href)


def applied_as(run: PreparedRun, seq: int) -> ResultEntry:
    """A result as the projection has it after `entry_of(run, seq)`."""
    return ResultEntry(run.result_name, seq, entry_of(run, seq).href)


def reference_keys(answers: Sequence[Answer]) -> list[tuple[str, ...]]:
    """What makes each answer's question the same one in all runs, by the definition alone."""
    texts = []
    for answer in answers:
        told = [other.get("content_hash") for other in answers if other["question_id"] == answer["question_id"]]
        texts.append(answer.get("content_hash") or next(filter(None, told), None))
    keys: list[tuple[str, ...]] = []
    for answer, text in zip(answers, texts, strict=True):
        if text is None:
            keys.append(("id", answer["question_id"]))
            continue
        ids = dict.fromkeys(
            other["question_id"] for other, its_text in zip(answers, texts, strict=True) if its_text == text
        )
        keys.append(("text", text, str(list(ids).index(answer["question_id"]))))
    return keys


def expected_cells(
    runs: Iterable[tuple[str, Sequence[Answer]]], fields: Sequence[str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """(model, field values …) → n, n_questions, mean, mean_by_question, by the definitions and nothing else."""
    scores: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    by_question: dict[tuple[Any, ...], dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    questions: dict[tuple[Any, ...], set[tuple[str, ...]]] = defaultdict(set)
    for number, (model, answers) in enumerate(runs):
        for answer, question in zip(answers, reference_keys(answers), strict=True):
            metadata = answer.get("metadata", {})
            key = (model, *(metadata.get(field) for field in fields))
            questions[key].add(question)
            if answer.get("status", "scored") == "scored":
                scores[key].append(answer["score"])
                by_question[key][number, question].append(answer["score"])
    cells = {}
    for key, asked in questions.items():
        means = [sum(attempts) / len(attempts) for attempts in by_question[key].values()]
        cells[key] = {
            "n": len(scores[key]),
            "n_questions": len(asked),
            "mean": sum(scores[key]) / len(scores[key]) if scores[key] else None,
            "mean_by_question": sum(means) / len(means) if means else None,
        }
    return cells

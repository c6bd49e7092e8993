"""The statistics of rows against a slow reference, on random data and requests."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from analysis_service.database import Database
from analysis_service.group_by.analyze import analyze
from shared.analysis import AnalysisAnswer, AnalysisRequest
from shared.problems import PoolExhausted
from shared.registry.specs import Registry
from tests.documents import Answer, make_answer
from tests.row_statistics import Asked, Attempt, add_adjusted, row_delta, row_statistics
from tests.store.test_reference import (
    FACTS,
    HIGH,
    LOW,
    TYPES,
    VALUES,
    Group,
    StoredRun,
    expected_groups,
    fill,
    make_registry,
    random_answers,
    random_request,
)

LEAST_SHARED = 6
SEED = 2
"""Of runs that have everything in them."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return make_registry(tmp_path_factory.mktemp("registry"))


def random_measurements(chance: random.Random) -> list[Answer]:
    """As most runs are: nearly all questions, once each or some times, right or wrong or between, few failures."""
    most, scores = chance.choice([1, 1, 1, 3]), chance.choice([(LOW, HIGH), (-1, 0, 0.1, 2.5, 3)])
    nulls = chance.choice([0.0] * 5 + [0.1])
    answers = []
    for number in chance.sample(range(45), chance.choice([45, 44, 30])):
        kind = random.Random(number)
        told = {name: None if chance.random() < nulls else kind.choice(values) for name, values in VALUES.items()}
        for attempt in range(chance.randint(1, most)):
            status = chance.choice(["scored"] * 12 + ["refused", "truncated", "error", "unscored"])
            score = chance.choice(scores) if status == "scored" else None
            answers.append(make_answer(f"q{number}", score, attempt=attempt, status=status, metadata=told))
    return answers


def expected_rows(
    request: dict[str, Any], runs: list[StoredRun], registry: Registry
) -> tuple[list[str], dict[tuple[Any, ...], dict[str, Any]]]:
    group_by, groups = expected_groups(request, runs, registry)
    rows = {key: group.measures(request["error_policy"]) for key, group in groups.items()}
    add_statistics(rows, groups, group_by, request, registry)
    return group_by, rows


def add_statistics(
    rows: dict[tuple[Any, ...], dict[str, Any]],
    groups: dict[tuple[Any, ...], Group],
    group_by: list[str],
    request: dict[str, Any],
    registry: Registry,
) -> None:
    """Add the statistics of rows, which are those of their answers one by one."""
    cluster_by = request.get("cluster_by")
    macro_over = request.get("macro_over") or below(group_by)
    asked = Asked(request["error_policy"], request["confidence"], cluster_by is not None, LOW, HIGH)
    attempts = {
        key: [
            Attempt(
                question,
                answer["status"],
                answer.get("score") if answer["status"] == "scored" else None,
                macro_over and run.value(answer, macro_over),
                cluster_by and run.value(answer, cluster_by),
            )
            for run, answer, question in group.answers
        ]
        for key, group in groups.items()
    }
    for key in rows:
        rows[key] |= row_statistics(attempts[key], asked)
    if "baseline_model" not in request:
        return
    baseline = registry.canonical_model(request["baseline_model"])
    place = group_by.index("model")
    fields = [number for number, name in enumerate(group_by) if name not in FACTS]
    others: dict[tuple[Any, ...], list[Attempt]] = defaultdict(list)
    for key, own in attempts.items():
        if key[place] == baseline:
            others[tuple(key[number] for number in fields)] += own
    for key in rows:
        same = [] if key[place] == baseline else others[tuple(key[number] for number in fields)]
        rows[key] |= row_delta(attempts[key], same, asked, LEAST_SHARED)
    add_adjusted(rows, request["correction"], request["confidence"])


def below(group_by: list[str]) -> str | None:
    """`num` refines `cat`; without a field among the levels that is the first that others refine."""
    fields = [name for name in group_by if name not in FACTS]
    return ("num" if fields[-1] == "cat" and "num" not in fields else None) if fields else "cat"


def random_statistics(chance: random.Random, request: dict[str, Any], models: set[str]) -> dict[str, Any]:
    """What to ask besides."""
    levels = [request[f"level{number}"] for number in (1, 2, 3) if f"level{number}" in request]
    others = [name for name in TYPES if name not in levels]
    told: dict[str, Any] = {"statistics": True, "confidence": chance.choice([0.5, 0.9, 0.95, 0.999])}
    if chance.random() < 0.3:
        told["cluster_by"] = "lvl" if "lvl" in others and chance.random() < 0.7 else chance.choice(others)
    if chance.random() < 0.3:
        told["macro_over"] = chance.choice(others)
    by_model = request.get("by_model", not {"model", "run"} & set(levels))
    if models and (by_model or "model" in levels) and chance.random() < 0.4:
        told |= {"baseline_model": chance.choice(sorted(models)), "correction": chance.choice(["holm", "bh", "none"])}
    return told


@pytest.mark.parametrize(("random_run", "rounds"), [(random_answers, 50), (random_measurements, 80)])
async def test_statistics_agree_with_the_reference(
    store: Database,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    random_run: Callable[[random.Random], list[Answer]],
    rounds: int,
) -> None:
    monkeypatch.setattr("analysis_service.group_by.baseline.MIN_SHARED", LEAST_SHARED)
    reader, runs = await fill(store, registry, random_run, SEED)
    chance = random.Random(5)
    seen: Counter[Any] = Counter()
    for _ in range(rounds):
        request = random_request(chance, runs)
        if chance.random() < 0.8:  # few rows, so that they have many questions
            kept = ("benchmark", "include_null", "error_policy", "shared_questions", "by_model", "runs")
            request = {name: told for name, told in request.items() if name in kept}
            request |= {"level1": chance.choice(["model", "cat", "flag", "vendor"])}
            request |= {"runs": "latest"} if chance.random() < 0.6 else {}
        request["limit"] = 100_000
        plain = await analyze(reader, AnalysisRequest.model_validate(request))
        request |= random_statistics(chance, request, {run.model for run in plain.runs})
        group_by, expected = expected_rows(request, runs, registry)
        answer = await analyze(reader, AnalysisRequest.model_validate(request | {"explain": True}))
        check_answer(answer, plain, request, group_by, expected)
        assert answer.plan is not None
        for row in expected.values():
            seen[answer.plan.kind, request["error_policy"], row["method"]] += 1
            seen[row.get("delta_method")] += 1
            seen["macro"] += row["macro_se"] is not None
    if random_run is random_measurements:
        methods = ("wilson", "t", "wilson on effective n", "wilson on effective n (CR2)")
        kinds = {(kind, method) for kind in ("sums", "answers") for method in methods}
        kinds.remove(("sums", "wilson on effective n"))
        assert kinds <= {(told[0], told[2]) for told in seen if isinstance(told, tuple)}, seen
        policies = {(policy, method) for policy in ("exclude", "wrong") for method in methods}
        policies |= {("bounds", method) for method in ("clopper-pearson", *methods[1:])}
        assert policies <= {told[1:] for told in seen if isinstance(told, tuple)}, seen
        assert all(seen[method] > 5 for method in ("tango", "paired t", "clustered t (CR2)", "macro")), seen


def check_answer(
    answer: AnalysisAnswer,
    plain: AnalysisAnswer,
    request: dict[str, Any],
    group_by: list[str],
    expected: dict[tuple[Any, ...], dict[str, Any]],
) -> None:
    assert answer.plan is not None
    names = [statement.name for statement in answer.plan.statements]
    assert len(names) == len(set(names)), "one statement each, whatever is asked for"
    measures = list(plain.rows[0]) if plain.rows else []
    assert [{name: row[name] for name in measures} for row in answer.rows] == plain.rows, "to the bit"
    assert answer.macro_over == request.get("macro_over", below(group_by))
    if "baseline_model" in request:
        assert answer.n_tests == sum(row["p"] is not None for row in expected.values())
    found = {tuple(row[name] for name in group_by): row for row in answer.rows}
    assert found.keys() == expected.keys(), request
    for key, row in expected.items():
        told = {name: found[key][name] for name in row}
        assert told == pytest.approx(row, abs=1e-9), (request, key, found[key]["reason"])
        unknown = {name for name, value in row.items() if value is None} - {"n_clusters", *measures}
        if answer.macro_over is None:
            unknown -= {name for name in row if name.startswith("macro_")}
        assert bool(unknown) <= (found[key]["reason"] is not None), (request, key, unknown)


async def test_statistics_of_many_questions_need_a_place_among_large_answers(
    store: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, runs = await fill(store, registry, random_measurements)
    model = str(runs[0].facts["model"])
    request = AnalysisRequest(benchmark="first", level1="model", runs="all", statistics=True, baseline_model=model)
    expected = await analyze(reader, request)
    monkeypatch.setattr("analysis_service.group_by.analyze.LARGE_QUESTIONS", 1)
    assert (await analyze(reader, request)).rows == expected.rows
    reader.plan_timeout_s = 0.2
    while not reader.large_answers.locked():
        await reader.large_answers.acquire()
    with pytest.raises(PoolExhausted, match="Other answers about this much are being made"):
        await analyze(reader, request)
    assert (await analyze(reader, request.model_copy(update={"statistics": False, "baseline_model": None}))).rows


@pytest.mark.parametrize("baseline", [False, True])
async def test_statistics_come_in_stretches_to_the_bit(
    store: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch, baseline: bool
) -> None:
    reader, runs = await fill(store, registry, random_measurements)
    model = str(runs[0].facts["model"]) if baseline else None
    request = AnalysisRequest(
        benchmark="first", level1="model", level2="cat", runs="all", statistics=True, baseline_model=model
    )
    whole = await analyze(reader, request)
    monkeypatch.setattr("analysis_service.group_by.analyze.CELLS_AT_ONCE", 1)
    monkeypatch.setattr("analysis_service.group_by.analyze.ANSWERS_AT_ONCE", 1)
    assert (await analyze(reader, request)).rows == whole.rows

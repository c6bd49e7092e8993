"""Every answer against a reference that knows the definitions and nothing of sums, on random data and requests."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from analysis_service.analyze import analyze
from analysis_service.database import Database
from analysis_service.options import describe_fields, fetch_options
from analysis_service.projection.apply import Projection
from analysis_service.reader import Reader
from analysis_service.schema import prepare_schema
from analysis_service.summary import summarize
from shared.analysis import AnalysisRequest, OptionsRequest
from shared.problems import TooManyGroups
from shared.registry.load import load_registry
from shared.registry.specs import Registry
from tests.documents import Answer, entry_of, make_answer, prepare, reference_keys

LOW, HIGH, COUNT = -1.0, 3.0, 42
TYPES = {"cat": "category", "sub": "category", "lvl": "integer", "num": "number", "flag": "boolean"}
VALUES: dict[str, list[Any]] = {
    "cat": ["a", "z", "A", "b "],
    "sub": ["x", "y", "%s", "\\"],
    "lvl": [1, 2, 3],
    "num": [1, 1.5, 10**20],
    "flag": [True, False],
}
FACTS = ("model", "run", "vendor", "family")
MODELS = ("gpt-4", "openai/gpt-4", "deepseek-r1", "some/model", "Some/Model")


@dataclass
class StoredRun:
    """One pushed run, as the reference sees it."""

    answers: list[Answer]
    keys: list[tuple[str, ...]]
    """Of each answer, which question it is."""
    facts: dict[str, str | None]
    coverage: float
    order: tuple[str, int]

    def value(self, answer: Answer, name: str) -> Any:
        return self.facts[name] if name in FACTS else answer["metadata"].get(name)


@dataclass
class Group:
    """What one row of an answer is about."""

    scores: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    asked: set[tuple[str, ...]] = field(default_factory=set)
    attempts: dict[tuple[str | None, tuple[str, ...]], list[float]] = field(default_factory=lambda: defaultdict(list))

    def measures(self, policy: str) -> dict[str, Any]:
        n, total = len(self.scores), sum(self.scores)
        failed = sum(self.statuses[status] for status in ("refused", "truncated", "error"))
        unknown = failed + self.statuses["unscored"]
        means = [sum(scores) / len(scores) for scores in self.attempts.values()]
        row = {"n": n, "n_questions": len(self.asked), "mean": total / n if n else None}
        row["mean_by_question"] = sum(means) / len(means) if means else None
        if policy == "wrong":
            row |= {"n": n + failed, "mean": (total + failed * LOW) / (n + failed) if n + failed else None}
        if policy == "bounds":
            row["mean_low"] = (total + unknown * LOW) / (n + unknown)
            row["mean_high"] = (total + unknown * HIGH) / (n + unknown)
        return row


def benchmark_file(name: str) -> str:
    fields = "".join(f'[[fields]]\nname = "{n}"\ntype = "{t}"\ndescription = {{en = "x"}}\n' for n, t in TYPES.items())
    fields = fields.replace('name = "num"', 'name = "num"\nparent = "cat"')
    scale = f"score_min = {LOW}\nscore_max = {HIGH}\nquestion_count = {COUNT}\n"
    return f'name = "{name}"\ntitle = {{en = "x"}}\ndescription = {{en = "x"}}\n{scale}{fields}'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder: Path = tmp_path_factory.mktemp("registry")
    for name in ("first", "second"):
        (folder / f"{name}.toml").write_text(benchmark_file(name))
    return load_registry(folder)


def random_answers(chance: random.Random) -> list[Answer]:
    """Through one harness or another: ids of its own, with or without hashes, some texts twice, some ids reused."""
    answers = []
    name, hashed = chance.choice(["q{}", "task/{}"]), chance.choice([0.0, 0.7, 1.0])
    for number in chance.sample(range(50), chance.choice([41, 40, 39, 39, 20, 5])):
        told = {name: chance.choice([*values, None]) for name, values in VALUES.items()}
        for attempt in chance.sample(range(6), chance.randint(1, 3)):
            status = chance.choice(["scored"] * 4 + ["refused", "truncated", "error", "unscored"])
            score = chance.choice([-1, 0, 0.1, 2.5, 3]) if status == "scored" or chance.random() < 0.1 else None
            text = f"text {number % 47}" if chance.random() < 0.97 else "another text"
            more = {"content_hash": text} if chance.random() < hashed else {}
            answers.append(
                make_answer(name.format(number), score, attempt=attempt, status=status, metadata=told, **more)
            )
    chance.shuffle(answers)
    return answers


@pytest.fixture
async def filled(store: Database, registry: Registry) -> tuple[Reader, list[StoredRun]]:
    """Two benchmarks of random runs in one store; those of the first."""
    chance = random.Random(7)
    await prepare_schema(store, registry)
    projection = Projection(store, "")
    runs = []
    for seq in range(1, 13):
        benchmark, model = ("first", "second")[seq % 4 == 0], chance.choice(MODELS)
        timestamp, answers = f"2024-01-0{chance.randint(1, 3)}T00:00:00Z", random_answers(chance)
        run = prepare(registry, answers, benchmark=benchmark, model=model, run_id=f"r{seq}", timestamp=timestamp)
        assert run.state == "applied", run.reason
        await projection.apply(entry_of(run, seq), run)
        known = registry.model(model)
        facts: dict[str, str | None] = {"model": registry.canonical_model(model), "run": run.result_name}
        facts |= {name: known.fact(name) if known else None for name in ("vendor", "family")}
        keys = reference_keys(answers)
        coverage = min(1.0, len(set(keys)) / COUNT)
        if benchmark == "first":
            runs.append(StoredRun(answers, keys, facts, coverage, (timestamp, seq)))
    return Reader(store, registry, 50_000), runs


def chosen_runs(request: dict[str, Any], runs: list[StoredRun], registry: Registry) -> list[StoredRun]:
    chosen = runs
    if request["runs"] == "latest":
        chosen = []
        for model in {run.facts["model"] for run in runs}:
            mine = [run for run in runs if run.facts["model"] == model]
            full = [run for run in mine if run.coverage >= 0.95]
            fullest = [run for run in mine if run.coverage == max(run.coverage for run in mine)]
            chosen.append(max(full or fullest, key=lambda run: run.order))
    elif request["runs"] != "all":
        chosen = [run for run in runs if run.facts["run"] in request["runs"]]
    if "models" in request:
        wanted = {registry.canonical_model(model) for model in request["models"]}
        chosen = [run for run in chosen if run.facts["model"] in wanted]
    return chosen


def expected_rows(
    request: dict[str, Any], runs: list[StoredRun], registry: Registry
) -> tuple[list[str], dict[tuple[Any, ...], dict[str, Any]]]:
    levels = [request[f"level{number}"] for number in (1, 2, 3) if f"level{number}" in request]
    by_model = request.get("by_model", not {"model", "run"} & set(levels))
    group_by = (["model"] if by_model and "model" not in levels else []) + levels
    filters = list(request.get("filters", {}).items())
    filters += [
        (level, request[f"level{n}_values"]) for n, level in enumerate(levels, 1) if f"level{n}_values" in request
    ]
    groups: dict[tuple[Any, ...], Group] = defaultdict(Group)
    for run in chosen_runs(request, runs, registry):
        for answer, question in zip(run.answers, run.keys, strict=True):
            if any(run.value(answer, name) not in values for name, values in filters):
                continue
            key = tuple(run.value(answer, name) for name in group_by)
            if None in key and not request["include_null"]:
                continue
            group = groups[key]
            group.statuses[answer["status"]] += 1
            group.asked.add(question)
            if answer["status"] == "scored":
                group.scores.append(answer["score"])
                group.attempts[run.facts["run"], question].append(answer["score"])
    return group_by, {key: group.measures(request["error_policy"]) for key, group in groups.items()}


def random_request(chance: random.Random, runs: list[StoredRun]) -> dict[str, Any]:
    values = VALUES | {name: sorted({run.facts[name] for run in runs} - {None}, key=str) for name in FACTS}

    def some(name: str) -> list[Any]:
        return chance.sample(values[name], chance.randint(1, len(values[name])))

    request: dict[str, Any] = {"benchmark": "first", "include_null": chance.random() < 0.5}
    for number, level in enumerate(chance.sample(list(values), chance.randint(1, 3)), start=1):
        request[f"level{number}"] = level
        if chance.random() < 0.3:
            request[f"level{number}_values"] = some(level)
    if chance.random() < 0.4:
        request["filters"] = {name: some(name) for name in chance.sample(list(values), chance.randint(1, 2))}
    if chance.random() < 0.3:
        request["models"] = ["openai/gpt-4", chance.choice(MODELS[2:3])]
    if chance.random() < 0.5:
        request["by_model"] = chance.random() < 0.5
    request["runs"] = chance.choice(["latest", "all", some("run")])
    request["error_policy"] = chance.choice(["exclude", "wrong", "bounds"])
    return request


async def test_every_option_agrees_with_the_reference(
    filled: tuple[Reader, list[StoredRun]], registry: Registry
) -> None:
    reader, runs = filled
    chance = random.Random(11)
    coverage = {run.facts["run"]: pytest.approx(run.coverage, abs=1e-6) for run in runs}
    for _ in range(200):
        request = random_request(chance, runs)
        group_by, expected = expected_rows(request, runs, registry)
        answer = await analyze(reader, AnalysisRequest.model_validate(request))
        assert answer.group_by == group_by, request
        assert all(info.coverage == coverage[info.result_name] for info in answer.runs)
        found = {tuple(row[name] for name in group_by): row for row in answer.rows}
        assert found.keys() == expected.keys(), request
        for key, row in expected.items():
            assert {name: found[key][name] for name in row} == pytest.approx(row, abs=1e-9), (request, key)
        column, limit = chance.choice(["n", "mean", "mean_by_question"]), len(expected)
        ordered = await analyze(reader, AnalysisRequest.model_validate(request | {"order_by": f"-{column}"}))
        told = [row[column] for row in ordered.rows]
        known = [value for value in told if value is not None]
        assert told == sorted(known, reverse=True) + [None] * (len(told) - len(known)), "null comes last"
        if limit:
            assert not (await analyze(reader, AnalysisRequest.model_validate(request | {"limit": limit}))).truncated


async def test_what_would_take_too_many_rows_is_refused(
    filled: tuple[Reader, list[StoredRun]], registry: Registry
) -> None:
    reader = Reader(filled[0].database, registry, max_groups=10)
    with pytest.raises(TooManyGroups, match="more than 10 rows"):
        await analyze(reader, AnalysisRequest(benchmark="first", level1="cat", level2="lvl", runs="all"))
    with pytest.raises(TooManyGroups):
        await describe_fields(reader, "first", "en")


async def test_options_and_summary_agree_with_the_reference(
    filled: tuple[Reader, list[StoredRun]], registry: Registry
) -> None:
    reader, runs = filled

    def asked(name: str, value: Any, *others: tuple[str, list[Any] | None]) -> int:
        return len(
            {
                question
                for run in runs
                for answer, question in zip(run.answers, run.keys, strict=True)
                if run.value(answer, name) == value
                and all(
                    (told := run.value(answer, level)) is not None and (kept is None or told in kept)
                    for level, kept in others
                )
            }
        )

    await describe_fields(reader, "second", "en")  # whose question sets have the same numbers
    for item in (await describe_fields(reader, "first", "en")).fields:
        assert item.n_null == asked(item.name, None)
        assert {value.value: value.questions for value in item.values} == {
            value: asked(item.name, value) for value in VALUES[item.name]
        }
    some_run = runs[0].facts["run"]
    for levels in (
        [("cat", None)],
        [("cat", ["a"]), ("lvl", None)],
        [("cat", None), ("sub", ["%s"])],
        [("run", [some_run]), ("flag", None)],
    ):
        request: dict[str, Any] = {f"level{number}": name for number, (name, _) in enumerate(levels, 1)}
        request |= {f"level{number}_values": kept for number, (_, kept) in enumerate(levels, 1)}
        options = (await fetch_options(reader, "first", OptionsRequest.model_validate(request))).options
        assert {option.field for option in options} == TYPES.keys() - {name for name, _ in levels}
        assert options[0].field == ("num" if "cat" in request.values() else "cat"), "what refines a level comes first"
        for option in options:
            counts = {value: asked(option.field, value, *levels) for value in VALUES[option.field]}
            told = {value.value: value.questions for value in option.values}
            assert told == {value: count for value, count in counts.items() if count}
            assert option.n_null == asked(option.field, None, *levels)
    [summary] = [item for item in (await summarize(reader)).benchmarks if item.benchmark == "first"]
    assert (summary.runs, summary.answers) == (len(runs), sum(len(run.answers) for run in runs))
    assert summary.questions == len({question for run in runs for question in run.keys})
    latest = {"level1": "model", "runs": "latest", "include_null": False, "error_policy": "exclude"}
    _, rows = expected_rows(latest, runs, registry)
    scored = sum(row["n"] for row in rows.values())
    assert summary.mean == pytest.approx(sum(row["n"] * row["mean"] for row in rows.values()) / scored)
    assert summary.best_model is not None
    assert (summary.best_model.model,) == max(rows, key=lambda key: rows[key]["mean"])

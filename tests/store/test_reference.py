"""Every answer against a reference that knows the definitions and nothing of sums, on random data and requests."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from analysis_service.database import Database
from analysis_service.group_by.analyze import analyze
from analysis_service.group_by.cells import RunningSums
from analysis_service.options import describe_fields, fetch_options
from analysis_service.projection.apply import Projection
from analysis_service.queries.tables import SUMS
from analysis_service.reader import Reader
from analysis_service.schema import prepare_schema
from analysis_service.summary import summarize
from shared.analysis import AnalysisRequest, OptionsRequest
from shared.problems import StoreUnavailable, TimeLimit, TooManyGroups
from shared.registry.load import load_registry
from shared.registry.specs import Registry
from tests.documents import Answer, entry_of, make_answer, prepare, reference_keys

LOW, HIGH, COUNT = -1.0, 3.0, 42
TYPES = {"cat": "category", "sub": "category", "lvl": "integer", "num": "number", "flag": "boolean"}
VALUES: dict[str, list[Any]] = {
    "cat": ["a", "z", "A", "b "],
    "sub": ["x", "y", "%s", "\\"],
    "lvl": [1, 2, 3, 4, 5, 6, 7],
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
    answers: list[tuple[StoredRun, Answer, tuple[str, ...]]] = field(default_factory=list)
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
    return make_registry(tmp_path_factory.mktemp("registry"))


def make_registry(folder: Path) -> Registry:
    for name in ("first", "second"):
        (folder / f"{name}.toml").write_text(benchmark_file(name))
    return load_registry(folder)


def random_answers(chance: random.Random) -> list[Answer]:
    """Through one harness or another: ids of its own, with or without hashes, some texts twice, some ids reused.

    Of some runs each answer has metadata of its own, of others many questions have the same, as benchmarks do.
    """
    answers = []
    name, hashed, alike = chance.choice(["q{}", "task/{}"]), chance.choice([0.0, 0.7, 1.0]), chance.random() < 0.6
    for number in chance.sample(range(50), chance.choice([41, 40, 39, 39, 20, 5])):
        kind = random.Random(number % 5) if alike else chance
        told = {name: kind.choice([*values, None]) for name, values in VALUES.items()}
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
    return await fill(store, registry, random_answers)


async def fill(
    store: Database, registry: Registry, random_run: Callable[[random.Random], list[Answer]], seed: int = 7
) -> tuple[Reader, list[StoredRun]]:
    """Twelve runs of two benchmarks in one store; those of the first."""
    chance = random.Random(seed)
    await prepare_schema(store, registry)
    projection = Projection(store, "")
    runs = []
    for seq in range(1, 13):
        benchmark, model = ("first", "second")[seq % 4 == 0], chance.choice(MODELS)
        timestamp, answers = f"2024-01-0{chance.randint(1, 3)}T00:00:00Z", random_run(chance)
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
    group_by, groups = expected_groups(request, runs, registry)
    return group_by, {key: group.measures(request["error_policy"]) for key, group in groups.items()}


def expected_groups(
    request: dict[str, Any], runs: list[StoredRun], registry: Registry
) -> tuple[list[str], dict[tuple[Any, ...], Group]]:
    levels = [request[f"level{number}"] for number in (1, 2, 3) if f"level{number}" in request]
    by_model = request.get("by_model", not {"model", "run"} & set(levels))
    group_by = (["model"] if by_model and "model" not in levels else []) + levels
    filters = list(request.get("filters", {}).items())
    filters += [
        (level, request[f"level{n}_values"]) for n, level in enumerate(levels, 1) if f"level{n}_values" in request
    ]
    groups: dict[tuple[Any, ...], Group] = defaultdict(Group)
    chosen = [
        run
        for run in chosen_runs(request, runs, registry)
        if all(run.facts[name] in values for name, values in filters if name in FACTS)
    ]
    everybodys = set.intersection(*(set(run.keys) for run in chosen)) if chosen else set()
    for run in chosen:
        for answer, question in zip(run.answers, run.keys, strict=True):
            if request.get("shared_questions") and question not in everybodys:
                continue
            if any(run.value(answer, name) not in values for name, values in filters):
                continue
            key = tuple(run.value(answer, name) for name in group_by)
            if None in key and not request["include_null"]:
                continue
            group = groups[key]
            group.answers.append((run, answer, question))
            group.statuses[answer["status"]] += 1
            group.asked.add(question)
            if answer["status"] == "scored":
                group.scores.append(answer["score"])
                group.attempts[run.facts["run"], question].append(answer["score"])
    return group_by, groups


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
    request["shared_questions"] = chance.random() < 0.4
    return request


async def test_every_option_agrees_with_the_reference(
    filled: tuple[Reader, list[StoredRun]], registry: Registry
) -> None:
    reader, runs = filled
    chance = random.Random(11)
    coverage = {run.facts["run"]: pytest.approx(run.coverage, abs=1e-6) for run in runs}
    kinds: Counter[tuple[str, bool]] = Counter()
    for _ in range(300):
        request = random_request(chance, runs)
        group_by, expected = expected_rows(request, runs, registry)
        answer = await analyze(reader, AnalysisRequest.model_validate(request | {"explain": True}))
        assert answer.plan is not None
        kinds[answer.plan.kind, request["shared_questions"]] += 1
        names = [statement.name for statement in answer.plan.statements]
        assert len(names) == len(set(names)), "one statement each, whatever is asked for"
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
        assert ordered.plan is None
        if limit:
            assert not (await analyze(reader, AnalysisRequest.model_validate(request | {"limit": limit}))).truncated

    assert kinds.keys() == {("sums", False), ("sums", True), ("answers", True)}, "each kind of plan was asked for"


async def test_what_would_take_too_much_is_refused(filled: tuple[Reader, list[StoredRun]], registry: Registry) -> None:
    request = AnalysisRequest(benchmark="first", level1="cat", level2="lvl", runs="all")
    answer = await analyze(filled[0], request.model_copy(update={"explain": True}))
    assert answer.plan is not None
    cells, groups = answer.plan.cells, answer.total_rows
    database = filled[0].database
    await analyze(Reader(database, registry, groups, max_cells=cells), request)
    with pytest.raises(TooManyGroups, match=rf"more than {groups - 1:,} groups \(setting MAX_GROUPS\); ask for fewer"):
        await analyze(Reader(database, registry, groups - 1, max_cells=cells), request)
    with pytest.raises(TooManyGroups, match=rf"needs {cells:,} cells .* more than {cells - 1:,} \(setting MAX_CELLS\)"):
        await analyze(Reader(database, registry, groups, max_cells=cells - 1), request)


async def test_several_benchmarks_are_read_in_one_statement_and_limited_together(
    filled: tuple[Reader, list[StoredRun]], registry: Registry
) -> None:
    reader = filled[0]
    request = AnalysisRequest(benchmark="first", level1="cat", runs="all", limit=100_000, explain=True)
    single = [await analyze(reader, request.model_copy(update={"benchmark": name})) for name in ("first", "second")]
    both = request.model_copy(update={"benchmark": None, "benchmarks": ["first", "second"]})
    answer = await analyze(reader, both)
    assert answer.rows == [{"benchmark": one.benchmark, **row} for one in single for row in one.rows], (
        "to the bit, as each by itself"
    )
    assert answer.plan is not None
    assert [statement.name for statement in answer.plan.statements] == ["packed sums"]
    for count in ("runs", "cells", "layouts", "question_sets"):
        assert getattr(answer.plan, count) == sum(getattr(one.plan, count) for one in single)
    with pytest.raises(TooManyGroups, match="MAX_GROUPS"):
        await analyze(Reader(reader.database, registry, answer.total_rows - 1), both)
    with pytest.raises(TooManyGroups, match="MAX_CELLS"):
        await analyze(Reader(reader.database, registry, 50_000, max_cells=answer.plan.cells - 1), both)


async def test_the_whole_plan_has_a_time_limit(filled: tuple[Reader, list[StoredRun]], registry: Registry) -> None:
    reader = Reader(filled[0].database, registry, 50_000, plan_timeout_s=1e-9)
    with pytest.raises(TimeLimit, match="ask for less: fewer runs, models or benchmarks"):
        await analyze(reader, AnalysisRequest(benchmark="first", level1="cat"))


@pytest.mark.parametrize("shared_questions", [False, True])
async def test_what_is_too_much_for_memory_comes_in_stretches(
    filled: tuple[Reader, list[StoredRun]],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    shared_questions: bool,
) -> None:
    reader, runs = filled
    name, kind = ("packed answers", "answers") if shared_questions else ("packed sums", "sums")
    for one, other in combinations(runs, 2):
        request = AnalysisRequest(
            benchmark="first",
            level1="lvl",
            by_model=False,
            runs=[run.facts["run"] or "" for run in (one, other)],
            explain=True,
            shared_questions=shared_questions,
        )
        whole = await analyze(reader, request)
        if whole.plan is not None and whole.plan.kind == kind:
            break
    monkeypatch.setattr("analysis_service.group_by.analyze.CELLS_AT_ONCE", 1)
    monkeypatch.setattr("analysis_service.group_by.analyze.ANSWERS_AT_ONCE", 1)
    again = await analyze(reader, request)
    assert again.rows == whole.rows, "to the bit"
    assert again.plan is not None
    assert (again.plan.kind, [told.name for told in again.plan.statements].count(name)) == (kind, 1)


async def test_time_that_runs_out_between_stretches_leaves_the_store_usable(
    filled: tuple[Reader, list[StoredRun]], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = filled[0]
    request = AnalysisRequest(benchmark="first", level1="cat", runs="all")
    answer = await analyze(reader, request)
    monkeypatch.setattr("analysis_service.group_by.analyze.CELLS_AT_ONCE", 1)
    hurried = Reader(reader.database, registry, 50_000, plan_timeout_s=0.05)
    await analyze(hurried, request)
    add = RunningSums.add

    def add_slowly(*arguments: Any) -> None:
        time.sleep(0.06)
        add(*arguments)

    monkeypatch.setattr(RunningSums, "add", add_slowly)
    with pytest.raises(TimeLimit, match=r"longer than 0\.05 s"):
        await analyze(hurried, request)
    assert (await analyze(reader, request)).rows == answer.rows


async def test_an_answer_is_never_made_without_sums_that_are_lost(filled: tuple[Reader, list[StoredRun]]) -> None:
    reader = filled[0]
    request = AnalysisRequest(benchmark="first", level1="cat", runs="all")
    await analyze(reader, request)
    async with reader.database.transaction() as session:
        await session.execute(reader.dialect.query.from_(SUMS).delete().where(SUMS.run_no == 1))
    with pytest.raises(StoreUnavailable, match="lacks the packed sums of 1 runs; the command `scorehouse check`"):
        await analyze(reader, request)


async def test_chosen_runs_that_share_no_question(filled: tuple[Reader, list[StoredRun]]) -> None:
    reader, runs = filled
    apart = next((one, other) for one in runs for other in runs if not set(one.keys) & set(other.keys))
    names = [run.facts["run"] or "" for run in apart]
    request = AnalysisRequest(benchmark="first", level1="cat", runs=names, shared_questions=True)
    answer = await analyze(reader, request)
    assert answer.rows == []
    assert "no question was asked by every chosen run of first; choose fewer runs or models" in answer.warnings
    assert len(answer.runs) == 2


async def test_explaining_tells_what_was_read_and_what_was_known(filled: tuple[Reader, list[StoredRun]]) -> None:
    reader = Reader(filled[0].database, filled[0].registry, 50_000)
    request = AnalysisRequest(benchmark="first", level1="cat", level2="sub", explain=True)
    plans = [(await analyze(reader, request)).plan for _ in range(2)]
    for plan, names in zip(
        plans, (["layouts", "combinations", "question sets", "packed sums"], ["packed sums"]), strict=True
    ):
        assert plan is not None
        assert [statement.name for statement in plan.statements] == names
        assert (plan.kind, plan.runs, plan.answers) == ("sums", plan.statements[-1].rows, 0)
        assert plan.reason
        assert plan.ms > sum(statement.ms for statement in plan.statements)
        assert (plan.layouts_read, plan.question_sets_read) == (
            (plan.layouts, plan.question_sets) if "layouts" in names else (0, 0)
        )
    # What one has read of another benchmark means nothing here.
    other = await analyze(reader, request.model_copy(update={"benchmark": "second"}))
    assert other.plan is not None
    assert other.plan.layouts_read == other.plan.layouts


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
            value: count for value in VALUES[item.name] if (count := asked(item.name, value))
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


async def test_options_leave_out_what_only_a_live_run_has(
    filled: tuple[Reader, list[StoredRun]], registry: Registry
) -> None:
    reader, _ = filled
    before = (await describe_fields(reader, "first", "en")).fields
    assert "packed sums" not in reader.database.reads.by_name, "layouts and question sets are enough"
    answers = [make_answer("new", 1.0, metadata={"cat": "z"}, content_hash="a new text")]
    live = prepare(registry, answers, benchmark="first", run_id="live", live="live")
    await Projection(reader.database, "").apply(entry_of(live, 13, "part"), live)
    assert (await describe_fields(reader, "first", "en")).fields == before
    finished = prepare(registry, answers, benchmark="first", run_id="live")
    await Projection(reader.database, "").apply(entry_of(finished, 14, "finished"), finished)
    counts = [{value.value: value.questions for value in field.values} for field in before]
    [after, *_] = (await describe_fields(reader, "first", "en")).fields
    assert {value.value: value.questions for value in after.values} == counts[0] | {"z": counts[0]["z"] + 1}

"""What the projection promises, on every engine: exactly once, replaced whole, sums that are those of the answers."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis_service.database import Database
from analysis_service.database.sqlite import open_sqlite
from analysis_service.group_by.analyze import analyze
from analysis_service.projection.answers import unpack, unpack_scores
from analysis_service.projection.apply import Application, FeedGap, Projection, Superseded
from analysis_service.projection.prepare import PreparedRun, prepare_run
from analysis_service.projection.writing import Writing
from analysis_service.queries.tables import ANSWERS, APPLIED, FEED_STATE, RUN_VERSIONS, RUNS, SUMS, BenchmarkTables
from analysis_service.reader import Reader
from analysis_service.schema import prepare_schema
from analysis_service.summary import summarize
from shared.analysis import AnalysisRequest
from shared.problems import PoolExhausted
from shared.process import StartFailed
from shared.registry.load import load_registry
from shared.registry.specs import Registry
from tests.documents import Answer, applied_as, document, entry_of, expected_cells, make_answer, prepare
from tests.store.conftest import OpenStore


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


@pytest.fixture
async def database(store: Database, registry: Registry) -> Database:
    await prepare_schema(store, registry)
    return store


@pytest.fixture
def reader(database: Database, registry: Registry) -> Reader:
    return Reader(database, registry, max_groups=10_000)


async def rows_of(reader: Reader, **request: Any) -> list[dict[str, Any]]:
    return (await analyze(reader, AnalysisRequest.model_validate({"benchmark": "math500", **request}))).rows


def random_answers(seed: int, questions: int = 60) -> list[Answer]:
    chance = random.Random(seed)
    statuses = ["scored", "scored", "scored", "refused", "truncated", "error", "unscored"]
    answers = []
    for number in range(questions):
        metadata: dict[str, Any] = {"subject": chance.choice(["Algebra", "Geometry", None]), "level": number % 5 + 1}
        if chance.random() < 0.5:
            metadata["proof_required"] = chance.random() < 0.5
        for attempt in range(chance.randint(1, 3)):
            status = chance.choice(statuses)
            score = chance.randint(0, 4) / 4 if status == "scored" else None
            extra: dict[str, Any] = {"latency_ms": 10.5, "output_tokens": 7} if chance.random() < 0.5 else {}
            answers.append(
                make_answer(f"q{number}", score, attempt=attempt, status=status, metadata=dict(metadata), **extra)
            )
    return answers


async def test_group_bys_equal_a_slow_reference(database: Database, reader: Reader, registry: Registry) -> None:
    projection = Projection(database, "")
    runs = [(f"model-{seed}", random_answers(seed)) for seed in range(3)]
    for seq, (model, answers) in enumerate(runs, start=1):
        run = prepare(registry, answers, model=model, run_id=f"r{seq}")
        await projection.apply(entry_of(run, seq), run)
    for fields in (["subject"], ["subject", "level"], ["level", "proof_required", "subject"]):
        levels = {f"level{number}": field for number, field in enumerate(fields, start=1)}
        for include_null in (False, True):
            rows = await rows_of(reader, **levels, include_null=include_null, runs="all")
            found = {(row["model"], *(row[field] for field in fields)): row for row in rows}
            expected = expected_cells(runs, fields)
            if not include_null:
                expected = {key: cell for key, cell in expected.items() if None not in key}
            assert found.keys() == expected.keys()
            for key, cell in expected.items():
                assert {name: found[key][name] for name in cell} == pytest.approx(cell, abs=1e-12), key


async def test_questions_are_counted_once_over_runs(database: Database, reader: Reader, registry: Registry) -> None:
    projection = Projection(database, "")
    asked = (["a", "b"], ["b", "c"], ["c", "d"])
    for seq, questions in enumerate(asked, start=1):
        answers = [make_answer(question, metadata={"subject": "Algebra"}) for question in questions]
        run = prepare(registry, answers, run_id=f"r{seq}", model=f"m{seq}")
        await projection.apply(entry_of(run, seq), run)
    [row] = await rows_of(reader, level1="subject", by_model=False, runs="all")
    assert (row["n"], row["n_questions"]) == (6, 4)


async def stored(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that depends on what was applied, runs by number."""
    async with database.snapshot() as session:
        found = {}
        for table, columns in (
            (APPLIED, ["result_name", "seq", "state", "reason"]),
            (ANSWERS, ["run_no", "scores", "packed"]),
            (SUMS, ["run_no", "scores", "costs"]),
            (RUNS, ["run_no", "layout_no", "set_no", "n_cells", "n_questions", "n_answers", "n_scored", "score_sum"]),
        ):
            query = database.dialect.query.from_(table).select(*(table[column] for column in columns))
            found[table.get_table_name()] = sorted(await session.fetch(query, "rows of a test"))
    return found


async def test_an_entry_is_applied_once(database: Database, registry: Registry) -> None:
    projection = Projection(database, "")
    run = prepare(registry, random_answers(1))
    await projection.apply(entry_of(run, 1), run)
    before = await stored(database)
    with pytest.raises(FeedGap):
        await projection.apply(entry_of(run, 1), run)
    with pytest.raises(FeedGap):
        await projection.apply(entry_of(run, 3), run)
    assert await stored(database) == before
    assert await projection.position() == 1


async def test_instances_apply_each_entry_once_between_them(open_store: OpenStore, registry: Registry) -> None:
    runs = [prepare(registry, random_answers(seed, 10), run_id=f"r{seed}") for seed in range(12)]
    async with open_store() as first, open_store() as second:
        await asyncio.gather(prepare_schema(first, registry), prepare_schema(second, registry))
        applied: list[int] = []

        async def consume(database: Database) -> None:
            projection = Projection(database, "")
            while (seq := await projection.position() + 1) <= len(runs):
                try:
                    await projection.apply(entry_of(runs[seq - 1], seq), runs[seq - 1])
                    applied.append(seq)
                except FeedGap:
                    continue

        await asyncio.gather(consume(first), consume(second), consume(second))
        assert sorted(applied) == list(range(1, len(runs) + 1))
        async with first.snapshot() as session:
            tables = BenchmarkTables("math500")
            query = first.dialect.query.from_(tables.questions).select(tables.questions.question_no)
            numbers = sorted(number for (number,) in await session.fetch(query, "rows of a test"))
        assert numbers == list(range(1, 11)), "numbers are dense and each question has one"
        reader = Reader(first, registry, 1000)
        assert len(await rows_of(reader, level1="run", runs="all")) == len(runs)


async def test_a_result_is_replaced_whole(database: Database, reader: Reader, registry: Registry) -> None:
    projection = Projection(database, "")
    run = prepare(registry, random_answers(1))
    await projection.apply(entry_of(run, 1), run)
    once = await stored(database)
    again = prepare(registry, random_answers(1))
    await projection.reapply([applied_as(run, 1)], [again])
    assert await stored(database) == once
    gone = prepare(registry, random_answers(1), state="invalidated")
    await projection.apply(entry_of(gone, 2, "invalidated"), gone)
    assert await rows_of(reader, level1="subject", runs="all") == []
    assert (await stored(database))["sums"] == []
    back = prepare(registry, random_answers(1))
    await projection.apply(entry_of(back, 3, "restored"), back)
    assert [row[1:] for row in (await stored(database))["sums"]] == [row[1:] for row in once["sums"]]


async def test_a_crash_half_way_leaves_nothing(
    database: Database, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    projection = Projection(database, "")
    run = prepare(registry, random_answers(1))
    before = await stored(database)

    class Crash(Exception):
        pass

    async def crash(*_: Any, **__: Any) -> None:
        raise Crash

    monkeypatch.setattr(Writing, "finish", crash)  # everything is written but the position
    with pytest.raises(Crash):
        await projection.apply(entry_of(run, 1), run)
    monkeypatch.undo()
    assert await stored(database) == before
    await projection.apply(entry_of(run, 1), run)
    assert await projection.position() == 1


async def test_a_store_that_lost_what_it_had_committed_is_filled_again(
    database: Database, reader: Reader, registry: Registry
) -> None:
    """As after a restored dump, or a fail-over to a replica that was behind, under a running service."""
    projection = Projection(database, "")
    runs = [
        prepare(
            registry,
            [make_answer(f"q{run}-{n}", n % 2, metadata={"subject": f"s{run}"}) for n in range(5)],
            run_id=f"r{run}",
        )
        for run in range(4)
    ]
    for seq, run in enumerate(runs[:3], start=1):
        await projection.apply(entry_of(run, seq), run)
    query, tables = database.dialect.query, BenchmarkTables("math500")
    async with database.transaction() as session:
        for table in (APPLIED, ANSWERS, RUNS, SUMS, tables.questions, tables.combinations, tables.question_sets):
            await session.execute(query.from_(table).delete())
        before = query.update(FEED_STATE).set(FEED_STATE.position, 0).set(FEED_STATE.version, 0)
        await session.execute(before.set(FEED_STATE.token, 1))
    for seq, run in enumerate(runs, start=1):
        await projection.apply(entry_of(run, seq), run)
    rows = await rows_of(reader, level1="subject", by_model=False, runs="all")
    assert [(row["subject"], row["n"], row["n_questions"]) for row in rows] == [(f"s{n}", 5, 5) for n in range(4)]


async def test_how_a_run_was_measured_is_kept(database: Database, reader: Reader, registry: Registry) -> None:
    told = {"harness": "lm-eval", "harness_version": "0.4.9", "task_version": "é" * 300, "grader": "exact"}
    runs = [
        prepare(registry, random_answers(1), run_id="told", provenance=told | {"config": {"temperature": 0}}),
        prepare(registry, random_answers(1), run_id="silent"),
        prepare(registry, random_answers(1), run_id="live", provenance={"harness": "inspect"}, live="live"),
    ]
    for seq, run in enumerate(runs, start=1):
        await Projection(database, "").apply(entry_of(run, seq, "part" if run.live else "result"), run)
    found = {run.result_name.rpartition("-")[2]: run for run in (await reader.current()).by_benchmark["math500"].runs}
    kept = ("harness", "harness_version", "task_version", "grader", "config_hash")
    values = {name: [getattr(run, column) for column in kept] for name, run in found.items()}
    assert values == {
        "told": [*told.values(), runs[0].provenance.config_hash],
        "silent": [None] * 5,
        "live": ["inspect", None, None, None, None],
    }
    assert runs[0].provenance.config_hash is not None


async def test_answers_are_packed_as_they_came(database: Database, registry: Registry) -> None:
    run = prepare(registry, random_answers(5))
    await Projection(database, "").apply(entry_of(run, 1), run)
    [(_, scores, packed)] = (await stored(database))["answers"]
    columns = unpack(packed)
    for name in ("question_no", "combination", "status", "score"):
        np.testing.assert_array_equal(getattr(unpack_scores(scores), name), getattr(columns, name))
    assert columns.answer == tuple(None for _ in run.questions)
    assert np.array_equal(
        columns.score, [np.nan if q.score is None else q.score for q in run.questions], equal_nan=True
    )


def applications(registry: Registry) -> list[Application]:
    """Runs that share questions, metadata and sheets in every way; one is parked, one invalidated, one comes twice."""
    documents = [document(random_answers(seed % 3), run_id=f"r{seed}", model=f"m{seed % 4}") for seed in range(9)]
    documents.append(document([make_answer("q1", metadata={"subject": "new"})], run_id="other", benchmark="mmlu"))
    documents.append(document(random_answers(1), run_id="parked", benchmark="unheard-of"))
    documents.append(document(random_answers(1), run_id="gone", state="invalidated"))
    documents.append(document(data={"score": 0.5}, run_id="stated"))
    runs = [prepare_run(body, registry) for body in documents]
    return [Application(run, seq, entry_of(run, seq).href) for seq, run in enumerate(runs, start=1)]


async def test_together_or_one_by_one_is_the_same(open_store: OpenStore, registry: Registry, tmp_path: Path) -> None:
    coming = applications(registry)
    again = [Application(application.run, application.seq + len(coming), application.href) for application in coming]
    async with open_store() as database:
        await prepare_schema(database, registry)
        projection = Projection(database, "")
        await projection.apply_all(coming, after=0)
        together = await stored(database)
        await projection.apply_all(again, after=len(coming))
        assert (await stored(database))["sums"] == together["sums"], "the numbers are kept"
    async with open_sqlite(tmp_path / "other.sqlite") as database:
        await prepare_schema(database, registry)
        for application in coming:
            await Projection(database, "").apply_all([application], after=application.seq - 1)
        assert await stored(database) == together


async def test_what_is_known_by_its_digest_is_applied_alike(database: Database, registry: Registry) -> None:
    """Questions that were checked and numbered before are not again, but their scores are."""
    projection = Projection(database, "")

    def prepared(answers: Sequence[Answer], run_id: str) -> PreparedRun:
        return prepare_run(document(answers, run_id=run_id), registry, projection.knows)

    first = prepared(random_answers(3), "r1")
    assert not projection.knows(first.digest)
    await projection.apply(entry_of(first, 1), first)
    assert projection.knows(first.digest)
    answers = [answer | {"score": 0.25, "status": "scored"} for answer in random_answers(3)]
    second = prepared(answers, "r2")
    assert (second.digest, second.state) == (first.digest, "applied")
    await projection.apply(entry_of(second, 2), second)
    [one, two] = (await stored(database))["runs"]
    assert one[1:6] == two[1:6], "layout, questions and answers"
    assert two[7] == 0.25 * len(answers)
    for faulty in ({"score": 1.5}, {"score": None}):
        run = prepared([*answers[:-1], answers[-1] | faulty], "r3")
        assert run.state == "rejected"
        assert run.reason
        assert f"data.questions[{len(answers) - 1}].score" in run.reason
    assert not projection.knows(prepared([*answers[:-1], answers[-1] | {"metadata": {}}], "r4").digest)


async def test_what_was_written_has_the_version_of_its_transaction(database: Database, registry: Registry) -> None:
    projection = Projection(database, "")
    runs = [prepare(registry, random_answers(seed), run_id=f"r{seed}") for seed in range(2)]
    for seq, run in enumerate(runs, start=1):
        await projection.apply(entry_of(run, seq), run)
    gone = prepare(registry, random_answers(0), run_id="r0", state="invalidated")
    await projection.apply(entry_of(gone, 3, "invalidated"), gone)
    async with database.snapshot() as session:
        query = database.dialect.query.from_(RUN_VERSIONS).select(RUN_VERSIONS.run_no, RUN_VERSIONS.version)
        assert sorted(await session.fetch(query, "rows of a test")) == [(1, 3), (2, 2)]


MMLU_PRO = """
name = "mmlu-pro"
title = {en = "MMLU-Pro"}
description = {en = "Ten choices a question."}
[[fields]]
name = "category"
type = "category"
description = {en = "Discipline"}
"""
SOURCE_FIELD = """
[[fields]]
name = "src"
type = "category"
description = {en = "Where the question comes from"}
"""


async def test_parked_results_come_back_and_new_fields_fill(
    open_store: OpenStore, registry: Registry, tmp_path: Path
) -> None:
    answers = [make_answer(f"q{n}", n % 2, metadata={"category": "law", "src": f"s{n % 3}"}) for n in range(9)]

    async def start(registry: Registry, database: Database, *, expect: int) -> Reader:
        """As a start does: tables first, then whatever was decided under another registry."""
        await prepare_schema(database, registry)
        projection = Projection(database, "")
        fingerprints = {name: spec.fingerprint for name, spec in registry.benchmarks.items()}
        outdated = await projection.outdated(fingerprints, after=0, limit=10)
        assert len(outdated) == expect == await projection.count_outdated(fingerprints)
        await projection.reapply(outdated, [prepare(registry, answers, benchmark="mmlu-pro") for _ in outdated])
        assert await projection.outdated(fingerprints, after=0, limit=10) == []
        return Reader(database, registry, 1000)

    async with open_store() as database:
        reader = await start(registry, database, expect=0)
        run = prepare(registry, answers, benchmark="mmlu-pro")
        assert run.state == "parked"
        await Projection(database, "").apply(entry_of(run, 1), run)
        [waiting] = (await summarize(reader)).benchmarks
        assert (waiting.benchmark, waiting.registered, waiting.parked, waiting.runs) == ("mmlu-pro", False, 1, 0)

    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "mmlu-pro.toml").write_text(MMLU_PRO)
    async with open_store() as database:
        reader = await start(load_registry(folder), database, expect=1)
        [row] = await rows_of(reader, benchmark="mmlu-pro", level1="category")
        assert (row["n"], row["n_questions"]) == (9, 9)

    (folder / "mmlu-pro.toml").write_text(MMLU_PRO + SOURCE_FIELD)
    async with open_store() as database:
        reader = await start(load_registry(folder), database, expect=1)
        rows = await rows_of(reader, benchmark="mmlu-pro", level1="category", level2="src")
        assert [(row["src"], row["n"]) for row in rows] == [("s0", 3), ("s1", 3), ("s2", 3)]

    (folder / "mmlu-pro.toml").write_text(MMLU_PRO + SOURCE_FIELD.replace('type = "category"', 'type = "integer"'))
    async with open_store() as database:
        reader = await start(load_registry(folder), database, expect=1)
        assert await rows_of(reader, benchmark="mmlu-pro", level1="category") == []
        [summary] = (await summarize(reader)).benchmarks
        assert summary.rejected == 1
        [(_, _, state, reason)] = (await stored(database))["applied"]
        assert state == "rejected"
        assert "data.questions[0].metadata.src: must be a whole number" in reason


async def test_a_benchmark_whose_tables_hold_another_ones_results_is_refused(
    open_store: OpenStore, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "a.toml").write_text(MMLU_PRO)
    async with open_store() as database:
        await prepare_schema(database, load_registry(tmp_path))
        await prepare_schema(database, registry)  # without it nothing is wrong
        (tmp_path / "a.toml").write_text(MMLU_PRO.replace('"mmlu-pro"', '"mmlu_pro"'))
        with pytest.raises(StartFailed, match=r"tables of benchmark 'mmlu_pro' hold results of 'mmlu-pro'"):
            await prepare_schema(database, load_registry(tmp_path))


async def test_the_data_version_changes_with_the_data_and_the_registry(
    database: Database, reader: Reader, registry: Registry, tmp_path: Path
) -> None:
    projection, run = Projection(database, ""), prepare(registry, random_answers(1))

    async def version(reader: Reader) -> str:
        return (await summarize(reader)).data_version

    seen = [await version(reader), await version(reader)]
    assert seen[0] == seen[1]
    await projection.apply(entry_of(run, 1), run)
    seen.append(await version(reader))
    await projection.reapply([applied_as(run, 1)], [run])
    seen.append(await version(reader))
    (tmp_path / "a.toml").write_text(MMLU_PRO)
    seen.append(await version(Reader(database, load_registry(tmp_path), 1000)))
    assert len(set(seen[1:])) == 4


TRICKY = [
    "Phi_4", "phi_4", "PHI_4", "a", "a ", " a", "á", "a\u0301", "ä", "ß", "ss", "İ", "i", "ı", "\\", "\\'", "'", '"',
    "%s", "%", "?", "a\tb", "😀", "中文", "한국어", "null", "NULL", "0", "x\x00y", "x" * 300, "；--",
]  # fmt: skip


async def test_names_that_differ_at_all_stay_apart(database: Database, reader: Reader, registry: Registry) -> None:
    answers = [make_answer(f"subject {n}", n % 2, metadata={"subject": name}) for n, name in enumerate(TRICKY)]
    answers += [
        make_answer(name, 1, metadata={"subject": "question ids"})
        for name in TRICKY
        if "\x00" not in name and "\t" not in name
    ]
    projection = Projection(database, "")
    models = [name for name in TRICKY if "\x00" not in name and "\t" not in name]
    for seq, model in enumerate(models, start=1):
        run = prepare(registry, answers, model=model, run_id=f"r{seq}")
        assert run.state == "applied", run.reason
        await projection.apply(entry_of(run, seq), run)
    rows = await rows_of(reader, level1="subject", by_model=False, runs="all")
    assert {row["subject"]: row["n"] for row in rows} == dict.fromkeys(TRICKY, len(models)) | {
        "question ids": len(models) ** 2
    }
    assert {row["subject"]: row["n_questions"] for row in rows}["question ids"] == len(models)
    rows = await rows_of(reader, level1="model", runs="all")
    assert sorted(row["model"] for row in rows) == sorted(models)
    for name in TRICKY:
        found = await rows_of(reader, level1="subject", level1_values=[name], by_model=False, runs="all")
        assert [row["subject"] for row in found] == [name]
    for name in models:
        found = await rows_of(reader, level1="model", models=[name], runs="all")
        assert [row["model"] for row in found] == [name]


async def test_values_keep_their_types(database: Database, reader: Reader, registry: Registry) -> None:
    values: Sequence[Any] = [2**63 - 1, -(2**63), 0, 5]
    answers = [make_answer(f"q{value}", metadata={"level": value, "proof_required": bool(value)}) for value in values]
    run = prepare(registry, answers)
    await Projection(database, "").apply(entry_of(run, 1), run)
    rows = await rows_of(reader, level1="level", level2="proof_required", by_model=False)
    assert [(row["level"], row["proof_required"]) for row in rows] == [
        (5, True),
        (-(2**63), True),
        (0, False),
        (2**63 - 1, True),
    ]
    assert all(type(row["proof_required"]) is bool for row in rows)
    found = await rows_of(reader, level1="proof_required", level1_values=[False], by_model=False)
    assert [row["n"] for row in found] == [1]


async def test_what_was_applied_since_is_not_undone_by_a_registry_change(
    database: Database, reader: Reader, registry: Registry
) -> None:
    projection = Projection(database, "")
    run = prepare(registry, random_answers(1))
    await projection.apply(entry_of(run, 1), run)
    looked_at = applied_as(run, 1)
    gone = prepare(registry, random_answers(1), state="invalidated")
    await projection.apply(entry_of(gone, 2, "invalidated"), gone)
    await projection.reapply([looked_at], [run])
    assert await rows_of(reader, level1="subject", runs="all") == []


async def test_the_registry_started_last_decides(open_store: OpenStore, registry: Registry) -> None:
    run = prepare(registry, random_answers(1))
    async with open_store() as first, open_store() as second:
        await prepare_schema(first, registry)
        older, newer = Projection(first, "older"), Projection(second, "newer")
        await older.take_over()
        await newer.take_over()
        with pytest.raises(Superseded):
            await older.apply(entry_of(run, 1), run)
        with pytest.raises(Superseded):
            await older.reapply([applied_as(run, 1)], [run])
        await newer.apply(entry_of(run, 1), run)
        await older.take_over()
        again = prepare(registry, random_answers(2), run_id="r2")
        await older.apply(entry_of(again, 2), again)
        assert await newer.position() == 2


async def test_questions_weigh_alike_where_attempts_differ_in_metadata(
    database: Database, reader: Reader, registry: Registry
) -> None:
    attempts = [("q1", 1.0, 1), ("q1", 0.0, 2), ("q1", 0.0, 2), ("q2", 1.0, 1)]
    answers = [
        make_answer(name, score, attempt=number, metadata={"subject": "Algebra", "level": level})
        for number, (name, score, level) in enumerate(attempts)
    ]
    run = prepare(registry, answers)
    await Projection(database, "").apply(entry_of(run, 1), run)
    [row] = await rows_of(reader, level1="subject")
    assert row["mean"] == pytest.approx(2 / 4)
    assert row["mean_by_question"] == pytest.approx((1 / 3 + 1) / 2)
    by_level = {row["level"]: row["mean_by_question"] for row in await rows_of(reader, level1="level")}
    assert by_level == {1: pytest.approx(1.0), 2: pytest.approx(0.0)}


async def test_a_number_that_is_kept_is_given_to_no_other_run(database: Database, registry: Registry) -> None:
    """As after a registry change: results that were refused come in beside those that are applied anew."""
    runs = [prepare(registry, random_answers(seed, 5), run_id=f"r{seed}") for seed in range(3)]
    refused = prepare(registry, [make_answer("q0", 7)], run_id="r0")
    assert refused.state == "rejected"
    projection = Projection(database, "")
    for seq, run in enumerate([refused, *runs[1:]], start=1):
        await projection.apply(entry_of(run, seq), run)
    await Projection(database, "").reapply([applied_as(run, seq) for seq, run in enumerate(runs, start=1)], runs)
    assert sorted(row[0] for row in (await stored(database))["runs"]) == [1, 2, 3]


async def test_a_number_with_left_over_answers_is_given_to_no_run(database: Database, registry: Registry) -> None:
    runs = [prepare(registry, random_answers(seed, 5), run_id=f"r{seed}") for seed in range(3)]
    for seq, run in enumerate(runs[:2], start=1):
        await Projection(database, "").apply(entry_of(run, seq), run)
    async with database.transaction() as session:
        await session.execute(database.dialect.query.from_(RUNS).delete())
    await Projection(database, "").apply(entry_of(runs[2], 3), runs[2])
    assert [row[0] for row in (await stored(database))["runs"]] == [3]


async def test_benchmarks_with_the_same_fields_number_their_questions_apart(
    open_store: OpenStore, tmp_path: Path
) -> None:
    for name in ("mmlu-pro", "mmlu-max"):
        (tmp_path / f"{name}.toml").write_text(MMLU_PRO.replace('"mmlu-pro"', f'"{name}"'))
    registry = load_registry(tmp_path)
    answers = [make_answer(f"q{n}", n % 2, metadata={"category": "law"}) for n in range(4)]
    async with open_store() as database:
        await prepare_schema(database, registry)
        projection, reader = Projection(database, ""), Reader(database, registry, 1000)
        for seq, name in enumerate(("mmlu-pro", "mmlu-max"), start=1):
            run = prepare_run(document(answers, benchmark=name), registry, projection.knows)
            await projection.apply(entry_of(run, seq), run)
            [row] = await rows_of(reader, benchmark=name, level1="category")
            assert (row["category"], row["n"], row["n_questions"]) == ("law", 4, 4)


@pytest.mark.parametrize("lost", ["combinations", "layouts", "question_sets", "cut layouts"])
async def test_a_rebuild_remembers_nothing_that_may_be_lost(
    database: Database, reader: Reader, registry: Registry, lost: str
) -> None:
    projection = Projection(database, "")
    run = prepare(registry, random_answers(1))
    await projection.apply(entry_of(run, 1), run)
    expected = await rows_of(reader, level1="subject")
    tables, query = BenchmarkTables("math500"), database.dialect.query
    async with database.transaction() as session:
        if lost == "cut layouts":
            await session.execute(query.update(tables.layouts).set(tables.layouts.cells, b""))
        else:
            await session.execute(query.from_(getattr(tables, lost)).delete())
    await projection.mark_outdated(None)
    await projection.reapply([applied_as(run, 1)], [run])
    assert await rows_of(Reader(database, registry, 1000), level1="subject") == expected


async def test_few_large_answers_are_made_at_a_time(
    database: Database, reader: Reader, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever waits for a place holds no connection, and not for ever."""
    run = prepare(registry, random_answers(1))
    await Projection(database, "").apply(entry_of(run, 1), run)
    monkeypatch.setattr("analysis_service.group_by.analyze.LARGE_ROWS", 1)
    reader.plan_timeout_s = 0.2
    while not reader.large_answers.locked():
        await reader.large_answers.acquire()
    with pytest.raises(PoolExhausted, match="Other answers about this much are being made"):
        await rows_of(reader, level1="subject", level2="level")
    assert len(await rows_of(reader, level1="model")) == 1, "small ones have no need of a place"
    waiting = asyncio.create_task(rows_of(reader, level1="subject", level2="level"))
    async with asyncio.timeout(20):
        while database.pool_state().in_use or not reader.large_answers._waiters:  # noqa: SLF001
            await asyncio.sleep(0.001)
    reader.large_answers.release()
    assert len(await waiting) > 1
    assert not reader.large_answers.locked(), "the place is given back"


async def test_equal_means_are_equal_in_whatever_order_questions_came(
    database: Database, reader: Reader, registry: Registry
) -> None:
    projection = Projection(database, "")
    scores = [0.1, 0.2, 0.3, 0.7, 1 / 3] * 20
    for seq in range(1, 6):
        random.Random(seq).shuffle(scores)
        answers = [make_answer(f"q{n}", score, metadata={"level": 1}) for n, score in enumerate(scores)]
        run = prepare(registry, answers, model=f"m{seq}", run_id=f"r{seq}")
        await projection.apply(entry_of(run, seq), run)
    rows = await rows_of(reader, level1="level", order_by="-mean")
    assert [row["model"] for row in rows] == [f"m{seq}" for seq in range(1, 6)]
    assert len({row["mean"] for row in rows}) == 1
    [summary] = (await summarize(reader)).benchmarks
    assert summary.best_model is not None
    assert (summary.best_model.model, summary.best_model.mean) == ("m1", rows[0]["mean"])

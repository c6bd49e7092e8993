"""Questions that meet by their texts, on every engine: counted once, found by any id, told run by run."""

from collections.abc import Sequence
from typing import Any

import pytest

from analysis_service.database import Database
from analysis_service.group_by.analyze import analyze
from analysis_service.options import describe_fields
from analysis_service.projection.apply import Projection
from analysis_service.projection.prepare import PreparedRun
from analysis_service.queries.tables import FEED_STATE, RUNS, SUMS, BenchmarkTables
from analysis_service.question_list import list_questions
from analysis_service.questions import fetch_question
from analysis_service.reader import Reader
from analysis_service.schema import SCHEMA_VERSION, prepare_schema
from analysis_service.summary import summarize
from shared.analysis import AnalysisRequest
from shared.cursors import seal
from shared.problems import InvalidRequest, NotFound
from shared.process import StartFailed
from shared.questions import (
    ATTEMPTS_MAX,
    TEXT_MAX,
    QuestionAnswer,
    QuestionDetail,
    QuestionItem,
    QuestionListQuery,
    QuestionQuery,
)
from shared.registry.load import load_registry
from tests.documents import Answer, entry_of, make_answer, prepare

REGISTRY = load_registry()
TABLES = BenchmarkTables("math500")
WHOLE = [f"text {number}" for number in range(4)]


class Store:
    """A projection and a reader of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projection = Projection(database, "")
        self.reader = Reader(database, REGISTRY, 10_000)
        self.applied = 0

    async def apply(self, run: PreparedRun, kind: str = "result") -> PreparedRun:
        assert run.state in ("applied", "invalidated"), run.reason
        self.applied += 1
        await self.projection.apply(entry_of(run, self.applied, kind), run)
        return run

    async def push(self, answers: Sequence[Answer], run_id: str = "r1", **changes: Any) -> PreparedRun:
        return await self.apply(prepare(REGISTRY, answers, run_id=run_id, **changes))

    async def rows(self, **request: Any) -> list[dict[str, Any]]:
        asked = AnalysisRequest.model_validate({"benchmark": "math500", "runs": "all", **request})
        return (await analyze(self.reader, asked)).rows

    async def question(self, question_id: str, **query: Any) -> QuestionAnswer:
        return await fetch_question(self.reader, "math500", question_id, QuestionQuery(**query))

    async def the_question(self, question_id: str, **query: Any) -> QuestionDetail:
        [question] = (await self.question(question_id, **query)).questions
        return question

    async def listed(self, **query: Any) -> list[QuestionItem]:
        """All pages."""
        items: list[QuestionItem] = []
        cursor = None
        while True:
            page = await list_questions(self.reader, "math500", QuestionListQuery(cursor=cursor, **query))
            items += page.items
            if page.next_cursor is None:
                return items
            cursor = page.next_cursor


@pytest.fixture
async def filled(store: Database) -> Store:
    """A store with tables."""
    await prepare_schema(store, REGISTRY)
    return Store(store)


def through(harness: str, texts: Sequence[str] = WHOLE, score: float = 1.0, **changes: Any) -> list[Answer]:
    """Answers to the questions with these texts, under a harness's own ids."""
    return [
        make_answer(f"{harness}/{number}", score, **({"content_hash": text} | changes))
        for number, text in enumerate(texts)
    ]


async def test_runs_through_two_harnesses_ask_the_same_questions(filled: Store) -> None:
    await filled.push(through("lm-eval", metadata={"subject": "a"}), "r1", model="m1")
    await filled.push(through("helm", WHOLE[::-1], score=0, metadata={"subject": "a"}), "r2", model="m2")
    [row] = await filled.rows(level1="subject", by_model=False)
    assert (row["n"], row["n_questions"], row["mean_by_question"]) == (8, 4, 0.5)
    [summary] = (await summarize(filled.reader)).benchmarks
    assert summary.questions == 4
    [field] = [
        field for field in (await describe_fields(filled.reader, "math500", "en")).fields if field.name == "subject"
    ]
    assert [value.questions for value in field.values] == [4]
    async with filled.database.snapshot() as session:
        query = filled.database.dialect.query.from_(RUNS).select(RUNS.set_no, RUNS.n_questions)
        rows = await session.fetch(query, "rows of a test")
    assert len(set(rows)) == 1, "one question set for both"
    assert rows[0][1] == 4


async def test_a_question_is_found_by_any_harnesss_id(filled: Store) -> None:
    await filled.push(through("lm-eval", target="B"), "r1", model="m1")
    await filled.push(through("helm", WHOLE[::-1], score=0, target="(B)"), "r2", model="m2")
    one, other = await filled.the_question("lm-eval/3"), await filled.the_question("helm/0")
    assert one == other
    assert one.question_id == "lm-eval/3"
    assert one.question_ids == ["helm/0", "lm-eval/3"]
    assert (one.content_hash, one.copy_no, one.runs_total) == ("text 3", 1, 2)
    assert [(run.model, run.question_id, run.n, run.mean) for run in one.runs] == [
        ("m1", "lm-eval/3", 1, 1.0),
        ("m2", "helm/0", 1, 0.0),
    ]
    assert one.targets == ["(B)", "B"]


async def test_the_same_id_with_another_text_is_another_question(filled: Store) -> None:
    await filled.push(through("x", ["old", "kept"]), "r1", model="m1")
    await filled.push(through("x", ["new", "kept"]), "r2", model="m2")
    await filled.push([make_answer("x/0")], "r3", model="m3")
    answer = await filled.question("x/0")
    assert [(found.content_hash, found.runs_total) for found in answer.questions] == [("old", 1), ("new", 1), (None, 1)]
    assert answer.questions_total == 3
    assert [[run.model for run in found.runs] for found in answer.questions] == [["m1"], ["m2"], ["m3"]]
    assert answer.warnings == ["3 questions have the id 'x/0': runs sent it with different texts"]
    kept = await filled.question("x/1")
    assert (kept.warnings, kept.questions[0].runs_total) == ([], 2)
    [row] = await filled.rows(level1="subject", by_model=False, include_null=True)
    assert row["n_questions"] == 4


async def test_a_text_that_a_benchmark_holds_twice_is_two_questions(filled: Store) -> None:
    await filled.push(through("a", ["twice", "once", "twice"]), "r1", model="m1")
    await filled.push(through("b", ["once", "twice", "twice"]), "r2", model="m2")
    [row] = await filled.rows(level1="subject", by_model=False, include_null=True)
    assert (row["n"], row["n_questions"]) == (6, 3)
    first, second = await filled.the_question("a/0"), await filled.the_question("a/2")
    assert (first.copy_no, first.question_ids) == (1, ["a/0", "b/1"])
    assert (second.copy_no, second.question_ids) == (2, ["a/2", "b/2"])


async def test_attempts_of_two_texts_under_one_id_weigh_as_two_questions(filled: Store) -> None:
    answers = [
        make_answer("q", 1.0, attempt=0, content_hash="one"),
        make_answer("q", 0.0, attempt=1, content_hash="other"),
        make_answer("q", 0.0, attempt=2, content_hash="other"),
        make_answer("q", 1.0, attempt=3),  # is at the text that its id was told with first
    ]
    await filled.push(answers)
    [row] = await filled.rows(level1="subject", include_null=True)
    assert (row["n"], row["n_questions"], row["mean"], row["mean_by_question"]) == (4, 2, 0.5, 0.5)
    one, other = (await filled.question("q")).questions
    assert [attempt.attempt for attempt in one.runs[0].attempts] == [0, 3]
    assert [attempt.attempt for attempt in other.runs[0].attempts] == [1, 2]
    async with filled.reader.snapshot() as snapshot:
        [run] = snapshot.runs_of("math500").runs
    assert run.n_questions == 2


async def test_everything_of_an_attempt_is_told(filled: Store) -> None:
    told = {"latency_ms": 812.5, "input_tokens": 120, "output_tokens": 3, "cost_usd": 0.0004}
    metadata = {"subject": "Algebra", "level": 3, "proof_required": True}
    answers = [
        make_answer("q", None, attempt=7, status="refused", answer={"said": ["no"]}),
        make_answer("q", 0.5, attempt=2, answer="B" * TEXT_MAX, target="C" * (TEXT_MAX + 1), metadata=metadata, **told),
    ]
    await filled.push(answers)
    [run] = (await filled.the_question("q")).runs
    assert (run.n, run.mean, run.n_attempts, run.metadata) == (1, 0.5, 2, metadata)
    first, second = (attempt.model_dump() for attempt in run.attempts)
    shown = {"answer": "B" * TEXT_MAX, "target": "C" * TEXT_MAX, "truncated": True}
    assert first == {"attempt": 2, "status": "scored", "score": 0.5, **shown, **told}
    assert second == {
        "attempt": 7,
        "status": "refused",
        "score": None,
        "answer": '{"said":["no"]}',
        "target": None,
        "truncated": False,
        **dict.fromkeys(told),
    }


async def test_of_many_attempts_the_first_are_shown(filled: Store) -> None:
    await filled.push([make_answer("q", number % 2, attempt=number) for number in reversed(range(120))])
    [run] = (await filled.the_question("q")).runs
    assert (run.n, run.mean, run.n_attempts) == (120, 0.5, 120)
    assert [attempt.attempt for attempt in run.attempts] == list(range(ATTEMPTS_MAX))


async def test_which_runs_are_shown(filled: Store) -> None:
    whole = [f"text {number}" for number in range(500)]
    for number, (model, day) in enumerate([("gpt-4", 1), ("openai/gpt-4", 2), ("m", 1), ("m", 2)]):
        timestamp = f"2024-01-0{day}T00:00:00Z"
        source = "lm-eval" if number == 2 else "helm"
        await filled.push(through(f"s{number}", whole), f"r{number}", model=model, timestamp=timestamp, source=source)
    newest = "2024-01-03T00:00:00Z"
    await filled.push(through("live", whole), "r4", model="m", source="helm", timestamp=newest, live="live")

    async def shown(**query: Any) -> list[str]:
        return [run.question_id for run in (await filled.the_question("s0/7", **query)).runs]

    assert await shown() == ["s1/7", "s2/7", "s3/7"], "the latest of each model through each harness"
    assert await shown(runs="all") == ["s0/7", "s1/7", "s2/7", "s3/7"]
    assert await shown(live=True) == ["s1/7", "s2/7", "live/7"], "a live run, where it is let in, is the latest"
    assert await shown(model=["openai/gpt-4"], runs="all") == ["s0/7", "s1/7"]
    assert await shown(source=["lm-eval"]) == ["s2/7"]
    assert await shown(source=["lm-eval"], model=["gpt-4"]) == []
    assert (await filled.the_question("s0/7", source=["lm-eval"])).runs_total == 5
    with pytest.raises(InvalidRequest, match=r"query.model\[1\]: no model 'gpt-44'.*did you mean 'gpt-4'"):
        await shown(model=["m", "gpt-44"])
    with pytest.raises(InvalidRequest, match=r"query.source\[0\]: no source 'hell'.*did you mean 'helm'"):
        await shown(source=["hell"])


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_hold_every_run_of_every_question_once(filled: Store, limit: int) -> None:
    for number in range(5):
        text = "even" if number % 2 == 0 else "odd"
        await filled.push([make_answer("q", content_hash=text)], f"r{number}", model=f"m{number % 3}", source="kept")
    await filled.push([make_answer("q", content_hash="left out")], "r5", source="other")
    expected = ["even m0 r0", "even m1 r4", "even m2 r2", "odd m0 r3", "odd m1 r1", "left out"]
    found: list[str] = []
    cursor = None
    for _ in range(len(expected)):
        page = await filled.question("q", runs="all", source=["kept"], limit=limit, cursor=cursor)
        assert page.questions_total == 3
        lines = [
            f"{question.content_hash} {run.model} {run.result_name[-2:]}"
            for question in page.questions
            for run in question.runs
        ]
        lines += [str(question.content_hash) for question in page.questions if not question.runs]
        assert len(lines) <= limit
        found += lines
        cursor = page.next_cursor
        if cursor is None:
            break
        with pytest.raises(InvalidRequest, match=r"query\.cursor: is of another list"):
            await filled.question("q", runs="all", limit=limit, cursor=cursor)
    assert found == expected


async def test_a_page_beyond_the_last_line_is_empty(filled: Store) -> None:
    """What stood there may be gone since the page before."""
    await filled.push([make_answer("q")], "r0")
    beyond = seal((1_000_000, "", "", 0), ["math500", "q", QuestionQuery().model_dump(exclude={"limit", "cursor"})])
    page = await filled.question("q", cursor=beyond)
    assert (page.questions, page.questions_total, page.next_cursor) == ([], 1, None)


async def test_the_number_of_statements_does_not_depend_on_the_page(filled: Store) -> None:
    def statements() -> int:
        return sum(counts.durations.count for counts in filled.database.reads.by_name.values())

    async def count(question_id: str) -> int:
        await filled.question(question_id)  # so that its sets are in memory
        before = statements()
        await filled.question(question_id)
        return statements() - before

    for number in range(12):
        own = make_answer("many", content_hash=f"text {number}")
        await filled.push([own, make_answer("one", content_hash="one")], f"r{number}", model=f"m{number}")
        await filled.push([make_answer(f"also {number}", content_hash="one")], f"again {number}")
    assert len((await filled.question("many")).questions) == 12
    assert (await filled.the_question("one")).question_ids == sorted([*(f"also {n}" for n in range(12)), "one"])
    assert await count("many") == await count("one")


async def test_more_answers_than_are_unpacked_at_once(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis_service.questions.ANSWERS_AT_ONCE", 9)
    for number in range(5):
        await filled.push(through("a", WHOLE, score=number / 4), f"r{number}", model=f"m{number}")
    found = await filled.the_question("a/2")
    assert [run.mean for run in found.runs] == [0, 0.25, 0.5, 0.75, 1]


async def test_an_id_that_nobody_has_is_told_with_the_nearest(filled: Store) -> None:
    await filled.push([make_answer(f"anatomy/{number}") for number in range(1000)])
    for unknown, nearest in (
        ("anatomy-77", "anatomy/77"),
        ("anatomy/77x", "anatomy/77"),
        ("anatomi/77", "anatomy/77"),
        ("anatomy", "anatomy/9"),
    ):
        with pytest.raises(NotFound, match=rf"no question of math500 '{unknown}'; did you mean") as refusal:
            await filled.question(unknown)
        [fault] = refusal.value.faults
        assert fault.nearest is not None
        assert nearest in fault.nearest
        assert "GET /benchmarks/math500/questions lists them" in refusal.value.detail
    for unknown in ("", "anatomy", "ANATOMY/7", "anatomy/7 ", "\x00", "x" * 5000):
        with pytest.raises(NotFound):
            await filled.question(unknown)


async def test_what_is_taken_back_tells_nothing_any_more(filled: Store) -> None:
    await filled.push(through("a"), "r1", model="m1")
    await filled.push(through("b", ["text 0", "of b alone"]), "r2", model="m2")
    gone = {"run_id": "r2", "model": "m2", "state": "invalidated"}
    await filled.apply(prepare(REGISTRY, through("b", ["text 0", "of b alone"]), **gone), "invalidated")
    left = await filled.the_question("b/0")
    assert (left.runs_total, [run.model for run in left.runs]) == (1, ["m1"])
    with pytest.raises(NotFound):
        await filled.question("b/1")
    assert [item.question_id for item in await filled.listed()] == ["a/0", "a/1", "a/2", "a/3", "b/0"]
    back = prepare(REGISTRY, through("b", ["text 0", "of b alone"]), run_id="r2", model="m2")
    await filled.apply(back, "restored")
    assert (await filled.the_question("b/1")).runs_total == 1


async def test_a_live_run_meets_the_others_as_far_as_it_has_come(filled: Store) -> None:
    await filled.push(through("a"), "r1", model="m1")
    for parts in (1, 3):
        await filled.push(through("b")[:parts], "r2", model="m2", live="live")
        assert [run.live for run in (await filled.the_question("a/0", live=True)).runs] == [False, True]
        assert [run.model for run in (await filled.the_question("b/0")).runs] == ["m1"]
    await filled.push(through("b"), "r2", model="m2")
    assert [(run.model, run.live) for run in (await filled.the_question("b/3")).runs] == [("m1", False), ("m2", False)]
    [row] = await filled.rows(level1="subject", by_model=False, include_null=True)
    assert (row["n"], row["n_questions"]) == (8, 4)


async def test_the_order_in_which_runs_arrive_changes_nothing(filled: Store) -> None:
    """So a store that is built again answers as before."""
    pushed: list[tuple[str, list[Answer]]] = [
        ("m1", through("a", ["t1", "t2", "t2", "t3"], metadata={"level": 1})),
        ("m2", through("b", ["t2", "t3", "t2"], metadata={"level": 1})),
        ("m3", through("a", ["t4", "t1"], metadata={"level": 2})),
        ("m4", [make_answer("a/0", metadata={"level": 2}), *through("c", ["t2"], metadata={"level": 2})]),
    ]

    async def answers() -> list[Any]:
        rows = [await filled.rows(level1="level", by_model=by_model) for by_model in (False, True)]
        found = [await filled.question(name) for name in ("a/0", "b/2", "c/0")]
        told = [
            sorted((q.content_hash or "", q.copy_no, q.question_ids, q.runs) for q in one.questions) for one in found
        ]
        return [rows, told]

    for model, sent in pushed:
        await filled.push(sent, model, model=model)
    before = await answers()
    for table in (TABLES.questions, TABLES.question_names, TABLES.question_sets, SUMS):
        async with filled.database.transaction() as session:
            await session.execute(filled.database.dialect.query.from_(table).delete())
    filled.projection.forget_numbers()
    filled.reader = Reader(filled.database, REGISTRY, 10_000)
    for model, sent in reversed(pushed):
        await filled.push(sent, model, model=model)
    assert await answers() == before


IDS = [
    "a/b",
    "a//b",
    "/a",
    "a/",
    "%s",
    "\\",
    "A",
    "a",
    "a ",
    "á",
    "a\u0301",
    "?",
    "#x",
    "中文",
    "😀",
    "x" * 300,
    "~",
    ".",
]


async def test_ids_that_differ_at_all_stay_apart_and_are_listed_in_their_order(filled: Store) -> None:
    await filled.push([make_answer(name, number % 2) for number, name in enumerate(IDS)])
    for number, name in enumerate(IDS):
        found = await filled.the_question(name)
        assert (found.question_ids, found.runs[0].mean) == ([name], number % 2)
    for limit in (1, 7, 1000):
        assert [item.question_id for item in await filled.listed(limit=limit)] == sorted(IDS)
    for prefix in ("a", "a/", "%", "\\", "x", "😀", "b"):
        expected = sorted(name for name in IDS if name.startswith(prefix))
        assert [item.question_id for item in await filled.listed(prefix=prefix, limit=2)] == expected


HASHES = ["h", "H", "h ", " h", "h\x00", "id:h", "1:h", "á", "a\u0301", "😀" * 200, "x" * 200, "\\", "%s", "'"]


async def test_hashes_that_differ_at_all_are_different_texts(filled: Store) -> None:
    for number in range(2):
        filled.projection.forget_numbers()
        await filled.push(through(f"s{number}", HASHES), f"r{number}")
    [row] = await filled.rows(level1="subject", by_model=False, include_null=True)
    assert (row["n"], row["n_questions"]) == (2 * len(HASHES), len(HASHES))
    for number, text in enumerate(HASHES):
        found = await filled.the_question(f"s1/{number}")
        assert (found.content_hash, found.question_ids) == (text, [f"s0/{number}", f"s1/{number}"])


async def test_a_question_is_listed_under_each_of_its_ids(filled: Store) -> None:
    await filled.push(through("a", ["t", "u"]), "r1")
    await filled.push(through("b", ["u", "t"]), "r2")
    await filled.push(through("b", ["u", "v"]), "r3")
    await filled.push(through("live", ["u", "v"]), "r4", live="live")
    listed = [(item.question_id, item.content_hash, item.runs) for item in await filled.listed(limit=2)]
    shared = [("a/0", "t", 2), ("a/1", "u", 3), ("b/0", "u", 3), ("b/1", "t", 2), ("b/1", "v", 1)]
    assert listed == [*shared, ("live/0", "u", 3), ("live/1", "v", 1)]
    page = await list_questions(filled.reader, "math500", QuestionListQuery(limit=2))
    with pytest.raises(InvalidRequest, match=r"query\.cursor: is of another list"):
        await list_questions(filled.reader, "math500", QuestionListQuery(prefix="a", cursor=page.next_cursor))


@pytest.mark.parametrize("version", [None, 1, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
async def test_tables_of_another_version_are_refused(store: Database, version: int | None) -> None:
    await prepare_schema(store, REGISTRY)
    await prepare_schema(store, REGISTRY)
    if version is None:
        async with store.alone("schema") as session:
            await session.define("ALTER TABLE feed_state DROP COLUMN schema_version")
    else:
        async with store.transaction() as session:
            await session.execute(store.dialect.query.update(FEED_STATE).set(FEED_STATE.schema_version, version))
    told = rf"are of version {version or 1}, this release needs version {SCHEMA_VERSION}\. Empty the SQL"
    with pytest.raises(StartFailed, match=told):
        await prepare_schema(store, REGISTRY)

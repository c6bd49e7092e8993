"""Live runs in the projection, on every engine: shown as far as they have come, replaced by their results, removed."""

from collections.abc import Sequence
from typing import Any

import pytest

from analysis_service.database import Database
from analysis_service.group_by.analyze import analyze
from analysis_service.projection.apply import Application, FeedGap, Projection
from analysis_service.projection.prepare import PreparedRun
from analysis_service.queries.tables import ANSWERS, APPLIED, RUNS, SUMS
from analysis_service.reader import Reader
from analysis_service.runs import Run
from analysis_service.schema import prepare_schema
from shared.analysis import AnalysisRequest
from shared.registry.load import load_registry
from tests.documents import applied_as, entry_of, make_answer, prepare

REGISTRY = load_registry()


@pytest.fixture
async def database(store: Database) -> Database:
    """A store with tables."""
    await prepare_schema(store, REGISTRY)
    return store


def so_far(questions: int, **changes: Any) -> PreparedRun:
    """A live run that has come this far, or a result of as many questions."""
    answers = [make_answer(f"q{n}", 1.0, metadata={"subject": "s"}) for n in range(questions)]
    return prepare(REGISTRY, answers, **{"live": "live"} | changes)


def ended(state: str) -> PreparedRun:
    """A live run that is finished or discarded: nothing is told of its questions any more."""
    return prepare(REGISTRY, data={}, live=state)


async def stored_runs(database: Database, benchmark: str = "math500") -> Sequence[Run]:
    """The runs, oldest first."""
    async with Reader(database, REGISTRY, max_groups=100).snapshot() as snapshot:
        return snapshot.runs_of(benchmark).runs


async def shown(database: Database) -> list[tuple[int, bool]]:
    """Questions of the runs, and whether they are live."""
    return [(run.n_questions, run.live) for run in await stored_runs(database)]


async def rows(database: Database) -> dict[str, int]:
    """How many rows the tables have that belong to runs."""
    counts = {}
    async with database.snapshot() as session:
        for table in (RUNS, ANSWERS, APPLIED, SUMS):
            counts[table.get_table_name()] = len(
                await session.fetch(database.dialect.query.from_(table).select("*"), "rows of a test")
            )
    return counts


async def test_parts_replace_one_another_and_the_result_replaces_them(database: Database) -> None:
    projection = Projection(database, "")
    await projection.apply(entry_of(so_far(2), 1, "part"), so_far(2))
    assert await shown(database) == [(2, True)]
    await projection.apply(entry_of(so_far(5), 2, "part"), so_far(5))
    assert await shown(database) == [(5, True)]
    result = so_far(7, live=None)
    await projection.apply(entry_of(result, 3, "finished"), result)
    assert await shown(database) == [(7, False)]
    assert set((await rows(database)).values()) == {1}
    reader = Reader(database, REGISTRY, max_groups=100)
    answer = await analyze(reader, AnalysisRequest(benchmark="math500", level1="subject"))
    assert [row["n"] for row in answer.rows] == [7]


@pytest.mark.parametrize("late", [so_far(2), ended("discarded"), ended("finished")], ids=["part", "discard", "finish"])
async def test_what_a_live_run_still_tells_does_not_touch_its_result(database: Database, late: PreparedRun) -> None:
    projection = Projection(database, "")
    result = so_far(7, live=None)
    await projection.apply(entry_of(result, 1), result)
    await projection.apply(entry_of(late, 2, "part"), late)
    assert (await projection.position(), await shown(database)) == (2, [(7, False)])


async def test_a_part_of_what_is_finished_by_now_leaves_the_partial_run_until_its_result_comes(
    database: Database,
) -> None:
    projection = Projection(database, "")
    await projection.apply(entry_of(so_far(2), 1, "part"), so_far(2))
    await projection.apply(entry_of(ended("finished"), 2, "part"), ended("finished"))
    assert (await projection.position(), await shown(database)) == (2, [(2, True)])


async def test_a_live_run_does_not_say_how_large_a_benchmark_is(database: Database) -> None:
    assert REGISTRY.benchmarks["ds-mmlu"].question_count is None
    projection = Projection(database, "")
    for seq, run in enumerate(
        [so_far(4, benchmark="ds-mmlu", live=None), so_far(8, benchmark="ds-mmlu", run_id="r2")], start=1
    ):
        await projection.apply(entry_of(run, seq), run)
    runs = await stored_runs(database, "ds-mmlu")
    assert [(run.n_questions, run.live, run.coverage) for run in runs] == [(4, False, 1.0), (8, True, 1.0)]


async def test_a_discarded_run_leaves_nothing(database: Database) -> None:
    projection = Projection(database, "")
    await projection.apply(entry_of(so_far(2), 1, "part"), so_far(2))
    await projection.apply(entry_of(ended("discarded"), 2, "discarded"), ended("discarded"))
    assert set((await rows(database)).values()) == {0}


async def test_entries_that_do_not_matter_are_passed_in_the_same_step(database: Database) -> None:
    projection = Projection(database, "")
    run, href = so_far(9), entry_of(so_far(9), 40, "part").href
    await projection.apply_all([Application(run, 40, href)], after=0)
    assert await projection.position() == 40
    with pytest.raises(FeedGap):
        await projection.apply_all([Application(run, 42, href)], after=41)


@pytest.mark.parametrize(("by_now", "expected"), [("finished", [(2, True)]), ("discarded", []), ("live", [(3, True)])])
async def test_a_live_run_under_a_changed_registry(
    database: Database, by_now: str, expected: list[tuple[int, bool]]
) -> None:
    """It is decided anew, also where it has ended since: else it would be looked at for ever."""
    projection = Projection(database, "")
    run = so_far(2)
    await projection.apply(entry_of(run, 1, "part"), run)
    async with database.transaction() as session:
        await session.execute(database.dialect.query.update(APPLIED).set(APPLIED.registry_hash, "former"))
    fingerprints = {name: spec.fingerprint for name, spec in REGISTRY.benchmarks.items()}
    outdated = await projection.outdated(fingerprints, after=0, limit=10)
    assert outdated == [applied_as(run, 1)]
    await projection.reapply(outdated, [so_far(3) if by_now == "live" else ended(by_now)])
    assert await projection.outdated(fingerprints, after=0, limit=10) == []
    assert await shown(database) == expected


async def test_tables_of_an_earlier_version_are_added_to(database: Database) -> None:
    projection = Projection(database, "")
    result = so_far(7, live=None)
    await projection.apply(entry_of(result, 1), result)
    async with database.alone("test") as session:
        await session.define("ALTER TABLE runs DROP COLUMN live")
    await prepare_schema(database, REGISTRY)
    assert await shown(database) == [(7, False)]
    await projection.apply(entry_of(so_far(2, run_id="r2"), 2, "part"), so_far(2, run_id="r2"))
    assert sorted(await shown(database)) == [(2, True), (7, False)]

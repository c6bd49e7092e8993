"""How many bytes an answer, a run, a question and a cell take, in both stores and in memory.

    python -m tests.bench.sizes [--write]

Made-up runs go through both services, on a mongod and a MariaDB started for it. With --write the table goes to
docs/scaling.md. It takes about a minute.
"""

import argparse
import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pymongo
from rich.console import Console
from rich.table import Table

from analysis_service.database.mysql import MysqlAddress, open_mysql
from analysis_service.reader import Reader
from shared.registry.load import load_registry
from tests.bench.backfill import catch_up, push
from tests.bench.figures import machine
from tests.bench.mmlu import QUESTIONS, MadeUpMmlu, first_of_each_subject
from tests.bench.servers import SqlDatabase, analysis_service, mariadbd, mongod, results_service

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
MARKS = "<!-- sizes -->\n", "<!-- /sizes -->"
HEADINGS = ("what", "bytes", "one more for each")
LARGE_RUNS, SMALL_RUNS = 50, 2_000
"""Runs of all questions, of which answers are measured, and of few, of which what each run takes is."""
SMALL_SHARE = 0.01
DATABASE = "sizes"

Row = tuple[str, float, str]


def main() -> int:
    """Measure, print, write where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    write = parser.parse_args().write
    rows = [(what, f"{size:,.1f}" if size < 100 else f"{size:,.0f}", each) for what, size, each in measure()]
    table = Table(*HEADINGS, title="Bytes")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write:
        write_table(rows)
    return 0


def measure() -> Sequence[Row]:
    """What takes how many bytes, and what it grows with."""
    mmlu = MadeUpMmlu()
    with (
        TemporaryDirectory() as name,
        mongod(Path(name)) as mongo_url,
        mariadbd(Path(name)) as server,
        server.new() as database,
        results_service(Path(name), mongo_url, MONGO_DATABASE=DATABASE) as results,
        analysis_service(Path(name), results.url, database) as analysis,
    ):
        push(results, (run.document for run in mmlu.runs(LARGE_RUNS)))
        catch_up(analysis, LARGE_RUNS)
        answers = LARGE_RUNS * QUESTIONS
        rows = list(_per_answer(database, mongo_url, answers))
        with _growth(database, ("runs", "applied", "run_versions")) as of_runs:
            small = first_of_each_subject(SMALL_SHARE)
            push(results, (mmlu.run(number, small, prefix="small").document for number in range(SMALL_RUNS)))
            catch_up(analysis, LARGE_RUNS + SMALL_RUNS)
        rows.append(("rows about a run (`runs`, `applied`, `run_versions`)", of_runs[0] / SMALL_RUNS, "run"))
        runs = LARGE_RUNS + SMALL_RUNS
        catalog = asyncio.run(_catalog_bytes(database))
        rows.append(("memory of an analysis instance: what it knows of a run", catalog / runs, "run"))
    return rows


def _per_answer(database: SqlDatabase, mongo_url: str, answers: int) -> Iterator[Row]:
    cells = _ask(database, "SELECT MAX(n_cells) FROM {}.runs")
    yield (
        "packed answers (`answers`), compressed",
        _ask(database, "SELECT SUM(LENGTH(packed)) FROM {}.answers") / answers,
        "answer",
    )
    sums = _ask(database, "SELECT AVG(LENGTH(scores) + LENGTH(costs)) FROM {}.sums")
    yield "sums (`sums`)", sums / cells, "run × combination of metadata values that it has"
    yield f"the same of a run of MMLU, which has {cells:,.0f}", sums, "run"
    layout = _ask(database, "SELECT MAX(LENGTH(cells)) FROM {}.layouts_mmlu")
    yield "layout (`layouts_…`)", layout / cells, "combination; once for all runs over the same questions"
    sets = _ask(database, "SELECT SUM(LENGTH(members)) FROM {}.question_sets_mmlu")
    yield "question sets (`question_sets_…`)", sets / QUESTIONS, "question; once for all runs over the same questions"
    of_questions = sum(_on_disk(database, f"{table}_mmlu") for table in ("questions", "question_names"))
    yield "questions and their names, with indexes", of_questions / QUESTIONS, "question"
    yield (
        f"SQL on disk, all tables, after {answers // QUESTIONS} runs of one benchmark",
        sum(_on_disk(database, table) for table in _tables(database)) / answers,
        "answer",
    )
    with pymongo.MongoClient[dict[str, float]](mongo_url) as client:
        client.admin.command("fsync")
        stats = client[DATABASE].command("dbStats")
    yield "MongoDB on disk, with indexes, after the same", stats["totalSize"] / answers, "answer"


@contextmanager
def _growth(database: SqlDatabase, tables: Sequence[str]) -> Iterator[list[float]]:
    """The bytes that tables have more at the end of the context, the only entry of the list then."""
    found: list[float] = []
    before = sum(_on_disk(database, table) for table in tables)
    yield found
    found.append(sum(_on_disk(database, table) for table in tables) - before)


def _tables(database: SqlDatabase) -> list[str]:
    query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{database.name}'"
    return [str(table) for (table,) in database.ask(query)]


def _on_disk(database: SqlDatabase, table: str) -> float:
    database.ask(f"ANALYZE TABLE {database.name}.{table}")
    return _ask(
        database,
        "SELECT data_length + index_length FROM information_schema.tables "
        f"WHERE table_schema = '{{}}' AND table_name = '{table}'",
    )


def _ask(database: SqlDatabase, query: str) -> float:
    [(value,)] = database.ask(query.format(database.name))
    return float(str(value))


async def _catalog_bytes(database: SqlDatabase) -> float:
    """What an instance's list of all runs takes in memory."""
    address = MysqlAddress(database.host, database.port, database.user, database.password, database.name)
    async with open_mysql(address) as store:
        reader = Reader(store, load_registry(), max_groups=1)
        gc.collect()
        tracemalloc.start()
        catalog = await reader.current()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert catalog.by_benchmark
        await reader.close()
    return float(size)


def write_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """Replace the table on the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(MARKS[0])
    _, closed, after = rest.partition(MARKS[1])
    if not (found and closed):
        sys.exit(f"{PAGE} needs the marks {MARKS[0].strip()} and {MARKS[1]}")
    lines = [HEADINGS, ("---", "---:", "---"), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = f"MariaDB and MongoDB on {machine()}; {datetime.now(UTC):%Y-%m-%d}."
    PAGE.write_text(f"{before}{MARKS[0]}{about}\n\n{table}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

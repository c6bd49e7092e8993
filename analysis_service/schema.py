"""Creates and upgrades the projection's tables from the registry: a new benchmark or field needs no migration by hand.

Statements here hold names made by `queries.tables` from registered (checked) names, and no values.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pypika import Column

from analysis_service.database import Database, Session
from analysis_service.database.dialect import Dialect
from analysis_service.queries.tables import (
    BENCHMARK_FIELDS,
    FEED_STATE,
    BenchmarkTables,
    field_column,
)
from shared.names import table_suffix
from shared.process import StartFailed
from shared.registry.specs import BenchmarkSpec, FieldSpec, FieldType, Registry

SCHEMA_VERSION = 4
"""Raise it when stored tables no longer fit the code: they are refused then. Part of every `data_version`."""

_FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: Sequence[tuple[str, str]]
    """Names and types."""
    key: Sequence[str]
    unique: Sequence[Sequence[str]] = ()
    """Columns that are unique together, each with an index in this order."""
    nullable: Collection[str] = ()
    indexed: Sequence[str] = ()
    """Columns that have an index each."""


async def prepare_schema(database: Database, registry: Registry) -> None:
    """Make what is missing: tables, columns of new fields, the feed position's row.

    StartFailed if the tables are of another version, or a benchmark was renamed to one whose tables have these names.

    A crash at any point is mended by the next start; MySQL commits each definition by itself, so each step asks what is
    there rather than what was done.
    """
    dialect = database.dialect
    async with database.alone("schema") as session:
        await _check_version(session, dialect)
        for table in _global_tables(dialect):
            await _create(session, dialect, table)
            await _add_columns(session, dialect, table)
            await _index(session, dialect, table)
        if not await session.fetch(dialect.query.from_(FEED_STATE).select(FEED_STATE.id), "feed state row"):
            await session.insert(
                FEED_STATE,
                ["id", "position", "version", "token", "registry_hash", "schema_version"],
                [(1, 0, 0, 0, "", SCHEMA_VERSION)],
            )
        recorded = await _recorded_types(session, dialect)
        _check_owners(registry, {benchmark for benchmark, _ in recorded})
        for benchmark in registry.benchmarks.values():
            await _prepare_benchmark(session, dialect, benchmark, recorded)


async def _check_version(session: Session, dialect: Dialect) -> None:
    columns = await session.columns(FEED_STATE.get_table_name())
    if not columns:
        return
    found = [(_FIRST_VERSION,)]  # which did not say so
    if "schema_version" in columns:
        found = await session.fetch(dialect.query.from_(FEED_STATE).select(FEED_STATE.schema_version), "schema version")
    for (version,) in found:
        if version != SCHEMA_VERSION:
            raise StartFailed(
                f"the SQL store's tables are of version {version}, this release needs version {SCHEMA_VERSION}. "
                "Empty the SQL store (drop the database's tables, or remove the SQLite file) and start again: it is "
                "built again from the results service, which keeps every result"
            )


async def _recorded_types(session: Session, dialect: Dialect) -> Mapping[tuple[str, str], str]:
    """(Benchmark, field) → the type its column was made for."""
    record = BENCHMARK_FIELDS
    rows = await session.fetch(
        dialect.query.from_(record).select(record.benchmark, record.field_name, record.field_type),
        "recorded field types",
    )
    return {(benchmark, field): kind for benchmark, field, kind in rows}


def _check_owners(registry: Registry, recorded: Iterable[str]) -> None:
    """A registry refuses two names that fold to one table; so must the tables that an earlier registry left."""
    for former in set(recorded) - registry.benchmarks.keys():
        for name in registry.benchmarks:
            if table_suffix(name) == table_suffix(former):
                raise StartFailed(
                    f"the tables of benchmark {name!r} hold results of {former!r}, which is not registered any more. "
                    "Give it another name, or empty the SQL store: it is built again from the results service"
                )


async def _prepare_benchmark(
    session: Session, dialect: Dialect, benchmark: BenchmarkSpec, recorded: Mapping[tuple[str, str], str]
) -> None:
    tables = BenchmarkTables(benchmark.name)
    combinations = tables.combinations.get_table_name()
    columns = await session.columns(combinations)
    made_now = not columns
    for table in _benchmark_tables(dialect, tables, benchmark.fields):
        await _create(session, dialect, table)
    for field in benchmark.fields:
        column, before = field_column(field.name), recorded.get((benchmark.name, field.name))
        if before == field.type and column in columns:
            continue
        if column in columns:
            # Of another type: the old values go, and the runs that had them are applied anew from the results.
            await session.define(_alter(dialect, combinations, f"DROP COLUMN {_quoted(dialect, column)}"))
        if not made_now:
            added = f"{_quoted(dialect, column)} {_field_type(dialect, field)} NULL"
            await session.define(_alter(dialect, combinations, f"ADD COLUMN {added}"))
        if before is not None:
            same = (BENCHMARK_FIELDS.benchmark == benchmark.name) & (BENCHMARK_FIELDS.field_name == field.name)
            await session.execute(dialect.query.from_(BENCHMARK_FIELDS).delete().where(same))
        await session.insert(
            BENCHMARK_FIELDS,
            ["benchmark", "field_name", "field_type"],
            [(benchmark.name, field.name, field.type.value)],
        )


def _global_tables(dialect: Dialect) -> Iterable[_Table]:
    name, short, blob, long_text = (
        dialect.text.format(n=512),
        dialect.text.format(n=64),
        dialect.blob,
        dialect.long_text,
    )
    text_id = dialect.text.format(n=300)
    yield _Table(
        "feed_state",
        [
            ("id", "INT"),
            ("position", "BIGINT"),
            ("version", "BIGINT"),
            ("token", "BIGINT"),  # another one with each write: who finds the one it left knows that nobody wrote since
            ("registry_hash", short),
            ("schema_version", "INT"),
        ],
        ["id"],
    )
    yield _Table(
        "applied",
        [
            ("result_name", name),
            ("seq", "BIGINT"),
            ("benchmark", text_id),
            ("sha256", short),
            ("href", long_text),
            ("state", short),
            ("reason", long_text),
            ("registry_hash", short),
        ],
        ["result_name"],
        nullable={"reason"},
        indexed=["seq"],  # in step with which the feed is compared
    )
    yield _Table(
        "runs",
        [
            ("run_no", "INT"),
            ("result_name", name),
            ("benchmark", text_id),
            ("run_id", text_id),
            ("model_id", text_id),
            ("source", text_id),
            ("timestamp", short),
            ("time_key", short),
            ("seq", "BIGINT"),
            ("set_no", "BIGINT"),
            ("layout_no", "BIGINT"),
            ("n_cells", "INT"),
            ("n_questions", "INT"),
            ("n_answers", "INT"),
            ("n_scored", "INT"),
            ("score_sum", dialect.real),
            ("stated_score", dialect.real),
            ("harness", text_id),
            ("harness_version", text_id),
            ("task_version", text_id),
            ("grader", text_id),
            ("config_hash", short),
            ("live", "SMALLINT DEFAULT 0"),
        ],
        ["run_no"],
        unique=[["result_name"]],
        nullable={
            *("set_no", "layout_no", "stated_score"),
            *("harness", "harness_version", "task_version", "grader", "config_hash"),
        },
    )
    yield _Table("sums", [("run_no", "INT"), ("scores", blob), ("costs", blob)], ["run_no"])
    # Scores first: SQLite reads a row up to the column that is asked for.
    yield _Table("answers", [("run_no", "INT"), ("scores", blob), ("packed", blob)], ["run_no"])
    yield _Table("run_versions", [("run_no", "INT"), ("version", "BIGINT")], ["run_no"], indexed=["version"])
    yield _Table(
        "benchmark_versions", [("benchmark", text_id), ("version", "BIGINT")], ["benchmark"], indexed=["version"]
    )
    yield _Table(
        "benchmark_fields",
        [("benchmark", text_id), ("field_name", short), ("field_type", short)],
        ["benchmark", "field_name"],
    )


def _benchmark_tables(dialect: Dialect, tables: BenchmarkTables, fields: Iterable[FieldSpec]) -> Iterable[_Table]:
    text_id = dialect.text.format(n=300)
    yield _Table(
        tables.questions.get_table_name(),
        [
            ("question_no", "INT"),
            ("question_key", dialect.text.format(n=310)),
            ("question_id", text_id),
            ("content_hash", text_id),
        ],
        ["question_no"],
        unique=[["question_key"]],
        nullable={"content_hash"},
    )
    yield _Table(
        tables.question_names.get_table_name(),
        [("name_no", "INT"), ("question_no", "INT"), ("question_id", text_id)],
        ["name_no"],
        unique=[["question_id", "question_no"], ["question_no", "question_id"]],
    )
    columns = [(field_column(field.name), _field_type(dialect, field)) for field in fields]
    yield _Table(
        tables.combinations.get_table_name(),
        [("combination", "INT"), *columns],
        ["combination"],
        nullable={name for name, _ in columns},
    )
    yield _Table(
        tables.question_sets.get_table_name(),
        [("set_no", "BIGINT"), ("members", dialect.blob)],
        ["set_no"],
    )
    yield _Table(tables.layouts.get_table_name(), [("layout_no", "BIGINT"), ("cells", dialect.blob)], ["layout_no"])


def _field_type(dialect: Dialect, field: FieldSpec) -> str:
    match field.type:
        case FieldType.CATEGORY:
            return dialect.text.format(n=300)
        case FieldType.INTEGER:
            return "BIGINT"
        case FieldType.NUMBER:
            return dialect.real
        case FieldType.BOOLEAN:
            return "SMALLINT"


async def _create(session: Session, dialect: Dialect, table: _Table) -> None:
    if await session.columns(table.name):
        return
    query = dialect.query.create_table(table.name).primary_key(*table.key)
    query = query.columns(*(Column(name, kind, nullable=name in table.nullable) for name, kind in table.columns))
    for columns in table.unique:
        query = query.unique(*columns)
    await session.define(f"{query.get_sql()} {dialect.table_options}".rstrip())


async def _add_columns(session: Session, dialect: Dialect, table: _Table) -> None:
    """Add what an earlier version did not make the table with."""
    known = await session.columns(table.name)
    for name, kind in table.columns:
        if name not in known:
            null = "NULL" if name in table.nullable else "NOT NULL"
            await session.define(_alter(dialect, table.name, f"ADD COLUMN {_quoted(dialect, name)} {kind} {null}"))


async def _index(session: Session, dialect: Dialect, table: _Table) -> None:
    known = await session.indexes(table.name)
    for column in table.indexed:
        name = f"{table.name}_{column}"
        if name not in known:
            place = f"{_quoted(dialect, table.name)} ({_quoted(dialect, column)})"
            await session.define(f"CREATE INDEX {_quoted(dialect, name)} ON {place}")


def _alter(dialect: Dialect, table: str, change: str) -> str:
    return f"ALTER TABLE {_quoted(dialect, table)} {change}"


def _quoted(dialect: Dialect, name: str) -> str:
    return f"`{name}`" if dialect.locks_rows else f'"{name}"'

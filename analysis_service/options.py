"""What a benchmark can be grouped by: its fields' values, each with the number of distinct questions that have it.

Counted over the runs that are valid and finished now, from question sets, so they agree with every group-by.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyroaring import BitMap

from analysis_service.cells import value_sorter
from analysis_service.database import Row
from analysis_service.queries.group_by import GroupByPlan, RunKey, combinations_query
from analysis_service.reader import Reader
from analysis_service.resolve import apply_filters, check_levels, level_filters, run_value
from analysis_service.runs import fetch_runs, finished_runs, with_questions
from shared.analysis import (
    FieldOptions,
    MetadataAnswer,
    MetadataField,
    OptionsAnswer,
    OptionsRequest,
    Value,
    ValueCount,
)
from shared.problems import Fault, NotFound, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, FieldSpec, FieldType, Registry


async def fetch_options(reader: Reader, benchmark: str, request: OptionsRequest) -> OptionsAnswer:
    """The values of every field that could be the next level below those given; the nearest refinement first."""
    spec = benchmark_in_path(reader.registry, benchmark)
    faults: list[Fault] = []
    levels = check_levels(spec, [request.level1, request.level2], faults)
    values = (request.level1_values, request.level2_values)
    filters = list(level_filters((request.level1, request.level2), values, faults))
    remaining = [field for field in spec.fields if field.name not in levels]
    remaining.sort(key=lambda field: field.parent not in levels)
    options, data_version = await _count(reader, spec, remaining, filters, faults, levels)
    return OptionsAnswer(benchmark=spec.name, options=options, data_version=data_version)


async def describe_fields(reader: Reader, benchmark: str, language: str) -> MetadataAnswer:
    """Title, description and fields of a benchmark, with the values that stored questions have."""
    spec = benchmark_in_path(reader.registry, benchmark)
    options, data_version = await _count(reader, spec, spec.fields, [], [], [])
    return MetadataAnswer(
        benchmark=spec.name,
        title=spec.title.read(language),
        description=spec.description.read(language),
        fields=[
            MetadataField(
                name=field.name,
                type=field.type,
                description=field.description.read(language),
                parent=field.parent,
                values=counted.values,
                n_null=counted.n_null,
            )
            for field, counted in zip(spec.fields, options, strict=True)
        ],
        data_version=data_version,
    )


def benchmark_in_path(registry: Registry, name: str) -> BenchmarkSpec:
    """The benchmark that a path names; NotFound if there is none."""
    if name not in registry.benchmarks:
        fault = unknown_value("benchmark", name, registry.benchmarks, what="benchmark")
        raise NotFound(fault.detail, faults=[fault])
    return registry.benchmarks[name]


async def _count(
    reader: Reader,
    spec: BenchmarkSpec,
    fields: Sequence[FieldSpec],
    filters: Iterable[tuple[str, str, Sequence[Value]]],
    faults: list[Fault],
    levels: Sequence[str],
) -> tuple[list[FieldOptions], str]:
    async with reader.snapshot() as (session, data_version):
        runs = with_questions(await fetch_runs(session, reader.dialect, reader.registry, [spec.name]))
        chosen, field_filters = apply_filters(spec, reader.registry, filters, finished_runs(runs), runs, faults)
        if faults:
            raise invalid(*faults)
        # As a group-by by these levels does: what has no value for one of them is left out.
        run_levels = [name for name in levels if name not in spec.by_name]
        chosen = [run for run in chosen if all(run_value(run, name) is not None for name in run_levels)]
        plan = GroupByPlan(
            benchmark=spec.name,
            fields=tuple(field.name for field in fields),
            run_key=RunKey.NONE,
            run_nos=None if len(chosen) == len(runs) else tuple(run.run_no for run in chosen),
            filters=field_filters,
            drop_null=tuple(name for name in levels if name in spec.by_name),
            max_rows=reader.max_groups,
        )
        rows = await session.fetch(combinations_query(reader.dialect, plan)) if chosen else []
        reader.check_size(rows)
        sets = await reader.question_sets.fetch(session, reader.dialect, spec.name, {row[-1] for row in rows})
    return [_count_values(field, position, rows, sets) for position, field in enumerate(fields)], data_version


def _count_values(field: FieldSpec, position: int, rows: Sequence[Row], sets: Mapping[int, BitMap]) -> FieldOptions:
    numbers: dict[Any, set[int]] = {}
    for row in rows:
        numbers.setdefault(row[position], set()).add(row[-1])
    counts = {value: len(BitMap.union(*(sets[number] for number in found))) for value, found in numbers.items()}
    n_null = counts.pop(None, 0)
    is_boolean = field.type is FieldType.BOOLEAN
    values = [
        ValueCount(value=bool(value) if is_boolean else value, questions=counts[value])
        for value in sorted(counts, key=value_sorter(field))
    ]
    return FieldOptions(field=field.name, values=values, n_null=n_null)

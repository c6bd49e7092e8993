"""What a benchmark can be grouped by: its fields' values, each with the number of distinct questions that have it.

Counted over the runs that are valid and finished now, from their layouts and question sets, so they agree with every
group-by; no sums are read.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.benchmark_part import off_loop
from analysis_service.group_by.cells import SetSizes, count_questions, kept_cells
from analysis_service.group_by.combinations import FieldValues
from analysis_service.group_by.layouts import join_layouts
from analysis_service.group_by.plan import check_layouts
from analysis_service.group_by.resolve import apply_filters, check_levels, level_filters, run_value
from analysis_service.reader import Reader
from analysis_service.runs import layout_of, with_questions
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
from shared.registry.specs import BenchmarkSpec, FieldSpec, Registry


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
    async with reader.snapshot() as snapshot:
        reads, dialect = snapshot.session, reader.dialect
        own = snapshot.runs_of(spec.name)
        finished = with_questions(own.finished)
        chosen, field_filters = apply_filters(spec, reader.registry, filters, finished, own.runs, faults)
        if faults:
            raise invalid(*faults)
        # As a group-by by these levels does: what has no value for one of them is left out.
        run_levels = [name for name in levels if name not in spec.by_name]
        chosen = [run for run in chosen if all(run_value(run, name) is not None for name in run_levels)]
        check_layouts(chosen)
        layouts = await reader.layouts.fetch(reads, dialect, spec.name, {layout_of(run) for run in chosen})
        data_version = snapshot.data_version([spec.name])
        if not layouts:
            return [FieldOptions(field=field.name, values=[], n_null=0) for field in fields], data_version
        cells = join_layouts(layouts)
        combinations = await reader.combinations.fetch(
            reads, dialect, spec, epoch=snapshot.catalog.epoch, needed=int(cells.combination.max())
        )
        drop_null = [name for name in levels if name in spec.by_name]
        kept = kept_cells(cells, combinations, field_filters, drop_null)
        combination, set_no = cells.combination[kept], cells.set_no[kept]
        sets = await reader.question_sets.fetch(reads, dialect, spec.name, set_no.tolist())

    def count() -> list[FieldOptions]:
        return [
            _count_values(field.name, combinations.fields[field.name], combination, set_no, SetSizes(sets))
            for field in fields
        ]

    return await off_loop(count, cells=len(fields) * len(set_no)), data_version


def _count_values(
    name: str, field: FieldValues, combination: NDArray[np.int64], set_no: NDArray[np.int64], sizes: SetSizes
) -> FieldOptions:
    codes, counts = count_questions(field.codes[combination], set_no, sizes)
    questions = dict(zip(codes.tolist(), counts, strict=True))
    n_null = questions.pop(field.null, 0)
    # Codes are in the order of answers.
    values = [ValueCount(value=field.values[code], questions=count) for code, count in questions.items()]
    return FieldOptions(field=name, values=values, n_null=n_null)

"""Turns an analysis request into a plan over the registry and the stored runs, or says what is wrong with it. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis_service.catalog import BenchmarkRuns
from analysis_service.chosen_runs import find_runs, places_of
from analysis_service.group_by.resolve_statistics import (
    ORDERABLE,
    ORDERABLE_DELTAS,
    StatisticsAsked,
    resolve_statistics,
)
from analysis_service.runs import Run, latest_runs, with_questions
from shared.analysis import AnalysisRequest, ErrorPolicy, RunChoice, Value
from shared.names import FACTS, LEVELS_BESIDE_FIELDS
from shared.problems import FAULTS_MAX, Fault, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, FieldSpec, Registry
from shared.submission import shortened
from shared.timestamps import canonical_result_name

MEASURES = ("n", "n_questions", "mean", "mean_by_question")

FILTER_VALUES_MAX = 10_000
"""Values that a query compares with; the engines' own limits on parameters begin at 32,766."""


@dataclass(frozen=True, slots=True)
class ResolvedAnalysis:
    """A request that can be answered."""

    spec: BenchmarkSpec
    group_by: tuple[str, ...]
    filters: tuple[tuple[str, tuple[str | int | float, ...]], ...]
    """Metadata fields and the values to keep of each, as they are stored."""
    runs: tuple[Run, ...]
    """The runs that the answer is made of."""
    include_null: bool
    shared_questions: bool
    order_by: str | None
    descending: bool
    statistics: StatisticsAsked | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The metadata fields among `group_by`."""
        return tuple(name for name in self.group_by if name in self.spec.by_name)

    @property
    def has_slots(self) -> bool:
        """Whether rows are divided by more metadata fields for their statistics."""
        asked = self.statistics
        return asked is not None and (asked.macro_over is not None or asked.cluster_by is not None)

    @property
    def run_levels(self) -> tuple[str, ...]:
        """What of the run itself is among `group_by`."""
        return tuple(name for name in self.group_by if name not in self.spec.by_name)


def find_benchmarks(registry: Registry, request: AnalysisRequest) -> list[BenchmarkSpec]:
    """The benchmarks that a request names, in its order; InvalidRequest if one is unknown or they do not fit."""
    if (request.benchmark is None) == (request.benchmarks is None):
        detail = "is required, or benchmarks, a list; not both"
        raise invalid(Fault(place="benchmark", detail=detail, allowed=tuple(registry.benchmarks)))
    if request.benchmark is not None:
        places = {"benchmark": request.benchmark}
    else:
        places = {f"benchmarks[{index}]": name for index, name in enumerate(request.benchmarks or ())}
    faults = [
        unknown_value(place, name, registry.benchmarks, what="benchmark")
        for place, name in places.items()
        if name not in registry.benchmarks
    ]
    if faults:
        raise invalid(*faults)
    specs = [registry.benchmarks[name] for name in dict.fromkeys(places.values())]
    _check_types(specs, (request.level1, request.level2, request.level3))
    return specs


def _check_types(specs: Sequence[BenchmarkSpec], levels: Sequence[str | None]) -> None:
    for number, name in enumerate(levels, start=1):
        if name is None:
            continue
        types = {spec.by_name[name].type for spec in specs if name in spec.by_name}
        if len(types) > 1:
            detail = (
                f"{name!r} is {' here and '.join(sorted(types))} there, so the benchmarks cannot be grouped together"
            )
            raise invalid(Fault(place=f"level{number}", detail=detail))


def resolve_analysis(
    request: AnalysisRequest, spec: BenchmarkSpec, registry: Registry, stored: Sequence[BenchmarkRuns]
) -> ResolvedAnalysis:
    """What `request` asks of `spec`; InvalidRequest names every fault.

    `stored` are the runs of all the benchmarks that the request names, so that a run of another one of them is known.
    """
    faults: list[Fault] = []
    levels = check_levels(spec, [request.level1, request.level2, request.level3], faults)
    level_values = (request.level1_values, request.level2_values, request.level3_values)
    filters = list(level_filters((request.level1, request.level2, request.level3), level_values, faults))
    filters += [(f"filters.{shortened(name)}", name, values) for name, values in request.filters.items()]
    by_model = request.by_model
    if by_model is None:
        by_model = not {"model", "run"} & set(levels)
    group_by = (("model",) if by_model and "model" not in levels else ()) + levels
    chosen = [run for run in _choose_runs(request, stored, faults) if run.benchmark == spec.name]
    if request.models is not None:
        filters.append(("models", "model", list(request.models)))
    known = [run for runs in stored for run in runs.runs]
    chosen, field_filters = apply_filters(spec, registry, filters, chosen, known, faults)
    statistics = resolve_statistics(request, spec, registry, group_by, faults)
    order_by, descending = _order(request, group_by, faults)
    if faults:
        raise invalid(*faults)
    return ResolvedAnalysis(
        spec=spec,
        group_by=group_by,
        filters=field_filters,
        runs=tuple(chosen),
        include_null=request.include_null,
        shared_questions=request.shared_questions,
        order_by=order_by,
        descending=descending,
        statistics=statistics,
    )


def agree_on_macro_field(asked: Sequence[ResolvedAnalysis]) -> list[ResolvedAnalysis]:
    """The same, without macro means where benchmarks have them over different fields: they would not compare."""
    if len({resolved.statistics and resolved.statistics.macro_over for resolved in asked}) < 2:
        return list(asked)
    return [
        replace(resolved, statistics=resolved.statistics and replace(resolved.statistics, macro_over=None))
        for resolved in asked
    ]


def check_levels(spec: BenchmarkSpec, names: Sequence[str | None], faults: list[Fault]) -> tuple[str, ...]:
    """The levels given, in order; a gap, an unknown or a repeated one is a fault."""
    allowed = [*spec.by_name, *LEVELS_BESIDE_FIELDS]
    levels: list[str] = []
    for number, name in enumerate(names, start=1):
        if name is None:
            continue
        if len(levels) < number - 1 and names[number - 2] is None:
            faults.append(Fault(place=f"level{number}", detail=f"needs a level{number - 1} above it"))
        if name not in allowed:
            faults.append(unknown_value(f"level{number}", name, allowed, what=f"field of {spec.name}"))
        elif name in levels:
            faults.append(Fault(place=f"level{number}", detail=f"{name!r} is level{levels.index(name) + 1} already"))
        levels.append(name)
    return tuple(levels)


def level_filters(
    names: Sequence[str | None], values: Sequence[Sequence[Value] | None], faults: list[Fault]
) -> Iterator[tuple[str, str, Sequence[Value]]]:
    """(Place, level, the values to keep) of the levels that keep some; values without their level are a fault."""
    for number, (name, kept) in enumerate(zip(names, values, strict=True), start=1):
        if kept is None:
            continue
        if name is None:
            faults.append(Fault(place=f"level{number}_values", detail=f"needs level{number}"))
        else:
            yield f"level{number}_values", name, kept


def apply_filters(
    spec: BenchmarkSpec,
    registry: Registry,
    filters: Iterable[tuple[str, str, Sequence[Value]]],
    chosen: Sequence[Run],
    stored: Sequence[Run],
    faults: list[Fault],
) -> tuple[list[Run], tuple[tuple[str, tuple[str | int | float, ...]], ...]]:
    """The runs that pass the filters on runs and models, and what is left for the query: filters on metadata."""
    kept = list(chosen)
    for_query: list[tuple[str, tuple[str | int | float, ...]]] = []
    for place, name, values in filters:
        if name in spec.by_name:
            for_query.append((name, _field_values(place, spec.by_name[name], values, faults)))
        elif name in LEVELS_BESIDE_FIELDS:
            wanted = _run_filter(place, name, values, registry, stored, faults)
            kept = [run for run in kept if run_value(run, name) in wanted]
        elif place.startswith("filters."):  # an unknown level was told already
            faults.append(
                unknown_value(place, name, [*spec.by_name, *LEVELS_BESIDE_FIELDS], what=f"field of {spec.name}")
            )
    total = sum(len(values) for _, values in for_query)
    if total > FILTER_VALUES_MAX:
        detail = f"levels and filters may keep at most {FILTER_VALUES_MAX:,} values together, these are {total:,}"
        faults.append(Fault(place="filters", detail=detail))
    return kept, tuple(for_query)


def run_value(run: Run, name: str) -> str | None:
    """A run's value of one of `LEVELS_BESIDE_FIELDS`."""
    match name:
        case "model":
            return run.model
        case "run":
            return run.result_name
        case "vendor":
            return run.vendor
        case "family":
            return run.family
        case _:
            raise KeyError(name)


def _field_values(
    place: str, field: FieldSpec, values: Sequence[Value], faults: list[Fault]
) -> tuple[str | int | float, ...]:
    converted: list[str | int | float] = []
    for index, value in enumerate(values):
        if field.type.fits(value):
            converted.append(field.type.stored(value))
        else:
            shown = repr(shortened(value) if isinstance(value, str) else value)
            detail = f"{shown} cannot be a value of {field.name!r}, which takes {field.type.expected}"
            allowed = tuple(map(str, field.values)) or None
            faults.append(Fault(place=f"{place}[{index}]", detail=detail, allowed=allowed))
            if len(faults) >= FAULTS_MAX:
                break
    _check_not_empty(place, values, faults)
    return tuple(dict.fromkeys(converted))


def _run_filter(
    place: str, name: str, values: Sequence[Value], registry: Registry, stored: Sequence[Run], faults: list[Fault]
) -> set[str]:
    known = {told for run in stored if (told := run_value(run, name)) is not None}
    if name == "model":
        known |= set(registry.models)
    elif name in FACTS:
        known |= {model.fact(name) for model in registry.models.values()}
    wanted: set[str] = set()
    for index, value in enumerate(values):
        if not isinstance(value, str):
            faults.append(Fault(place=f"{place}[{index}]", detail=f"{value!r} cannot be a {name}, which is a string"))
            continue
        canonical = _CANONICAL.get(name, _as_it_is)(registry, value)
        if canonical not in known:
            faults.append(unknown_value(f"{place}[{index}]", value, known, what=name))
        wanted.add(canonical)
        if len(faults) >= FAULTS_MAX:
            break
    _check_not_empty(place, values, faults)
    return wanted


def _as_it_is(_registry: Registry, value: str) -> str:
    return value


_CANONICAL: Mapping[str, Callable[[Registry, str], str]] = {
    "model": Registry.canonical_model,
    "run": lambda _registry, name: canonical_result_name(name),
}


def _check_not_empty(place: str, values: Sequence[Value], faults: list[Fault]) -> None:
    if not values:
        faults.append(Fault(place=place, detail="must name at least one value; leave it out to keep all"))


def _choose_runs(request: AnalysisRequest, stored: Sequence[BenchmarkRuns], faults: list[Fault]) -> list[Run]:
    choice: RunChoice = request.runs
    if choice == "latest":
        return [run for own in stored for run in (latest_runs(own.runs) if request.live else own.latest)]
    if choice == "all":
        return [run for own in stored for run in (own.measured if request.live else with_questions(own.finished))]
    by_benchmark = {own.benchmark: own for own in stored}
    found = find_runs(places_of("runs", choice), by_benchmark, list(by_benchmark), faults)
    return list({run.run_no: run for run in found.values()}.values())


def _order(request: AnalysisRequest, group_by: Sequence[str], faults: list[Fault]) -> tuple[str | None, bool]:
    if request.order_by is None:
        return None, False
    column = request.order_by.removeprefix("-")
    allowed = [*group_by, *MEASURES] if request.benchmarks is None else ["benchmark", *group_by, *MEASURES]
    if request.error_policy is ErrorPolicy.BOUNDS:
        allowed += ["mean_low", "mean_high"]
    if request.statistics:
        allowed += ORDERABLE
    if request.baseline_model is not None:
        allowed += ORDERABLE_DELTAS
    if column not in allowed:
        faults.append(unknown_value("order_by", column, allowed, what="column"))
    return column, request.order_by.startswith("-")

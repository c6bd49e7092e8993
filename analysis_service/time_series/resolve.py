"""Turns a request for a time series into the runs that it is made of, or says what is wrong with it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis_service.catalog import BenchmarkRuns
from analysis_service.chosen_runs import find_models, places_of
from analysis_service.group_by.resolve import apply_filters, level_filters
from analysis_service.runs import Run, with_questions
from shared.problems import Fault, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, Registry
from shared.submission import shortened
from shared.time_series import TimeSeriesRequest

_SHOWN = 5
"""Models that a warning names."""


@dataclass(frozen=True, slots=True)
class ResolvedSeries:
    """A request that can be answered."""

    spec: BenchmarkSpec
    level: str | None
    """The metadata field with a line for each value."""
    filters: tuple[tuple[str, tuple[str | int | float, ...]], ...]
    """Metadata fields and the values to keep of each, as they are stored."""
    runs: tuple[Run, ...]
    """Oldest first."""
    at: tuple[str, ...]
    """The time of each."""
    truncated: bool
    """Whether there are older ones."""
    warnings: tuple[str, ...]


def find_benchmark(registry: Registry, request: TimeSeriesRequest) -> BenchmarkSpec:
    """The benchmark that a request names; InvalidRequest if it is unknown."""
    if request.benchmark not in registry.benchmarks:
        raise invalid(unknown_value("benchmark", request.benchmark, registry.benchmarks, what="benchmark"))
    return registry.benchmarks[request.benchmark]


def resolve_time_series(
    request: TimeSeriesRequest, spec: BenchmarkSpec, registry: Registry, stored: Mapping[str, BenchmarkRuns]
) -> ResolvedSeries:
    """What `request` asks of the runs of `spec`, among all that are `stored`; InvalidRequest names every fault."""
    own = stored[spec.name]
    faults: list[Fault] = []
    warnings: list[str] = []
    if request.level1 is not None and request.level1 not in spec.by_name:
        faults.append(unknown_value("level1", request.level1, spec.by_name, what=f"field of {spec.name}"))
    filters = list(level_filters([request.level1], [request.level1_values], faults))
    filters += [(f"filters.{shortened(name)}", name, values) for name, values in request.filters.items()]
    finished = own.latest if request.by == "release_date" else with_questions(own.finished)
    chosen, place = _choose(request, spec, registry, stored, finished, faults, warnings)
    kept, field_filters = apply_filters(spec, registry, filters, chosen, own.runs, faults)
    if faults:
        raise invalid(*faults)
    if chosen and not kept:
        raise invalid(Fault(place="filters", detail=f"no run that {place} chooses passes them"))
    runs, at = (_by_release if request.by == "release_date" else _by_run_time)(kept, registry, warnings)
    partial = [run.result_name for run in runs[-request.limit :] if run.info.partial]
    if partial:
        warnings.append(f"under 95 % of the benchmark's questions: {some(partial)}")
    return ResolvedSeries(
        spec=spec,
        level=request.level1,
        filters=field_filters,
        runs=tuple(runs[-request.limit :]),
        at=tuple(at[-request.limit :]),
        truncated=len(runs) > request.limit,
        warnings=tuple(warnings),
    )


def _choose(
    request: TimeSeriesRequest,
    spec: BenchmarkSpec,
    registry: Registry,
    stored: Mapping[str, BenchmarkRuns],
    runs: Sequence[Run],
    faults: list[Fault],
    warnings: list[str],
) -> tuple[list[Run], str]:
    """The runs of the family or the models asked for, and the place where the request names these."""
    if request.family is not None:
        families = {model.family for model in registry.models.values()}
        chosen = [run for run in runs if run.family == request.family]
        if request.family not in families:
            faults.append(unknown_value("family", request.family, families, what="family of registered models"))
        elif not chosen:
            detail = f"no finished run of {spec.name} with questions is of a model of {request.family!r}"
            faults.append(Fault(place="family", detail=detail, allowed=_families(runs)))
        return chosen, "family"
    found = find_models(places_of("models", request.models or ()), registry, stored, [spec.name], faults)
    wanted = {own.model for own in found.values()}
    chosen = [run for run in runs if run.model in wanted]
    missing = sorted(wanted - {run.model for run in chosen})
    if missing and not faults:
        told = f"no finished run of {spec.name} with questions is of {some(missing)}"
        if chosen:
            warnings.append(told)
        else:
            faults.append(Fault(place="models", detail=told))
    return chosen, "models"


def _families(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(sorted({run.family for run in runs if run.family is not None}))


def _by_run_time(runs: Sequence[Run], _registry: Registry, warnings: list[str]) -> tuple[list[Run], list[str]]:
    models = sorted({run.model for run in runs})
    if len(models) > 1:
        warnings.append(f"runs of {len(models)} models share a line ({some(models)}): a step may be between models")
    # The catalog has them oldest first.
    return list(runs), [run.timestamp for run in runs]


def _by_release(runs: Sequence[Run], registry: Registry, warnings: list[str]) -> tuple[list[Run], list[str]]:
    released: Mapping[str, str] = {
        model.id: model.release_date.isoformat() for model in registry.models.values() if model.release_date is not None
    }
    undated = sorted({run.model for run in runs if run.model not in released})
    dated = sorted((released[run.model], run.model, run) for run in runs if run.model in released)
    if not dated:
        detail = f"no release date is registered of {some(undated)}"
        raise invalid(Fault(place="by", detail=detail, allowed=("run_time",)))
    if undated:
        warnings.append(f"left out, as no release date is registered: {some(undated)}")
    return [run for _, _, run in dated], [date for date, _, _ in dated]


def some(names: Sequence[str]) -> str:
    """The first names, for a warning."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

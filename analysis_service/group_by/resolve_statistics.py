"""What of statistics a request asks for, over the registry and the chosen runs, or what is wrong with it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis_service.runs import Run
from shared.analysis import AnalysisRequest
from shared.problems import Fault, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, Registry

ORDERABLE = (
    "se", "ci_low", "ci_high", "macro_mean", "macro_se", "macro_ci_low", "macro_ci_high",
    "n_asked", "n_answered", "n_scored", "n_refused", "n_truncated", "n_error", "n_unscored",
)  # fmt: skip
"""Columns of statistics that rows may be ordered by."""
ORDERABLE_DELTAS = ("delta", "delta_se", "delta_ci_low", "delta_ci_high", "p", "p_adjusted")


@dataclass(frozen=True, slots=True)
class StatisticsAsked:
    """Statistics that can be told of one benchmark's rows."""

    confidence: float
    cluster_by: str | None
    macro_over: str | None
    """The field that macro means are over; None where there is none."""
    baseline: str | None
    """The canonical model that deltas are to."""


def resolve_statistics(
    request: AnalysisRequest, spec: BenchmarkSpec, registry: Registry, group_by: Sequence[str], faults: list[Fault]
) -> StatisticsAsked | None:
    """What `request` asks of `spec`, whose rows are by `group_by`; None where it asks for no statistics."""
    if not request.statistics:
        return None
    for place, name in (("cluster_by", request.cluster_by), ("macro_over", request.macro_over)):
        if name is None:
            continue
        allowed = [field for field in spec.by_name if field not in group_by]
        if name in spec.by_name and name in group_by:
            detail = f"{name!r} is a level already, so each row would have one value of it"
            faults.append(Fault(place=place, detail=detail, allowed=tuple(allowed)))
        elif name not in allowed:
            faults.append(unknown_value(place, name, allowed, what=f"field of {spec.name}"))
    if request.baseline_model is not None and "model" not in group_by:
        faults.append(Fault(place="baseline_model", detail="needs rows by model: by_model: true, or model as a level"))
    return StatisticsAsked(
        confidence=request.confidence,
        cluster_by=request.cluster_by,
        macro_over=request.macro_over or field_below(spec, group_by),
        baseline=None if request.baseline_model is None else registry.canonical_model(request.baseline_model),
    )


def field_below(spec: BenchmarkSpec, group_by: Sequence[str]) -> str | None:
    """The metadata field one level below `group_by`; None where the registry knows none.

    It refines the last metadata level. Without one it is the first field that others refine, else the first of all.
    """
    levels = [name for name in group_by if name in spec.by_name]
    if levels:
        below = [field.name for field in spec.fields if field.parent == levels[-1] and field.name not in group_by]
        return below[0] if below else None
    parents = {field.parent for field in spec.fields}
    names = [field.name for field in spec.fields]
    return next((name for name in names if name in parents), names[0] if names else None)


def check_baseline(request: AnalysisRequest, registry: Registry, runs: Iterable[Run]) -> None:
    """InvalidRequest unless the baseline, if there is one, has one of the chosen `runs` of all benchmarks."""
    if request.baseline_model is None:
        return
    models = {run.model for run in runs}
    if registry.canonical_model(request.baseline_model) not in models:
        raise invalid(
            unknown_value("baseline_model", request.baseline_model, models, what="model among the chosen runs")
        )

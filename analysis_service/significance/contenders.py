"""Which runs are held against each other: of each benchmark one of the candidate's and one of the baseline's. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis_service.catalog import BenchmarkRuns
from analysis_service.chosen_runs import find_models, find_runs, lacks_run
from analysis_service.comparison.resolve import find_filters
from analysis_service.group_by.cells import Filters
from analysis_service.runs import Run
from shared.problems import FAULTS_MAX, Fault, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, Registry
from shared.significance import Contender, SignificanceRequest


@dataclass(frozen=True, slots=True)
class Match:
    """Two runs of one benchmark."""

    spec: BenchmarkSpec
    candidate: Run
    baseline: Run
    filters: Filters
    """Metadata fields, and the values to keep of each, as they are stored."""


def find_matches(registry: Registry, request: SignificanceRequest, stored: Mapping[str, BenchmarkRuns]) -> list[Match]:
    """One match a benchmark, in the order asked for; InvalidRequest names what is unknown or does not fit.

    `stored` are the runs of every registered benchmark.
    """
    faults = [
        unknown_value(f"benchmarks[{index}]", name, registry.benchmarks, what="benchmark")
        for index, name in enumerate(request.benchmarks)
        if name not in registry.benchmarks
    ]
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    names = list(dict.fromkeys(request.benchmarks))
    candidates = _find_runs("candidate", request.candidate, names, registry, stored, faults)
    baselines = _find_runs("baseline", request.baseline, names, registry, stored, faults)
    specs = [registry.benchmarks[name] for name in names]
    field_filters = [_find_filters(spec, registry, request, faults) for spec in specs]
    for name, run in baselines.items():
        if run.live:
            detail = f"{run.result_name!r} is still going on; a baseline has to be finished"
            faults.append(Fault(place="baseline.run", detail=detail))
        if candidates.get(name) is run:
            detail = f"{run.result_name!r} is what the baseline is, too; name two runs, or two models"
            faults.append(Fault(place="candidate", detail=detail))
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    return [
        Match(spec, candidates[spec.name], baselines[spec.name], filters)
        for spec, filters in zip(specs, field_filters, strict=True)
    ]


def _find_filters(
    spec: BenchmarkSpec, registry: Registry, request: SignificanceRequest, faults: list[Fault]
) -> Filters:
    """The filters on metadata; adds to `faults` what is wrong with these and with `cluster_by`."""
    if request.cluster_by is not None and request.cluster_by not in spec.by_name:
        faults.append(unknown_value("cluster_by", request.cluster_by, spec.by_name, what=f"field of {spec.name}"))
    return find_filters(registry, request.filters, spec, faults)


def _find_runs(
    place: str,
    contender: Contender,
    names: Sequence[str],
    registry: Registry,
    stored: Mapping[str, BenchmarkRuns],
    faults: list[Fault],
) -> dict[str, Run]:
    """The contender's run of each of the benchmarks; adds to `faults` what is wrong with it."""
    if contender.run is not None:
        place = f"{place}.run"
        found = find_runs({place: contender.run}, stored, names, faults)
        run = found.get(place)
        if run is None:
            return {}
        if len(names) > 1:
            detail = f"{contender.run!r} is a result of {run.benchmark} alone; ask for this benchmark, or name a model"
            faults.append(Fault(place=place, detail=detail))
        return {run.benchmark: run}
    assert contender.model is not None  # noqa: S101 - the model's validator has seen to it
    place = f"{place}.model"
    chosen = find_models({place: contender.model}, registry, stored, names, faults).get(place)
    if chosen is None:
        return {}
    faults += [lacks_run(place, chosen.model, [stored[name]]) for name in names if name not in chosen.runs]
    return dict(chosen.runs)

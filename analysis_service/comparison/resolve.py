"""Who is compared on what, by the registry and the stored runs; or what is wrong with the request. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis_service.catalog import BenchmarkRuns
from analysis_service.chosen_runs import find_models, find_runs, lacks_run, places_of
from analysis_service.group_by.cells import Filters
from analysis_service.group_by.resolve import apply_filters
from analysis_service.runs import Run
from shared.analysis import Value
from shared.comparisons import ComparisonRequest
from shared.problems import FAULTS_MAX, Fault, invalid, unknown_value
from shared.registry.specs import BenchmarkSpec, Registry
from shared.submission import shortened

ENTRIES_MAX = 50
"""Models or runs of one comparison: these make 1,225 pairs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One of those compared."""

    name: str
    """The model's canonical id, or the result's name."""
    model: str
    runs: Mapping[str, Run]
    """Benchmark → its run of it, where it has one."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked of one benchmark."""

    spec: BenchmarkSpec
    filters: Filters
    weight: float | None
    """None where each question counts the same."""


def find_parts(registry: Registry, request: ComparisonRequest) -> list[Part]:
    """The benchmarks that a request names, with what it asks of them; InvalidRequest names every fault."""
    places = {"benchmark": request.benchmark} if request.benchmark is not None else {}
    places |= {f"benchmarks[{index}]": name for index, name in enumerate(request.benchmarks or ())}
    faults = [
        unknown_value(place, name, registry.benchmarks, what="benchmark")
        for place, name in places.items()
        if name not in registry.benchmarks
    ]
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    specs = [registry.benchmarks[name] for name in dict.fromkeys(places.values())]
    faults += _weight_faults(request.weights, specs)
    for spec in specs:
        if request.cluster_by is not None and request.cluster_by not in spec.by_name:
            faults.append(unknown_value("cluster_by", request.cluster_by, spec.by_name, what=f"field of {spec.name}"))
    parts = []
    for spec in specs:
        weight = request.weights.get(spec.name) if request.weights is not None and len(specs) > 1 else None
        parts.append(Part(spec, find_filters(registry, request.filters, spec, faults), weight))
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    return parts


def _weight_faults(weights: Mapping[str, float] | None, specs: Sequence[BenchmarkSpec]) -> Iterator[Fault]:
    names = [spec.name for spec in specs]
    if weights is not None:
        for name in weights:
            if name not in names:
                yield unknown_value(f"weights.{shortened(name)}", name, names, what="benchmark of this comparison")
        for name in names:
            if name not in weights:
                yield Fault(place=f"weights.{name}", detail="is required: every benchmark has a weight, or none has")
    elif len(scales := {(spec.score_min, spec.score_max) for spec in specs}) > 1:
        told = " and ".join(f"{low:g} to {high:g}" for low, high in sorted(scales))
        detail = f"scores go from {told}, so questions cannot count the same; give weights, or take one benchmark"
        yield Fault(place="benchmarks", detail=detail)


def find_filters(
    registry: Registry, wanted: Mapping[str, Sequence[Value]], spec: BenchmarkSpec, faults: list[Fault]
) -> Filters:
    """What `filters` of a request keep of a benchmark's metadata; adds to `faults` what is wrong with them."""
    filters = []
    for name, values in wanted.items():
        place = f"filters.{shortened(name)}"
        if name in spec.by_name:
            filters.append((place, name, values))
        else:
            faults.append(unknown_value(place, name, spec.by_name, what=f"field of {spec.name}"))
    return apply_filters(spec, registry, filters, (), (), faults)[1]


def find_entries(
    registry: Registry, request: ComparisonRequest, stored: Mapping[str, BenchmarkRuns], asked: Sequence[str]
) -> list[Entry]:
    """Who is compared, two at least, in the request's order, on the benchmarks `asked` among all that are `stored`.

    InvalidRequest names every fault: who is unknown, has no questions, stands twice, or alone.
    """
    place, names = ("runs", request.runs or ()) if request.models is None else ("models", request.models)
    if len(names) > ENTRIES_MAX:
        detail = f"at most {ENTRIES_MAX} are compared at once, these are {len(names)}"
        raise invalid(Fault(place=place, detail=detail))
    faults: list[Fault] = []
    named = places_of(place, names)
    if request.models is None:
        runs = find_runs(named, stored, asked, faults)
        entries = {own: Entry(run.result_name, run.model, {run.benchmark: run}) for own, run in runs.items()}
    else:
        models = find_models(named, registry, stored, asked, faults, live=request.live)
        entries = {own: Entry(chosen.model, chosen.model, chosen.runs) for own, chosen in models.items()}
    faults += _entry_faults(named, entries, [stored[benchmark] for benchmark in asked])
    if len(names) < 2:
        faults.append(Fault(place=place, detail="name at least two to compare"))
    if faults:
        raise invalid(*faults[:FAULTS_MAX])
    return list(entries.values())


def _entry_faults(
    named: Mapping[str, str], entries: Mapping[str, Entry], asked: Sequence[BenchmarkRuns]
) -> Iterator[Fault]:
    seen: set[str] = set()
    for place, entry in entries.items():
        if entry.name in seen:
            what = "" if entry.name == named[place] else f"is {entry.name!r}, which "
            yield Fault(place=place, detail=f"{shortened(named[place])!r} {what}is named already")
        elif not entry.runs:
            yield lacks_run(place, entry.model, asked)
        seen.add(entry.name)

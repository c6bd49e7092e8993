"""Models and runs that a request names, found among what is stored; or what is wrong with the names. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis_service.catalog import BenchmarkRuns
from analysis_service.runs import Run, latest_runs
from shared.problems import ALLOWED_MAX, FAULTS_MAX, Fault, unknown_value
from shared.registry.specs import Registry
from shared.submission import shortened
from shared.timestamps import canonical_result_name


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model that is registered or has a run."""

    model: str
    """Its canonical id."""
    runs: Mapping[str, Run]
    """Benchmark → its latest run with questions, of the benchmarks asked for."""


def places_of(field: str, names: Iterable[str]) -> dict[str, str]:
    """The names of a list by their places: `models[0]` and so on."""
    return {f"{field}[{index}]": name for index, name in enumerate(names)}


def find_models(
    named: Mapping[str, str],
    registry: Registry,
    stored: Mapping[str, BenchmarkRuns],
    asked: Sequence[str],
    faults: list[Fault],
    *,
    live: bool = False,
) -> dict[str, ChosenModel]:
    """The model at each place that names one; adds to `faults` who is unknown.

    `stored` has the runs of every benchmark, `asked` names those that are asked for; `live` counts runs going on, too.
    """
    runs: dict[str, dict[str, Run]] = {}
    for benchmark in asked:
        own = stored[benchmark]
        for run in latest_runs(own.runs) if live else own.latest:
            runs.setdefault(run.model, {})[benchmark] = run
    known = {*registry.models, *(run.model for own in stored.values() for run in own.runs)}
    found: dict[str, ChosenModel] = {}
    for place, name in named.items():
        model = registry.canonical_model(name)
        if model in known:
            found[place] = ChosenModel(model, runs.get(model, {}))
        else:
            faults.append(unknown_value(place, name, known, what="model"))
        if len(faults) >= FAULTS_MAX:
            break
    return found


def lacks_run(place: str, model: str, asked: Sequence[BenchmarkRuns]) -> Fault:
    """The fault of naming a model that has no finished run with questions of any of these benchmarks."""
    own = [run for benchmark in asked for run in benchmark.runs if run.model == model]
    live = next((run.result_name for run in own if run.live), None)
    detail = f"{model!r} has no finished run with questions of {_any_of([each.benchmark for each in asked])}"
    if live is not None:
        detail += f"; to look at the one going on, name it as a run: {live!r}"
    elif own:
        detail += ": what it has states a score but holds no questions"
    models = sorted({run.model for benchmark in asked for run in benchmark.latest})
    return Fault(place=place, detail=detail, allowed=tuple(models) if len(models) <= ALLOWED_MAX else None)


def find_runs(
    named: Mapping[str, str], stored: Mapping[str, BenchmarkRuns], asked: Sequence[str], faults: list[Fault]
) -> dict[str, Run]:
    """The run with questions at each place that names one; adds to `faults` what is wrong with the other names.

    `stored` and `asked` are as above.
    """
    found: dict[str, Run] = {}
    benchmarks = _any_of(asked)
    for place, name in named.items():
        canonical = canonical_result_name(name)
        run = next((own.by_name[canonical] for own in stored.values() if canonical in own.by_name), None)
        if run is None:
            known = [known for benchmark in asked for known in stored[benchmark].by_name]
            faults.append(unknown_value(place, name, known, what=f"valid run of {benchmarks}"))
        elif run.benchmark not in asked:
            detail = f"{shortened(name)!r} is a result of {run.benchmark}, not of {benchmarks}"
            faults.append(Fault(place=place, detail=detail))
        elif not run.n_questions:
            faults.append(Fault(place=place, detail=f"{shortened(name)!r} states a score but holds no questions"))
        else:
            found[place] = run
        if len(faults) >= FAULTS_MAX:
            break
    return found


def _any_of(benchmarks: Sequence[str], most: int = 5) -> str:
    return " or ".join(benchmarks[:most]) + (" …" if len(benchmarks) > most else "")

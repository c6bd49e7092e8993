"""HELM: one folder a run, with its specification, requests and statistics.

Rows are instances: what was asked and answered (`scenario_state.json`) joined with how it was scored
(`per_instance_stats.json`) by instance, perturbation and training trial. A result is made of the rows of one split
without perturbation: of `test`, or of `valid` where nothing was evaluated on `test`, as HELM does with HellaSwag. The
folder's name means nothing: it is written in several ways.

What `helm-summarize` adds to a folder (`display_predictions.json`, `instances.json`) repeats the requests more briefly:
it is read where those are missing, and left out otherwise, so that a run is the same before and after.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import msgspec

from shared.formats.harness import Finding, HarnessRun, NotReadable, ReadOptions, Stated, Task
from shared.formats.helm_files import REPEATING, SHORT_TEXT, Part, Stat, mapping_of, metrics_by_split, part_of, scalars
from shared.formats.helm_rows import Rows
from shared.formats.json_reading import BLOCK_BYTES, Unreadable, read_file
from shared.formats.tree import File, Tree

CONFIG_TEXT_MAX = 2000
SPLITS = ("test", "valid")
"""The split that is taken: the first that there is."""

HOW_ASKED = re.compile(
    "model|model_deployment|method|tokenizer|groups|device|eval_split|data_augmentation|(num|max)_.*|temperature|"
    "increase_.*|stop|add_to_stop|instructions|prompt|newline|global_.*|format_prompt|output_format_instructions|"
    "process_output|chatml|use_.*"
)
"""Arguments in a run's name that say how it was asked, not what."""

# What HELM's leaderboards, in their schema files, call the main metric of a run's groups.
MAIN_METRICS_BY_GROUP = {
    "legalbench": "quasi_exact_match",
    "med_qa": "quasi_exact_match",
    "summarization_cnndm": "rouge_2",
    "summarization_xsum": "rouge_2",
    "wmt_14": "bleu_4",
}
MAIN_METRICS = (
    "chain_of_thought_correctness",
    "ifeval_strict_accuracy",
    "omni_math_accuracy",
    "wildbench_score_rescaled",
    "math_equiv_chain_of_thought",
    "math_equiv",
    "final_number_exact_match",
    "exact_match_indicator",
    "f1_set_match",
    "pass",
    "test_avg",
    "bbq_accuracy",
    "safety_score",
    "air_score",
)
"""Metrics made for a few scenarios, of which each is the main one wherever it is found."""
METRICS_OF_TEXTS = ("f1_score", "quasi_exact_match", "exact_match")
METRICS_OF_CHOICES = ("exact_match", "quasi_exact_match")
"""The usual ones, the main one first."""

OF_THE_WHOLE = frozenset(["perplexity", "bits_per_byte", "logprob_per_byte", "num_instances"])
"""Statistics that are no means over instances."""


class Helm:
    """HELM's run folders, `benchmark_output/runs/<suite>/<run>`."""

    name = "helm"
    title = "HELM"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """Each folder with a run's specification, requests or scores."""
        folders: dict[str, dict[Part, File]] = defaultdict(dict)
        for path, file in tree.items():
            if not path.endswith(".json"):
                continue
            part = part_of(file)
            if part is not None and (part not in folders[file.folder] or file.name == part):
                folders[file.folder][part] = file
        for parts in folders.values():
            if parts.keys() & {Part.RUN_SPEC, Part.REQUESTS, Part.SCORES}:
                left_out = REPEATING if Part.REQUESTS in parts else ()
                yield Finding(self.name, [parts[part] for part in Part if part in parts and part not in left_out])

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """The run in a folder: one model on one scenario. NotReadable where its specification or all figures are gone.

        The run's time is that of its first request, as `scenario_state.json` has it; a run without that file has none.
        """
        files = {part: file for file in finding.files if (part := part_of(file)) is not None}
        spec = _read_run_spec(finding, files)
        adapter = mapping_of(spec.get("adapter_spec"))
        model = options.model_id or adapter.get("model") or adapter.get("model_deployment")
        if not isinstance(model, str) or not model:
            raise NotReadable(
                f"{finding.place} does not say which model was run (adapter_spec.model): say it as model_id"
            )
        stats = _read_stats(files.get(Part.STATS))
        by_split = metrics_by_split(stats, files)
        if not by_split:
            raise NotReadable(
                f"{finding.place} says what was run, and nothing beside it what came of it: "
                "scenario_state.json, per_instance_stats.json or stats.json is needed"
            )
        split = next((split for split in SPLITS if split in by_split), min(by_split, key=str))
        stats = [stat for stat in stats if stat.name.split == split and not stat.name.perturbation]
        metric = _choose_metric(spec, by_split[split], options.metric)
        trials = adapter.get("num_train_trials")
        instances = sum(_finite(stat.mean) for stat in stats if stat.name.name == "num_instances")
        count = round(instances) * (trials if isinstance(trials, int) and trials > 0 else 1) or None
        scenario = _read_scenario(files.get(Part.SCENARIO))
        sources = [files[part] for part in (Part.REQUESTS, Part.SCORES, *REPEATING) if part in files]
        task = Task(
            names=_task_names(spec, scenario),
            samples=Rows(files, split, metric, _is_joint(adapter)).read if sources else None,
            stated=[_stated(stat, count) for stat in stats if stat.mean is not None],
            metric=metric,
            origin=_task_origin(spec, split),
            expected=count,
            files=sources,
        )
        return [
            HarnessRun(
                model_id=model,
                tasks=[task],
                timestamp=_first_request(files.get(Part.REQUESTS)),
                config=_config(spec, adapter, split),
                warnings=list(_warnings(files, split, metric, by_split[split])),
            )
        ]


HELM = Helm()


def _read_run_spec(finding: Finding, files: Mapping[Part, File]) -> dict[str, Any]:
    if Part.RUN_SPEC not in files:
        raise NotReadable(
            f"{finding.place} has no run_spec.json beside it, which says what was run: give the whole folder of the run"
        )
    spec = read_file(files[Part.RUN_SPEC])
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise NotReadable(f"{finding.place} has no name of a run")
    return spec


def _read_scenario(file: File | None) -> str | None:
    """The scenario's own name."""
    scenario = mapping_of(read_file(file)) if file else {}
    name = scenario.get("name")
    return name if isinstance(name, str) and name else None


def _read_stats(file: File | None) -> list[Stat]:
    if file is None:
        return []
    try:
        return msgspec.convert(read_file(file), list[Stat])
    except msgspec.ValidationError as error:
        raise Unreadable(file.path, f"is no list of HELM's statistics: {error}") from None


def _what(name: str) -> tuple[str, dict[str, str]]:
    """`mmlu:subject=anatomy,model=openai_gpt2` taken apart: `mmlu`, and the arguments that say what was asked.

    Some names have no `:`, as `legal_support,method=…`.
    """
    base, _, rest = re.sub(r"^([^:,=]+),", r"\1:", name).partition(":")
    pairs = [item.partition("=") for item in rest.split(",") if "=" in item]
    return base, {key: value for key, _, value in pairs if not HOW_ASKED.fullmatch(key)}


def _task_names(spec: Mapping[str, Any], scenario: str | None) -> list[str]:
    """`mmlu_anatomy` and `mmlu`; `hellaswag` and `commonsense_hellaswag`, which is HellaSwag by HELM's name of it."""
    base, what = _what(spec["name"])
    names = ["_".join([base, *what.values()])]
    if "dataset" in what:
        names.insert(0, "_".join(what.values()))
    else:
        names.append(base)
    names += [scenario] if scenario else []
    groups = spec.get("groups")
    names += [group for group in groups if isinstance(group, str) and group] if isinstance(groups, list) else []
    return list(dict.fromkeys(names))


def _task_origin(spec: Mapping[str, Any], split: str | None) -> dict[str, Any]:
    """What all rows have in common: `scenario.args.subject`, and what else of its kind only the run's name says."""
    arguments = mapping_of(mapping_of(spec.get("scenario_spec")).get("args"))
    return {"scenario": {"args": scalars(arguments)}, "run": scalars(_what(spec["name"])[1]), "split": split}


def _config(spec: Mapping[str, Any], adapter: Mapping[str, Any], split: str | None) -> dict[str, Any]:
    asked = {key: value for key, value in scalars(adapter, CONFIG_TEXT_MAX).items() if value != ""}
    config = {"run_spec": spec["name"][:CONFIG_TEXT_MAX], "split": split, **asked}
    stops = adapter.get("stop_sequences")
    if isinstance(stops, list):
        config["stop_sequences"] = [stop for stop in stops if isinstance(stop, str) and len(stop) <= SHORT_TEXT][:20]
    return config


def _finite(value: float | None) -> float:
    return value if value is not None and isfinite(value) else 0.0


def _choose_metric(spec: Mapping[str, Any], present: Collection[str], wanted: str | None) -> str | None:
    """The metric that is the score; None if there is none that could be. NotReadable if the wanted one is not there."""
    if wanted:
        if present and wanted not in present:
            raise NotReadable(f"{spec['name']} has no metric {wanted!r}, only {', '.join(sorted(present))}")
        return wanted
    groups = spec.get("groups")
    of_groups = [MAIN_METRICS_BY_GROUP.get(str(group), "") for group in groups] if isinstance(groups, list) else []
    choice = str(mapping_of(spec.get("adapter_spec")).get("method")).startswith("multiple_choice")
    usual = METRICS_OF_CHOICES if choice else METRICS_OF_TEXTS
    return next((name for name in (*of_groups, *MAIN_METRICS, *usual, *_named_metrics(spec)) if name in present), None)


def _is_joint(adapter: Mapping[str, Any]) -> bool:
    return str(adapter.get("method")).startswith("multiple_choice_joint")


def _named_metrics(spec: Mapping[str, Any]) -> Iterator[str]:
    """The metrics that a run's specification asks for by name."""
    metrics = spec.get("metric_specs")
    for metric in metrics if isinstance(metrics, list) else []:
        names = mapping_of(mapping_of(metric).get("args")).get("names")
        yield from (name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _stated(stat: Stat, count: int | None) -> Stated:
    """HELM takes the mean over instances in each training trial, and then over the trials."""
    name, part = stat.name.name, stat.name.sub_split
    kind = "statistic of the whole" if name in OF_THE_WHOLE else f"mean of {part}" if part else "mean"
    return Stated(
        name, stat.mean or 0.0, kind, name=f"{name} ({part})" if part else None, count=None if part else count
    )


def _warnings(
    files: Mapping[Part, File], split: str | None, metric: str | None, metrics: Collection[str]
) -> Iterator[str]:
    if split != SPLITS[0]:
        yield f"nothing was evaluated on the test split: the rows of {split or 'no split'} are taken"
    if metric is None and metrics:
        yield f"none of the metrics is known to be the score, say which: {', '.join(sorted(metrics))}"
    if Part.SCORES not in files and Part.REQUESTS in files:
        yield "per_instance_stats.json is missing: the answers are there without scores"
    if Part.SCORES in files and not files.keys() & {Part.REQUESTS, Part.PREDICTIONS}:
        yield "scenario_state.json is missing: the scores are there without questions and answers"


# In JSON a quote within a text has a backslash before it, so that this is never a part of a prompt. What follows the
# number must be there: of one that a block cuts off, the beginning would be a number too.
_REQUEST_TIME = re.compile(rb'"request_datetime"\s*:\s*(\d{9,10})(?=[^\d])')
_REQUEST_TIME_MAX_BYTES = 128


def _first_request(file: File | None) -> str | None:
    """When the first request was sent; by search, as the file is read in full only once somebody wants its rows."""
    if file is None:
        return None
    first: int | None = None
    with file.open() as stream:
        held = b""
        while block := stream.read(BLOCK_BYTES):
            held += block
            for found in _REQUEST_TIME.finditer(held):
                first = int(found[1]) if first is None else min(first, int(found[1]))
            held = held[-_REQUEST_TIME_MAX_BYTES:]
    return None if first is None else datetime.fromtimestamp(first, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

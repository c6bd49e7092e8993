"""What makes two runs hard to compare. Pure."""

from collections.abc import Iterator, Sequence

from analysis_service.runs import Run
from analysis_service.stats.clusters import FEW_CLUSTERS, MIN_CLUSTERS

_SHOWN = 5
"""Names that a warning tells."""
_WORDS = {
    "harness": "other harnesses",
    "harness_version": "other versions of the harness",
    "task_version": "other versions of the task",
    "grader": "other graders",
}


def differing_provenance(a: Run, b: Run) -> Iterator[str]:
    """In what two runs of one benchmark say that they were measured in another way; what either does not say is no
    difference."""
    for field, words in _WORDS.items():
        own, other = getattr(a, field), getattr(b, field)
        if field == "harness_version" and a.harness != b.harness:
            continue  # of another harness it says nothing
        if own is not None and other is not None and own != other:
            yield f"{a.benchmark}: {words}, {own!r} and {other!r}"
    if a.config_hash is not None and b.config_hash is not None and a.config_hash != b.config_hash:
        yield f"{a.benchmark}: other settings, such as the prompt or sampling (`provenance.config`)"


def few_clusters(n_clusters: int | None) -> Iterator[str]:
    """What to say of so many clusters."""
    if n_clusters is not None and MIN_CLUSTERS <= n_clusters < FEW_CLUSTERS:
        yield f"only {n_clusters} clusters: below {FEW_CLUSTERS} intervals and tests by them are rough"


def warn_of_runs(runs: Sequence[Run]) -> Iterator[str]:
    """What to say of the runs that are compared, whoever they are compared with."""
    for words, names in (
        ("not in the model registry", {run.model for run in runs if not run.registered}),
        ("still going on", {run.result_name for run in runs if run.live}),
        (
            "under 95 % of the benchmark's questions",
            {run.result_name for run in runs if run.info.partial and not run.live},
        ),
    ):
        if names:
            yield f"{words}: {some_of(sorted(names))}"


def some_of(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

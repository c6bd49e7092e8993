"""What a harness's output is read into, whichever harness it was: runs, their tasks and samples, and what got lost.

A reader (one module a harness) finds its harness's output among files and says what is in it, in these words. It knows
nothing of benchmarks, registries or how results are stored: `shared.formats.standardize` makes results of it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec

from shared.formats.tree import File, Tree
from shared.submission import Envelope, Status, learn

EXAMPLES_MAX = 5
"""Places that are told of what was refused for one reason."""
SHOWN_MAX = 300
"""Characters of a name out of the files, in what is told of them."""
FIELDS_MAX = 1000
"""Fields without a place that are counted by name: some files have others in each row."""
SENTENCES_MAX = 500
"""Different reasons, or warnings, that are told."""
OTHER_FIELDS = "(further fields)"


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at one question."""

    id: str
    """What the harness calls the question within its task."""
    attempt: int = 0
    """0 for the first of several attempts at the same question."""
    status: Status = Status.SCORED
    score: float | None = None
    """On the benchmark's scale, which is 0 to 1 unless the harness says otherwise: never percent."""
    answer: Any = None
    """What was taken as the model's answer; the raw output where nothing was extracted from it."""
    target: Any = None
    question: str | None = None
    """The question itself: without instructions, examples or choices where the harness keeps them apart."""
    choices: Sequence[str] = ()
    content_hash: str | None = None
    """Only where the harness states one that is ours; else it is made of question and choices."""
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    origin: Mapping[str, Any] = {}
    """What metadata may be taken from: nested, by the harness's own names, such as {"doc": {"level": "Level 3"}}. The
    registry says which of it means what, by paths such as `doc.level`."""
    metrics: Mapping[str, float] = {}
    """Every number that the harness gave this sample, by the name that it states the aggregate under, the score's among
    them: stated means are compared with the means of these."""


learn(Sample)


@dataclass(frozen=True, slots=True)
class Stated:
    """An aggregate that the harness states."""

    metric: str
    """Of which of `Sample.metrics` it is the aggregate."""
    value: float
    kind: str = "mean"
    """`mean`, `stderr` (sample standard deviation / √n), or another word: told, and not recomputed."""
    name: str | None = None
    """What the harness calls it, where `metric` does not say it."""
    tasks: Sequence[str] = ()
    """The tasks (first of their names) over whose samples it goes; its own task's if none is named."""
    per_task: bool = False
    """Whether it is the unweighted mean of the tasks' means instead of the mean over all samples."""
    per_question: bool = False
    """Whether it is the mean over questions of the means of their attempts."""
    scale: float = 1.0
    """How much larger it is than the samples' numbers: 100 for percent."""
    decimals: int | None = None
    """To how many digits after the point it was rounded; None if it was not."""
    count: int | None = None
    """Over how many samples the harness says it goes."""


def shown(text: str) -> str:
    """A text out of the files, as it is told: no longer than somebody wants to read."""
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _bounded(text: str, known: Counter[str], others: str) -> str:
    """A sentence to be counted; `others` where there are too many of them already, each with a name of its own."""
    return text if text in known or len(known) < SENTENCES_MAX else others


class Ledger:
    """What of a harness's output did not become part of a result, and why."""

    def __init__(self) -> None:
        self.refused: dict[str, list[str]] = {}
        """Places by reason, the first of them."""
        self.refused_counts: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        """Rows that are meant to be left out, by reason: the same answers under another filter, perturbed copies."""
        self.left: Counter[str] = Counter()
        """Fields that have no place in a result, with the rows that had them."""
        self.warnings: Counter[str] = Counter()

    def refuse(self, place: str, reason: str) -> None:
        """Count a row that cannot be taken. `reason` is the same sentence for the same fault: no values in it."""
        reason = _bounded(reason, self.refused_counts, "further reasons")
        self.refused_counts[reason] += 1
        places = self.refused.setdefault(reason, [])
        if len(places) < EXAMPLES_MAX:
            places.append(shown(place))

    def pass_over(self, reason: str, rows: int = 1) -> None:
        """Count rows that are left out on purpose."""
        self.passed_over[_bounded(reason, self.passed_over, "further reasons")] += rows

    def leave(self, fields: Iterable[str]) -> None:
        """Count fields of a row, by their paths (`arguments`, `doc.solution`), that have no place in a result."""
        self.left.update(fields)
        if len(self.left) > 2 * FIELDS_MAX:
            self.gather_rare()

    def gather_rare(self) -> None:
        """Count the fields that fewest rows had as one: what is told is not to grow with what is read."""
        others = self.left.pop(OTHER_FIELDS, 0)
        kept = Counter({shown(name): rows for name, rows in self.left.most_common(FIELDS_MAX)})
        if others := others + self.left.total() - kept.total():
            kept[OTHER_FIELDS] = others
        self.left = kept

    def warn(self, text: str) -> None:
        """Keep a sentence for whoever imports; the same one is kept once, with how often it was said."""
        self.warnings[_bounded(text, self.warnings, "further warnings")] += 1


@dataclass(frozen=True, slots=True)
class Task:
    """What one model did on one task of a harness, which is a benchmark or a part of one."""

    names: Sequence[str]
    """What the harness calls it: the most exact name first, then others that the registry may know, such as the
    dataset's. Never empty."""
    samples: Callable[[Ledger], Iterator[Sample]] | None
    """Reads the samples, in a fixed order, from the files; each call begins anew. None where only aggregates are there.
    Unreadable where a file cannot be read on: the samples before it are taken, and the rest is reported."""
    stated: Sequence[Stated] = ()
    metric: str | None = None
    """Name of the metric that `Sample.score` is; becomes the result's grader."""
    version: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What metadata may be taken from, for all samples of the task; a sample's own comes first."""
    own_name: str | None = None
    """What the benchmark is called where the registry knows none of the names, if not as the first of them: the data
    set that this is a subset of."""
    expected: int | None = None
    """How many samples the harness says there are."""
    files: Sequence[File] = ()
    """Those that the samples are read from."""


@dataclass(frozen=True, slots=True)
class HarnessRun:
    """What one model did in one run of a harness."""

    model_id: str
    tasks: Sequence[Task]
    timestamp: str | None = None
    """RFC 3339 with an offset: when the run began, as its files say. Never the time of a file or of the import."""
    run_key: str | None = None
    """The harness's own unique name of the run, of letters, digits, `-`, `_` and `.`. None where there is none: then it
    is made of the files' content."""
    harness_version: str | None = None
    tokenizer_id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """How the model was asked: what someone would look for who wants to repeat it. At most some kilobytes."""
    incomplete: str | None = None
    """Why the run is not whole ("status is cancelled"); None if it is."""
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """A result that Scorehouse itself wrote out in a harness's format: to be stored exactly as it was."""

    envelope: Envelope
    data: Callable[[], Iterator[bytes]]
    """The JSON text of `data`, piece by piece."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Output of a harness that was found among files: what is imported in one go."""

    format: str
    files: Sequence[File]
    """All that belong to it, the one that it is known by first. Each file of a tree is in one finding at most."""

    @property
    def place(self) -> str:
        """What it is called in messages."""
        return self.files[0].path


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What whoever imports may say about files that do not say it themselves, or choose."""

    model_id: str | None = None
    """Overrides what the files say."""
    timestamp: str | None = None
    """For files that state no time."""
    metric: str | None = None
    """The metric to take as the score, instead of the task's first."""
    filter: str | None = None
    """The filter (lm-evaluation-harness) whose rows to take, instead of the first."""

    def choosing_nothing(self) -> "ReadOptions":
        """The same without a metric or a filter of somebody's choice."""
        return replace(self, metric=None, filter=None)


class NotReadable(Exception):
    """A finding of which nothing can be imported. The message says why, and what would help."""


class Format(Protocol):
    """A reader of one harness's output. Pure: it reads the files of a tree and nothing else."""

    name: str
    """What the harness is called in requests, reports and as a result's source; `[a-z0-9_-]+`."""
    title: str
    """For people."""

    def find(self, tree: Tree) -> Iterable[Finding]:
        """What of this harness is among the files. Cheap: it looks at names and at the first bytes of files that could
        be its own, and never takes another harness's for its own."""

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun | ExportedRun]:
        """The runs in a finding, their samples still unread. NotReadable or Unreadable if there are none to be had."""

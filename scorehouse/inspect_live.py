"""A running evaluation of Inspect as a live run: its samples as questions, and whether the finished log agrees.

It knows Inspect's own words as JSON and not its package, and makes questions by the code that imports a log.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from scorehouse.live_journal import Close, Journal
from scorehouse.live_push import LivePush
from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample, Task
from shared.formats.inspect_head import Log, read_log, run_of, scoring_of, task_names, task_origin
from shared.formats.inspect_log import INSPECT
from shared.formats.inspect_sample import sample_of
from shared.formats.json_reading import Unreadable
from shared.formats.standardize import Standardized, StandardResult
from shared.formats.tree import File
from shared.registry.specs import Registry
from shared.submission import Envelope


def journal_name(spec: Mapping[str, Any]) -> str:
    """What the journal of an evaluation is called: one evaluation, one journal."""
    return f"{INSPECT.name}/{spec.get('eval_id') or spec.get('run_id')}/{spec.get('task_id')}"


class LiveEvaluation:
    """One task that one model is being evaluated on. ValueError or NotReadable if that cannot be a run of ours."""

    def __init__(self, spec: Mapping[str, Any], plan: Mapping[str, Any], registry: Registry, journal: Journal) -> None:
        self._log = read_log({"eval": spec, "plan": plan})
        self._registry = registry
        self._ranks = _ranks(self._log)
        self._samples: list[Sample] = []
        self._scoring = scoring_of(self._log)
        self._is_settled = False
        self._turn = Lock()
        """Samples end at the same time, each on a thread of its own."""
        self._result = self._plan()
        self.push = LivePush(journal)
        self.push.open(_unlinked(self._result.envelope), len(self._ranks), may_open=False)

    @property
    def run_id(self) -> str | None:
        """What Inspect calls the run that it is a part of."""
        return self._log.eval.run_id

    def add(self, sample: Mapping[str, Any]) -> None:
        """Take a sample that has ended, as its JSON; it is safe on the disk on return.

        One that is not on the evaluation's own list, or cannot be read, comes with the finished log.
        """
        rank = self._ranks.get((sample.get("epoch") or 1, str(sample.get("id"))))
        with self._turn:
            if not self._is_settled and (settled := self._scoring.settled(sample)) is not None:
                self._is_settled = True
                self._scoring = settled
                self._result = self._plan()
                self.push.open(_unlinked(self._result.envelope), len(self._ranks), may_open=True)
            if rank is None:
                return
            try:
                self._samples = [sample_of(sample, self._scoring, Ledger())]
            except ValueError:
                return
            questions = list(self._result.questions())
        for question in questions:
            self.push.add(rank, question)

    def finish(self, log: Path) -> None:
        """Decide how it ends: as what was sent, if the finished log says the same, else as an import of the log.

        They differ where an evaluation failed or was cancelled, where scores were edited, where the samples of an
        earlier try were taken over, or where samples came up that nobody knew of at the start.
        """
        is_same = False
        with suppress(NotReadable, Unreadable, OSError):  # the service will tell what is wrong with it
            is_same = self._agrees(File(log.name, log, log.stat().st_size))
        self.push.close(Close("finish" if is_same else "import", [str(log.resolve())]))

    def leave(self) -> None:
        """Leave it as it is, where there is no log to be read: what ended stays, marked partial."""
        self.push.may_open = True

    def _agrees(self, file: File) -> bool:
        finding = Finding(INSPECT.name, [file])
        run, *_ = INSPECT.read(finding, ReadOptions())
        [task] = run.tasks
        last: list[int | None] = [None]

        def samples(ledger: Ledger) -> Iterator[Sample]:
            for sample in task.samples(ledger) if task.samples else ():
                last[0] = self._ranks.get((sample.attempt + 1, sample.id))
                yield sample

        if run.incomplete or task.samples is None:
            return False
        run = replace(run, tasks=[replace(task, samples=samples)])
        result = self._standardized(finding, run).results[0]
        if _unlinked(result.envelope) != self.push.envelope:
            return False
        return self.push.is_part_of((last[0], question) for question in result.questions())

    def _plan(self) -> StandardResult:
        spec = self._log.eval
        task = Task(
            names=task_names(spec),
            samples=lambda _: iter(self._samples),
            metric=self._scoring.metric,
            version=str(spec.task_version) if spec.task_version else None,
            origin=task_origin(spec),
        )
        # Whether it will be whole is not known yet; if not, the log is imported.
        run = replace(run_of(self._log, task, []), incomplete=None)
        name = f"{spec.task}, running"
        return self._standardized(Finding(INSPECT.name, [File(name, Path(name), 0)]), run).results[0]

    def _standardized(self, finding: Finding, run: HarnessRun) -> Standardized:
        # A run of Inspect has a key of its own, so it is not told apart by its files, of which there may be none yet.
        return Standardized(finding, [run], digest="", registry=self._registry, options=ReadOptions())


def _ranks(log: Log) -> dict[tuple[int, str], int]:
    """The place of each epoch and id in the order in which Inspect writes a log."""
    ids = (log.eval.dataset.sample_ids if log.eval.dataset else None) or []
    keyed = sorted((id_ if isinstance(id_, str) else str(id_).zfill(20), str(id_)) for id_ in ids)
    attempts = [(epoch, id_) for epoch in range(1, log.epochs + 1) for _, id_ in keyed]
    return {attempt: rank for rank, attempt in enumerate(attempts)}


def _unlinked(envelope: Envelope) -> Envelope:
    """Without the raw input, which is known once there is one."""
    if envelope.provenance is None:
        return envelope
    return envelope.model_copy(update={"provenance": envelope.provenance.model_copy(update={"raw_input": None})})

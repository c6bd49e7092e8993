"""The hook that Inspect finds by itself where this package is installed: pushes evaluations while they run.

It is enabled where SCOREHOUSE_RESULTS_URL is set, or SCOREHOUSE_LIVE=1 for the default address; SCOREHOUSE_LIVE=0
switches it off. A sample counts as handed over once it is in the evaluation's journal on the disk; a thread sends it.
Inspect swallows what hooks raise, so whatever goes wrong is told here, and the evaluation goes on.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

import anyio
import anyio.to_thread
import httpx
from inspect_ai.hooks import Hooks, RunEnd, RunStart, SampleEnd, TaskEnd, TaskStart, hooks
from inspect_ai.log._samples import sample_active
from pydantic import BaseModel
from pydantic_core import to_json

from scorehouse.calls import Addresses
from scorehouse.inspect_live import LiveEvaluation, journal_name
from scorehouse.live_journal import Journal
from scorehouse.live_push import local_registry
from scorehouse.live_sender import LiveSender
from scorehouse.spool import default_spool
from shared.formats.inspect_sample import USED
from shared.registry.specs import Registry

_T = TypeVar("_T")


def is_enabled() -> bool:
    """Whether the environment asks for live pushes."""
    wanted = os.environ.get("SCOREHOUSE_LIVE", "").strip().lower()
    if wanted in ("0", "false", "no"):
        return False
    return bool(wanted or os.environ.get("SCOREHOUSE_RESULTS_URL"))


def _tell(text: str) -> None:
    print(f"scorehouse: {text}", file=sys.stderr, flush=True)


@hooks(name="scorehouse", description="pushes samples to Scorehouse as they end")
class LiveHook(Hooks):  # type: ignore[misc] # Inspect is not installed where types are checked
    """One for the whole process, which may run many evaluations at once."""

    def __init__(self) -> None:
        self._evaluations: dict[str, LiveEvaluation] = {}
        self._locations: dict[str, str] = {}
        """Where the logs of evaluations are, as far as it is known before their end."""
        self._sender: LiveSender | None = None
        self._registry: Registry | None = None
        self._starting = Lock()

    def enabled(self) -> bool:
        """Whether Inspect is to call the rest."""
        return is_enabled()

    async def on_run_start(self, data: RunStart) -> None:
        """Say where it is pushed, and send what earlier processes left."""
        await _apart(self._start)

    async def on_task_start(self, data: TaskStart) -> None:
        """Begin the live run of an evaluation."""
        plan = getattr(data, "plan", None)  # which older versions do not tell
        await _apart(lambda: self._begin(data.eval_id, _as_json(data.spec), _as_json(plan) if plan else {}))

    async def on_sample_end(self, data: SampleEnd) -> None:
        """Take a sample; on return it is safe on the disk."""
        evaluation = self._evaluations.get(data.eval_id)
        if evaluation is not None:
            self._locations[data.eval_id] = self._locations.get(data.eval_id) or _active_location()
            await _apart(lambda: evaluation.add(_as_json(data.sample, include=set(USED))))

    async def on_task_end(self, data: TaskEnd) -> None:
        """Finish the live run as the log has it."""
        await self._end(data.eval_id, data.log.location)

    async def on_run_end(self, data: RunEnd) -> None:
        """The same for evaluations that failed or were cancelled, of which no end of the task is told."""
        locations = {log.eval.eval_id: log.location for log in data.logs}
        for eval_id, evaluation in list(self._evaluations.items()):
            if evaluation.run_id == data.run_id:
                await self._end(eval_id, locations.get(eval_id) or "")

    async def _end(self, eval_id: str, location: str) -> None:
        evaluation = self._evaluations.pop(eval_id, None)
        noted = self._locations.pop(eval_id, "")
        if evaluation is not None:
            await _apart(lambda: self._finish(evaluation, _local(location or noted)))

    def _start(self) -> tuple[LiveSender, Registry]:
        with self._starting:
            if self._sender is None or self._registry is None:
                self._registry = local_registry()
                addresses = Addresses.choose(None, None, None)
                spool = default_spool(addresses.results)
                self._sender = LiveSender(addresses.results, spool, _tell)
                self._sender.start()
                shown = httpx.URL(addresses.results).copy_with(userinfo=b"")
                _tell(f"pushes live to {shown}; what cannot be sent is kept in {spool.folder}")
            return self._sender, self._registry

    def _begin(self, eval_id: str, spec: dict[str, Any], plan: dict[str, Any]) -> None:
        sender, registry = self._start()
        journal = Journal.create(sender.folder, journal_name(spec))
        if journal is None:
            _tell(f"another process pushes {eval_id} already")
            return
        try:
            evaluation = LiveEvaluation(spec, plan, registry, journal)
        except BaseException:
            journal.remove()
            raise
        self._evaluations[eval_id] = evaluation
        sender.follow(evaluation.push)

    def _finish(self, evaluation: LiveEvaluation, log: Path | None) -> None:
        sender, _ = self._start()
        if log is None:
            evaluation.leave()
            _tell("the log is not on this machine: push it when it is, for the run to become final")
        else:
            evaluation.finish(log)
        sender.end(evaluation.push)


async def _apart(work: Callable[[], _T]) -> _T | None:
    """Do it on a thread, also where the evaluation was cancelled; what goes wrong is told, and keeps nobody."""
    with anyio.CancelScope(shield=True):
        try:
            return await anyio.to_thread.run_sync(work)
        except Exception as error:  # noqa: BLE001 - Inspect would swallow it, into a log that nobody reads
            _tell(f"cannot push live: {error or type(error).__name__}; 'scorehouse push' of the log takes all of it")
    return None


def _as_json(model: BaseModel, include: set[str] | None = None) -> dict[str, Any]:
    """A model as Inspect writes it into a log: arguments that JSON cannot say are null."""
    text = to_json(model, include=include, exclude_none=True, fallback=lambda _: None)
    value: dict[str, Any] = json.loads(text)
    return value


def _active_location() -> str:
    """Where the log of the sample at hand is, which no hook is told of an evaluation that does not come to its end."""
    active = sample_active()
    return active.log_location if active is not None else ""


def _local(location: str) -> Path | None:
    """A log's file; None if it is elsewhere."""
    parsed = urlparse(location)
    if parsed.scheme not in ("", "file"):
        return None
    path = Path(unquote(parsed.path) if parsed.scheme else location)
    return path if path.is_file() else None

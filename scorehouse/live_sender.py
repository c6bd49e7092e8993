"""The thread that sends live runs while whatever measures goes on, and whatever earlier processes left."""

from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.live_journal import journal_folder
from scorehouse.live_push import LivePush
from scorehouse.live_replay import replay
from scorehouse.retries import Retries
from scorehouse.spool import Spool
from shared.imports import ImportReport

EVERY_S = 2.0
"""From one look to the next at what has ended."""
PATIENCE_S = 20.0
"""How long the end of a run waits for a service that goes away just then; after that the journal has it."""
AWAY_PATIENCE_S = 1.0
"""The same where it was away already."""


class LiveSender:
    """Sends to the service at `url`; what it cannot send stays in the journals of `spool`.

    Nothing here raises for the network's sake: an evaluation must not fail over it.
    """

    def __init__(self, url: str, spool: Spool, tell: Callable[[str], None], *, every_s: float = EVERY_S) -> None:
        self.folder: Path = journal_folder(spool)
        self._url = url
        self._spool = spool
        self._tell = tell
        self._every_s = every_s
        self._runs: list[LivePush] = []
        self._adding = Lock()
        self._is_away = False
        self._stop = Event()
        self._thread = Thread(target=self._work, name="scorehouse-live", daemon=True)

    def start(self) -> None:
        """Begin, with what was left before."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more; what is not sent stays in the journals."""
        self._stop.set()
        self._thread.join()

    def follow(self, run: LivePush) -> None:
        """Send what ends of a run, from now on."""
        with self._adding:
            self._runs.append(run)

    def end(self, run: LivePush) -> None:
        """Send the rest of a run and end it, now; what the service cannot take now stays in its journal."""
        with self._adding:
            if run in self._runs:
                self._runs.remove(run)
        patience_s = AWAY_PATIENCE_S if self._is_away else PATIENCE_S
        try:
            with Scorehouse(self._url, retries=Retries(patience_s=patience_s)) as house:
                report = run.end(house)
        except (ScorehouseError, OSError) as error:
            run.journal.close()
            self._tell(f"{run.result_name} waits in {self._spool.folder}: {error}")
            return
        if run.ending is None:
            self._tell(f"{run.result_name} is sent as far as it came, and stays partial")
        elif report is None:
            self._tell(f"{run.result_name} is stored")
        else:
            self._tell(_imported(run.result_name, report))

    def _work(self) -> None:
        with Scorehouse(self._url, retries=Retries(patience_s=0)) as house:
            left = True
            while not self._stop.wait(0 if left else self._every_s):
                try:
                    was_asked = False
                    if left:
                        left = False
                        replayed = replay(house, self._spool, self._tell)
                        was_asked = replayed.done > 0
                        self._told(replayed.reason)
                    with self._adding:
                        runs = list(self._runs)
                    for run in runs:
                        if run.ending is None:
                            was_asked |= run.send(house)
                    if was_asked:
                        self._told(None)
                except (ScorehouseError, OSError) as error:
                    self._told(error)

    def _told(self, failure: Exception | None) -> None:
        """Say once that nothing gets through, and once that it does again."""
        if failure is not None and not self._is_away:
            self._tell(f"{failure}; what ends is kept in {self._spool.folder}, and sent later")
        elif failure is None and self._is_away:
            self._tell("the service answers again")
        self._is_away = failure is not None


def _imported(name: str, report: ImportReport) -> str:
    runs = [run for finding in report.findings for run in finding.runs if run.problem is None]
    if not runs:
        why = next((finding.problem for finding in report.findings if finding.problem), "no row of it could be taken")
        return f"{name} is not stored: {why}"
    return f"{', '.join(run.result_name for run in runs)} is stored, imported from the log"

"""The kill loop: clients push while services, stores and clients themselves are killed with -9 and started again.

    python -m tests.faults.kill_loop --kills 200 --seed 7

At the end all comes to rest and `verdict` compares what clients were told with what is there. Same seed, same kills in
the same order and the same documents; what was under way at a kill differs from run to run, as it should.
"""

import argparse
import asyncio
import os
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from tests.faults.fleet import Fleet, Member, faketime_library, running_fleet, wait_until
from tests.faults.pusher import Acknowledgement, read_journal
from tests.faults.verdict import Ledger, check
from tests.faults.workload import Plan

WEIGHTS = {"mongod": 4, "sql": 3, "results": 3, "analysis": 2, "client": 1}
"""How often each kind is chosen; of results, analysis and client there are several."""
PROGRESS_WITHIN_S = 45
"""With everything running again, a client must hear of something within this time."""


@dataclass(slots=True)
class Summary:
    """What a run did."""

    seed: str
    kills: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    retries: int = 0
    seconds: float = 0
    compared: Mapping[str, int] = field(default_factory=dict)

    def table(self) -> str:
        """The run in lines."""
        rows = [("seed", self.seed), ("kills", sum(self.kills.values()))]
        rows += [(f"  {name}", count) for name, count in sorted(self.kills.items())]
        rows += [("acknowledgements", self.acknowledged), ("requests that had to be sent again", self.retries)]
        rows += [(f"  {name}", count) for name, count in sorted(self.outcomes.items())]
        rows += [(f"{name} compared", count) for name, count in self.compared.items()]
        rows += [("clocks minutes apart", "yes" if faketime_library() else "no: libfaketime is not installed")]
        rows += [("seconds", round(self.seconds))]
        return "\n".join(f"{name:<38}{value:>12}" for name, value in rows)


@dataclass(slots=True)
class KillLoop:
    """One run on a fleet."""

    fleet: Fleet
    seed: str
    clients: int
    offers: "Offers"

    def run(self, kills: int, tell: Callable[[str], None]) -> Summary:
        """Kill, let all come to rest, compare. AssertionError tells of a broken promise."""
        began = time.monotonic()
        random = Random(f"{self.seed}/chaos")
        summary = Summary(self.seed)
        clients = [self._client(number) for number in range(self.clients)]
        for client in clients:
            self.fleet.members[client.name] = client
            client.start()
        for number in range(kills):
            self._pause(random.uniform(0.05, 1.5))
            if number % 5 == 0:
                self._progress()
            victim = self._victim(random)
            victim.kill()
            summary.kills[victim.name.partition("-")[0]] += 1
            if random.random() < 0.5:
                self._pause(random.uniform(0, 1))
            victim.start()
            if number % 10 == 9:
                tell(f"{number + 1} kills, {len(self._told())} acknowledgements, {time.monotonic() - began:.0f} s")
        self._come_to_rest(clients)
        ledger = Ledger()
        for number in range(self.clients):
            ledger.take(self._plan(number), read_journal(clients[number].folder / "journal"))
        summary.compared = asyncio.run(check(self.fleet, ledger))
        told = self._told()
        summary.acknowledged = len(told)
        summary.retries = sum(line.tries - 1 for line in told)
        summary.outcomes = Counter(line.outcome for line in told)
        summary.seconds = time.monotonic() - began
        return summary

    def _victim(self, random: Random) -> Member:
        kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return random.choice([member for name, member in self.fleet.members.items() if name.startswith(kind)])

    def _pause(self, seconds: float) -> None:
        """Let things happen; whoever ends without being killed ends the run."""
        deadline = time.monotonic() + seconds
        while True:
            for member in self.fleet.members.values():
                assert not member.ended, f"{member.name} ended by itself: {member.last_words()}"
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def _progress(self) -> None:
        before = len(self._told())

        def grown() -> bool:
            self._pause(0)
            return len(self._told()) > before

        wait_until(grown, "an acknowledgement while everything runs", PROGRESS_WITHIN_S)

    def _come_to_rest(self, clients: list[Member]) -> None:
        """One client goes for good in the middle of its work, the others finish theirs; then the feed is applied.

        What the one left behind may be stored without being in the feed: the next start of a service enters it.
        """
        clients[0].kill()
        (self.fleet.folder / "stop").touch()
        wait_until(lambda: not any(client.runs for client in clients), "the clients finish", 90)
        for client in clients[1:]:
            assert client.process is not None
            assert client.process.returncode == 0, client.last_words()
        for client in clients:
            del self.fleet.members[client.name]
        self.fleet.wait()
        self.fleet.members["results-0"].stop()
        self.fleet.members["results-0"].start()
        self.fleet.wait()
        wait_until(self._is_applied, "the feed is applied", 90)

    def _is_applied(self) -> bool:
        head = httpx.get(f"{self.fleet.results_urls[0]}/health", timeout=10, trust_env=False).json()["feed_head"]
        return self.fleet.rows("SELECT position FROM feed_state") == [(head,)]

    def _told(self) -> list[Acknowledgement]:
        journals = [self.fleet.folder / f"client-{number}" / "journal" for number in range(self.clients)]
        return [line for journal in journals for line in read_journal(journal)]

    def _plan(self, number: int) -> Plan:
        return Plan(self.seed, number, self.offers.batches, self.offers.corrections, self.offers.live_runs)

    def _client(self, number: int) -> Member:
        folder = self.fleet.folder / f"client-{number}"
        command = [sys.executable, "-P", "-m", "tests.faults.pusher", "--seed", self.seed, "--client", str(number)]
        command += ["--folder", str(folder), *self.offers.options(), *self.fleet.results_urls]
        return Member(f"client-{number}", command, folder, lambda: True)


@dataclass(frozen=True, slots=True)
class Offers:
    """What the results service can do beside single pushes."""

    batches: bool
    corrections: bool
    live_runs: bool

    @classmethod
    def of(cls, url: str) -> "Offers":
        """As its OpenAPI document says."""
        paths = httpx.get(f"{url}/openapi.json", timeout=10, trust_env=False).json()["paths"]
        return cls(
            batches="/standardized_output/batch" in paths,
            corrections="/standardized_output/{result_name}/invalidation" in paths,
            live_runs="/live_runs/{result_name}/finish" in paths,
        )

    def options(self) -> Iterator[str]:
        """The client's options for it."""
        if self.batches:
            yield "--batches"
        if self.corrections:
            yield "--corrections"
        if self.live_runs:
            yield "--live-runs"


@contextmanager
def _kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="scorehouse-faults-") as temporary:
            yield Path(temporary)


def run_kill_loop(
    kills: int,
    seed: str,
    *,
    clients: int = 4,
    replica_set: bool = True,
    folder: Path | None = None,
    tell: Callable[[str], None] = print,
) -> Summary:
    """One run; AssertionError tells of a broken promise.

    All processes are gone afterwards, and what they wrote as well, unless it is to stay in `folder`.
    """
    with _kept_or_temporary(folder) as place, running_fleet(place, replica_set=replica_set) as fleet:
        return KillLoop(fleet, seed, clients, Offers.of(fleet.results_urls[0])).run(kills, tell)


def main() -> int:
    """The command; 0 if every promise held."""
    parser = argparse.ArgumentParser(description="Kills everything, over and over, and looks for what was lost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--standalone", action="store_true", help="MongoDB without a replica set")
    parser.add_argument("--folder", type=Path, help="Keep data and logs here")
    told = parser.parse_args()
    os.nice(10)
    # A polite end is as thorough as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def tell(line: str) -> None:
        print(line, flush=True)

    tell(f"seed {told.seed}: {told.kills} kills, {told.clients} clients")
    try:
        summary = run_kill_loop(
            told.kills,
            told.seed,
            clients=told.clients,
            replica_set=not told.standalone,
            folder=told.folder and told.folder.absolute(),
            tell=tell,
        )
    except AssertionError as broken:
        tell(f"BROKEN with seed {told.seed}: {broken}")
        return 1
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    tell(summary.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())

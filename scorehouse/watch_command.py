"""`scorehouse watch`: a line for each output that is pushed, until it is stopped."""

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from scorehouse.calls import Addresses, ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.harness_push import push_outputs
from scorehouse.harness_report import on_one_line, shortened
from scorehouse.harness_tally import HarnessReport
from scorehouse.push import PushReport, documents_under, push_documents
from scorehouse.retries import Retries
from scorehouse.terminal import INTERRUPTED, Waits, complain, count, out, say
from scorehouse.watch import Candidate, Watched, memory_of

_FOR_EVER_S = 10 * 365 * 86400.0
_REST = 9
"""How much longer than a look the rest after it is at least: a folder of any size takes a tenth of a core."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What the user chose."""

    url: str | None
    every_s: float
    settle_s: float
    abandoned_s: float
    once: bool


def run_watch(folder: Path, options: WatchOptions) -> int:
    """Push what appears in `folder` until stopped by Ctrl-C, SIGTERM or SIGHUP; the exit code, which is then 0.

    With `once`: what is there now, whether finished or not; 1 if something of it was not stored, 130 if stopped.
    """
    try:
        return asyncio.run(_until_stopped(folder, options))
    except KeyboardInterrupt:
        return _stopped(options)
    except ScorehouseError as error:
        complain(str(error))
        return 1


async def _until_stopped(folder: Path, options: WatchOptions) -> int:
    watching = asyncio.create_task(_watch(folder, options))
    if sys.platform != "win32":  # which knows KeyboardInterrupt alone
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup is respected
                loop.add_signal_handler(number, watching.cancel)
    try:
        return await watching
    except asyncio.CancelledError:
        return _stopped(options)


def _stopped(options: WatchOptions) -> int:
    say(out(), "stopped; what was pushed is remembered")
    return INTERRUPTED if options.once else 0


async def _watch(folder: Path, options: WatchOptions) -> int:
    console = out()
    address = Addresses.choose(options.url, None, None).results
    settle_s, abandoned_s = (0.0, 0.0) if options.once else (options.settle_s, options.abandoned_s)
    watched = Watched(folder, memory_of(folder, address), settle_s, abandoned_s)
    retries = Retries() if options.once else Retries(patience_s=_FOR_EVER_S)
    waits = Waits(console, retries.patience_s if options.once else None)
    is_complete, is_there, told = True, True, set[str]()
    if not options.once:
        say(console, f"watching {folder}, pushing to {address}; Ctrl-C stops it")
    async with AsyncScorehouse(options.url, retries=retries, on_wait=waits.tell) as house:
        while True:
            began = time.monotonic()
            finished: Sequence[Candidate] = ()
            try:
                finished = await asyncio.to_thread(watched.finished, began)
            except OSError as error:  # a shared disk that fails for a while
                is_complete = False
                say(console, f"cannot look through {folder}: {error}", "red")
            look_s = time.monotonic() - began
            if is_there != await asyncio.to_thread(folder.is_dir):
                is_there = not is_there
                say(console, f"{folder} is {'back' if is_there else 'gone; waiting for it to be back'}", "yellow")
            for item in watched.unreadable:
                if item.place not in told:
                    told.add(item.place)
                    is_complete = False
                    say(console, f"not read {on_one_line(item.place)}: {item.reason}", "red")
            for candidate in finished:
                is_complete &= await _push(house, candidate, watched, console)
                waits.end()
            if options.once:
                _tell_refused(console, watched.refused, is_new=not is_complete)
                return 0 if is_complete else 1
            await asyncio.sleep(max(options.every_s, _REST * look_s))


async def _push(house: AsyncScorehouse, candidate: Candidate, watched: Watched, console: Console) -> bool:
    """Push one and tell of it; whether all of it is stored."""
    if candidate.output is None:
        documents = PushReport()
        await push_documents(house, documents_under([candidate.files[0].location]), documents)
        refused = [*documents.refused, *documents.unreadable]
        told = f"{documents.stored} stored, {documents.unchanged} unchanged; {count(documents.questions, 'answer')}"
        lines = [f"{refusal.place}: {'; '.join(refusal.reasons)}" for refusal in refused]
        is_complete, may_try_again = not refused, False
    else:
        report = HarnessReport()
        await push_outputs(house, [candidate.output], report, parameters={}, jobs=1)
        total = report.total
        told = f"{total.stored} stored, {total.unchanged} unchanged; {count(total.taken, 'row')}"
        lines = [why for _, why in report.failures] + [line for loss in report.losses for line in loss.lines]
        lines += ["nothing of a harness is in it"] if report.unknown else []
        is_complete, may_try_again = report.complete, report.has_failed
    say(
        console,
        f"{time.strftime('%H:%M:%S')} {on_one_line(candidate.place)}: {told}",
        "green" if is_complete else "red",
    )
    for line in lines:
        say(console, f"    {on_one_line(line)}")
    if may_try_again:
        watched.put_off(candidate, time.monotonic())
        return is_complete
    try:
        watched.remember(candidate, refused=not is_complete)
    except OSError as error:
        say(console, f"    cannot remember this ({error}); after a restart it is pushed again", "yellow")
    return is_complete


def _tell_refused(console: Console, places: Sequence[str], *, is_new: bool) -> None:
    """What was refused before is no fault of this run, but should not be forgotten either."""
    if places and not is_new:
        was, has = ("was", "has") if len(places) == 1 else ("were", "have")
        say(
            console,
            f"{count(len(places), 'output')} {was} not stored in full before, and {has} not changed since: "
            f"{shortened(places)}",
            "yellow",
        )

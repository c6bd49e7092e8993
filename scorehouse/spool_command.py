"""`scorehouse spool list|flush`, and the flush that `scorehouse push --spool` begins with."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from scorehouse.blocking import Scorehouse
from scorehouse.calls import Addresses, ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.live_journal import journals, rejected_journals, why_rejected
from scorehouse.live_replay import Replayed, replay
from scorehouse.retries import Retries
from scorehouse.spool import Flushed, Spool, default_spool, problem_of
from scorehouse.terminal import INTERRUPTED, Waits, complain, count, err, out, say
from shared.problems import ProblemDocument


def spool_for(url: str | None, folder: Path | None) -> Spool:
    """The spool in `folder`, else the one for the service at `url` (or where the environment says)."""
    return Spool(folder) if folder else default_spool(Addresses.choose(url, None, None).results)


def run_list(spool: Spool) -> int:
    """Print what waits and what was rejected, a line each; 0 also where something does."""
    try:
        waiting, rejected = spool.waiting(), spool.rejected()
    except ScorehouseError as error:
        complain(str(error))
        return 1
    console = out()
    for item in waiting:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item.since))
        say(console, f"waiting   {since}  {item.size_bytes:>12,} bytes  {item.file.name}")
    for file in rejected:
        say(console, f"rejected  {file.name}\n    {_why_rejected(file)}")
    runs, refused = journals(spool), rejected_journals(spool)
    for file in runs:
        with suppress(FileNotFoundError):  # it came to its end at this moment
            size = file.stat().st_size
            say(console, f"run       {file.name}  {size:>12,} bytes, going on or left by an earlier process")
    for file in refused:
        say(console, f"rejected  {file.name}\n    {why_rejected(file)}")
    told = f", {count(len(runs), 'run')}" if runs else ""
    say(console, f"{len(waiting)} waiting, {len(rejected) + len(refused)} rejected{told} in {spool.folder}")
    return 0


def _why_rejected(file: Path) -> str:
    try:
        problem = ProblemDocument.model_validate_json(problem_of(file).read_bytes())
    except (OSError, ValueError):
        return "its problem cannot be read"
    return f"{problem.title}: {problem.detail}"


def run_flush(url: str | None, spool: Spool, patience_s: float) -> int:
    """Send what waits; 0 if nothing is left waiting and nothing was refused, else 1."""
    try:
        flushed = asyncio.run(_flush(url, spool, patience_s))
        replayed = _replay(url, spool, patience_s) if flushed.reason is None else Replayed()
    except KeyboardInterrupt:
        complain("interrupted; what is not stored waits on")
        return INTERRUPTED
    except ScorehouseError as error:
        complain(str(error))
        return 1
    tell_flushed(flushed)
    say(
        out(),
        f"{flushed.stored} stored, {flushed.unchanged} unchanged, {len(flushed.rejected)} rejected, "
        f"{flushed.waiting} waiting",
    )
    if replayed.reason is not None:
        complain(f"{count(replayed.waiting, 'run')} waiting: {replayed.reason}")
    left = flushed.waiting or flushed.rejected or replayed.rejected or replayed.reason
    return 1 if left else 0


def _replay(url: str | None, spool: Spool, patience_s: float) -> Replayed:
    """Send what live runs left in their journals."""
    if not journals(spool):
        return Replayed()
    waits = Waits(err(), patience_s)
    with Scorehouse(url, retries=Retries(patience_s=patience_s), on_wait=waits.tell) as house:
        return replay(house, spool, lambda text: say(err(), text))


async def _flush(url: str | None, spool: Spool, patience_s: float) -> Flushed:
    waits = Waits(err(), patience_s)
    async with AsyncScorehouse(url, retries=Retries(patience_s=patience_s), on_wait=waits.tell) as house:
        return await house.flush(spool)


async def flush_first(house: AsyncScorehouse, spool: Spool) -> ScorehouseError | None:
    """Send what waits before anything else; why the service is away, if it is. Silent where nothing waited."""
    if not await asyncio.to_thread(spool.waiting):
        return None
    flushed = await house.flush(spool)
    if flushed.stored or flushed.unchanged:
        sent = flushed.stored + flushed.unchanged
        say(err(), f"{count(sent, 'document')} from the spool: {flushed.stored} stored, {flushed.unchanged} unchanged")
    tell_flushed(flushed)
    return None if flushed.reason is None or flushed.reason.concerns_document else flushed.reason


def tell_flushed(flushed: Flushed) -> None:
    """Complain of what could not be sent."""
    for file in flushed.rejected:
        complain(f"refused, and moved to {file}: {_why_rejected(file)}")
    if flushed.taken:
        complain(f"another process is sending what waits in the spool ({count(flushed.waiting, 'document')})")
    elif flushed.waiting:
        verb = "waits" if flushed.waiting == 1 else "wait"
        complain(f"{count(flushed.waiting, 'document')} from earlier pushes {verb} on in the spool: {flushed.reason}")

"""`scorehouse spool list|flush`, and the flush that `scorehouse push --spool` begins with."""

import asyncio
import time
from pathlib import Path

from scorehouse.calls import Addresses, ScorehouseError
from scorehouse.client import AsyncScorehouse
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
    say(console, f"{len(waiting)} waiting, {len(rejected)} rejected in {spool.folder}")
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
    return 1 if flushed.waiting or flushed.rejected else 0


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

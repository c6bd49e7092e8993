"""Pushes what harnesses wrote to `POST /import`, several outputs at once, and tells what became of each."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.forms import FileForm
from scorehouse.harness_outputs import FoundOutput
from scorehouse.harness_tally import HarnessReport
from shared.problems import TYPE_PREFIX, UnrecognisedFormat

OnRead = Callable[[FoundOutput, int], None]
"""Told how many bytes of an output were read to be sent; from 0 on again when it is sent again."""


async def push_outputs(
    house: AsyncScorehouse,
    outputs: Sequence[FoundOutput],
    report: HarnessReport,
    *,
    parameters: Mapping[str, str],
    jobs: int,
    on_read: OnRead = lambda *_: None,
    on_done: Callable[[FoundOutput], None] = lambda _: None,
) -> None:
    """Import all `outputs`, at most `jobs` at once; `report` is up to date at any moment, also when cancelled.

    One that the service refuses or fails over is reported and the others go on; ScorehouseError where the next would
    fare no better.
    """
    waiting = iter(outputs)

    async def import_in_turn() -> None:
        for output in waiting:
            report.under_way += 1
            await _import(house, output, report, parameters, on_read)
            report.under_way -= 1
            on_done(output)

    try:
        async with asyncio.TaskGroup() as imports:
            for _ in range(min(jobs, len(outputs))):
                imports.create_task(import_in_turn())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _import(
    house: AsyncScorehouse,
    output: FoundOutput,
    report: HarnessReport,
    parameters: Mapping[str, str],
    on_read: OnRead,
) -> None:
    chosen = {**parameters, **({"format": output.format} if output.format else {})}
    try:
        before = _states(output)
        form = FileForm(output.files, on_read=lambda read: on_read(output, read))
        answer = await house.import_files(form, **chosen)
        report.add(output, answer)
        if _states(output) != before:
            report.fail(output, "it changed while it was sent; push it again when it is finished", is_refused=False)
    except ScorehouseError as error:
        if not error.concerns_document:
            raise
        if not output.is_named and error.problem and error.problem.type == TYPE_PREFIX + UnrecognisedFormat.slug:
            report.unknown.append(output)
        else:
            report.fail(output, str(error), is_refused=error.refused)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.strerror and error.filename else str(error)
        report.fail(output, why, is_refused=False)


def _states(output: FoundOutput) -> list[tuple[int, int]]:
    """What changes when one of its files does. OSError if one is gone."""
    states = [file.location.stat() for file in output.files]
    return [(state.st_size, state.st_mtime_ns) for state in states]

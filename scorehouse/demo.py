"""`scorehouse up --demo`: push the synthetic sample, wait until it is analysed, show a first answer."""

import asyncio
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from scorehouse.calls import ScorehouseError
from scorehouse.client import AsyncScorehouse
from scorehouse.documents import Document
from scorehouse.push import PushReport, push_documents
from scorehouse.push_command import print_report
from scorehouse.sample import sample_documents
from scorehouse.terminal import out, progress_bar, say
from shared.analysis import AnalysisAnswer, AnalysisRequest

APPLY_LIMIT_S = 120

QUESTION = AnalysisRequest(benchmark="mmlu-redux", level1="model", level2="category")


@dataclass(frozen=True, slots=True)
class NextSteps:
    """What the suggestions after the table depend on."""

    data_dir: Path
    results_url: str
    analysis_url: str
    stays_up: bool
    ports: str
    """The options that choose these ports, with a space before; empty for the default ones."""


async def show_demo(house: AsyncScorehouse, steps: NextSteps) -> None:
    """Push the sample, print a group-by of it and what to try next. ScorehouseError if any of it fails."""
    say(out(), "\nPushing the SYNTHETIC sample: made-up results, to be looked at, not believed", "bold")
    report = await _push_sample(house)
    print_report(report)
    if not report.complete:
        raise ScorehouseError("the sample was not stored; see above")
    await _wait_until_applied(house)
    answer = await house.analyze(QUESTION)
    console = out()
    console.print(scores_table(answer), soft_wrap=False)
    for line in _suggestions(steps):
        say(console, line)


async def _push_sample(house: AsyncScorehouse) -> PushReport:
    documents = list(_sample())
    report = PushReport()
    with progress_bar() as bar:
        task = bar.add_task("pushing the sample", total=len(documents), done=0)

        def advance(_: Document) -> None:
            bar.update(task, advance=1, done=report.documents)

        await push_documents(house, documents, report, on_done=advance)
    return report


def _sample() -> Iterator[Document]:
    for number, document in enumerate(sample_documents(), 1):
        yield Document(f"sample:{number}", json.dumps(document).encode(), 0)


async def _wait_until_applied(house: AsyncScorehouse) -> None:
    """Wait until the analysis has read as far as the feed goes now."""
    head = (await house.results_health()).feed_head or 0
    try:
        async with asyncio.timeout(APPLY_LIMIT_S):
            while True:
                feed = (await house.analysis_health()).feed
                if feed.stopped:
                    raise ScorehouseError(f"the analysis service no longer reads the feed: {feed.stopped}")
                if feed.lag == 0 and (feed.position or 0) >= head:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ScorehouseError(f"the analysis service had not applied the sample after {APPLY_LIMIT_S} s") from None


def scores_table(answer: AnalysisAnswer) -> Table:
    """Models down, categories across, mean score in percent; the best model first."""
    categories = list(dict.fromkeys(str(row["category"]) for row in answer.rows))
    cells: dict[str, dict[str, tuple[float, int]]] = {}
    for row in answer.rows:
        cells.setdefault(row["model"], {})[str(row["category"])] = (row["mean"], row["n"])
    overall = {
        model: sum(mean * n for mean, n in row.values()) / sum(n for _, n in row.values())
        for model, row in cells.items()
    }
    table = Table(
        title=f"SYNTHETIC sample: {answer.benchmark}, mean score in % by model and category",
        title_style="bold yellow",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("model", no_wrap=True)
    for name in (*categories, "all"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in sorted(cells, key=lambda name: (-overall[name], name)):
        shown = [f"{cells[model][name][0] * 100:.1f}" if name in cells[model] else "–" for name in categories]
        table.add_row(model, *shown, f"{overall[model] * 100:.1f}")
    return table


def _suggestions(steps: NextSteps) -> Iterator[str]:
    body = QUESTION.model_copy(update={"level1": "category", "level2": "subject", "models": ["gpt-4o"]})
    request = body.model_dump_json(exclude_unset=True)
    here = command_name()
    if steps.stays_up:
        yield "Try next:"
    else:
        yield "Without a terminal this demo ends here. Start it again, and then try:"
        yield f"  {here} up --data-dir {shlex.quote(str(steps.data_dir))}{steps.ports}"
    yield f"  curl -s {steps.analysis_url}/analysis -H 'Content-Type: application/json' -d '{request}'"
    yield f"  {here} push your-results.ndjson --url {steps.results_url}"
    yield f"  open {steps.analysis_url}/docs in a browser"


def command_name() -> str:
    """How to type this command here: by its name where that is on PATH, else by its path."""
    started = Path(sys.argv[0])
    if started.name != "scorehouse":
        return "python -m scorehouse"
    on_path = shutil.which("scorehouse")
    if on_path and Path(on_path).resolve() == started.resolve():
        return "scorehouse"
    return shlex.quote(str(started.relative_to(Path.cwd()) if started.is_relative_to(Path.cwd()) else started))

"""`scorehouse lm-eval`: runs lm-evaluation-harness, and pushes what it measured.

The harness asks the model everything first and scores it all at the end, in memory, and its samples are on the disk
when it is done. So nothing can be shown before that; then the samples go in parts, visible as a run that is still going
on, and the import of the same files, which keeps them as they are, takes their place in one step.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from types import FrameType
from uuid import uuid4

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.harness_outputs import FoundOutput
from scorehouse.harness_report import print_harness_report
from scorehouse.harness_tally import HarnessReport
from scorehouse.live_journal import Journal, Output, Preview, journal_folder
from scorehouse.live_push import PART_QUESTIONS, local_registry
from scorehouse.live_replay import import_output, new_outputs
from scorehouse.retries import Retries
from scorehouse.spool import Spool
from scorehouse.terminal import INTERRUPTED, Waits, complain, count, err, out, say
from shared.formats.harness import Finding, NotReadable, ReadOptions
from shared.formats.json_reading import Unreadable
from shared.formats.known import reader_of
from shared.formats.standardize import Standardized, StandardResult, digest_of
from shared.formats.tree import File
from shared.registry.specs import Registry

_NO_RUN = ("ls", "validate", "-h", "--help")
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LmEvalOptions:
    """What the user chose, beside what goes to the harness."""

    url: str | None
    spool: Spool
    patience_s: float


def run_lm_eval(arguments: Sequence[str], options: LmEvalOptions) -> int:
    """Run the harness with `arguments` and push what it wrote: its exit code; 1 if that is neither stored nor kept."""
    if find_spec("lm_eval") is None:
        complain("lm-evaluation-harness is not installed here; install it beside Scorehouse: pip install lm-eval")
        return 1
    if not arguments or arguments[0] in _NO_RUN:
        return _run(arguments)
    try:
        output, journal = _begin(arguments, options.spool)
    except OSError as error:
        complain(
            f"cannot keep a journal in {options.spool.folder}: {error.strerror or error}; see SCOREHOUSE_SPOOL_DIR"
        )
        return 1
    code = _run(with_samples(arguments, Path(output.folder) if output.is_ours else None))
    pushed = _push(journal, output, options, harness_code=code)
    return code or pushed


def _begin(arguments: Sequence[str], spool: Spool) -> tuple[Output, Journal]:
    """Where it will be written, in a journal before it is: were this process killed, whoever comes next imports it."""
    given = output_folder(arguments)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    folder = (given or spool.folder / "lm-eval" / name).resolve()
    before = [str(file) for file in folder.rglob("*")] if folder.exists() else []
    output = Output(str(folder), before, is_ours=given is None)
    journal = Journal.create(journal_folder(spool), f"lm-eval/{name}")
    assert journal is not None, name  # noqa: S101 - nobody else has this name
    journal.add([output])
    return output, journal


def output_folder(arguments: Sequence[str]) -> Path | None:
    """Where the harness is told to write, in its arguments or its configuration file; None if it is told nowhere."""
    given = _value(arguments, "--output", "-o") or _configured(arguments, "output_path")
    if given is None:
        return None
    path = Path(given)
    return path.parent if path.suffix == ".json" else path


def with_samples(arguments: Sequence[str], folder: Path | None) -> list[str]:
    """The arguments, with samples asked for, and to be written to `folder` if it is given."""
    added = list(arguments)
    if not any(argument.startswith("--log_s") or argument == "-s" for argument in arguments):
        added.append("--log_samples")
    if folder is not None:
        added += ["--output_path", str(folder)]
    return added


def _value(arguments: Sequence[str], long: str, short: str) -> str | None:
    """The value of an option, as argparse reads it: `--name value`, `--name=value`, beginnings of names."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if argument == short or name.startswith(long):
            return value if equals and argument != short else next(iter(arguments[number + 1 :]), None)
    return None


def _configured(arguments: Sequence[str], name: str) -> str | None:
    file = _value(arguments, "--config", "-C")
    try:
        text = Path(file).read_text(encoding="utf-8") if file else ""
    except OSError:
        return None  # the harness will say it
    found = re.search(rf"^{name}\s*:\s*[\"']?([^\"'#\n]+)", text, re.MULTILINE)
    value = found[1].strip() if found else ""
    return value if value not in ("", "null", "~") else None


def _run(arguments: Sequence[str]) -> int:
    """The harness's exit code; as shells have it where a signal ended it."""
    with subprocess.Popen([sys.executable, "-m", "lm_eval", *arguments]) as process, _signals_for(process):  # noqa: S603 - the user's own command
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_for(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ctrl-C reaches the harness by itself; this process goes on, to push what there is. SIGTERM is handed on."""

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            process.terminate()

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _push(journal: Journal, output: Output, options: LmEvalOptions, *, harness_code: int) -> int:
    """Show the samples in parts, import the files, tell what became of them; 0 if they are stored or kept."""
    waits = Waits(err(), options.patience_s)
    previews: list[str] = []
    report = HarnessReport()
    try:
        outputs = new_outputs(output)
        if not outputs:
            journal.remove()
            complain(f"the harness ended with {harness_code} and wrote no results: nothing is pushed")
            return 1
        registry = local_registry()
        with Scorehouse(options.url, retries=Retries(patience_s=options.patience_s), on_wait=waits.tell) as house:
            for found in outputs:
                _show(house, found, registry, journal, previews)
            for found, answer in import_output(house, journal, output, previews):
                report.add(found, answer)
    except KeyboardInterrupt:
        journal.close()
        complain(f"interrupted; the results are in {output.folder}, and 'scorehouse spool flush' sends them")
        return INTERRUPTED
    except ScorehouseError as error:
        return _keep(journal, error, options.spool)
    except (OSError, ValueError) as error:
        journal.close()
        complain(f"cannot push what is in {output.folder}: {error}; 'scorehouse spool flush' tries it again")
        return 1
    print_harness_report(out(), report, dry_run=False)
    return 1 if report.total.not_stored or report.total.unreadable else 0


def _keep(journal: Journal, error: ScorehouseError, spool: Spool) -> int:
    if error.refused:
        complain(
            f"{error}\nit is neither stored nor waiting; what was to be sent is told in {journal.reject(str(error))}"
        )
        return 1
    journal.close()
    complain(f"{error}\nthe results wait in {spool.folder}; 'scorehouse spool flush' sends them")
    return 0


def _show(house: Scorehouse, found: FoundOutput, registry: Registry, journal: Journal, previews: list[str]) -> None:
    """Push an output's samples as a live run. What the service refuses is told by the import, which follows."""
    if found.format is None:
        return
    finding = Finding(found.format, found.files)
    try:
        runs = reader_of(finding).read(finding, ReadOptions())
        digest = digest_of(map(_sha256, found.files))
        results = Standardized(finding, runs, digest=digest, registry=registry, options=ReadOptions()).results
        for result in results:
            if result.with_questions:
                journal.add([Preview(result.envelope.result_name)])
                previews.append(result.envelope.result_name)
                _show_questions(house, result)
    except (NotReadable, Unreadable):
        return
    except ScorehouseError as error:
        if not error.refused:
            raise


def _show_questions(house: Scorehouse, result: StandardResult) -> None:
    name = house.open_live_run(result.envelope).result_name
    questions = result.questions()
    for number, first in enumerate(questions, start=1):
        part = chain([first], islice(questions, PART_QUESTIONS - 1))
        house.push_part(name, number, b"[" + b",".join(part) + b"]")
    say(err(), f"{name}: {count(result.taken, 'answer')} shown; importing the files …", "dim")


def _sha256(file: File) -> str:
    digest = sha256()
    with file.open() as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()

"""`scorehouse registry`: registry files for benchmarks that results were measured on and nobody registered yet."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from scorehouse.documents import Document, Unreadable, read_documents
from scorehouse.harness_outputs import Found, find_outputs, is_document
from scorehouse.registry_draft import Survey, draft
from scorehouse.terminal import EXIT_CODES, complain, count, err, out, say
from shared.formats.harness import ExportedRun, Finding, HarnessRun, Ledger, NotReadable, ReadOptions
from shared.formats.json_reading import Unreadable as UnreadableFile
from shared.formats.known import reader_of
from shared.formats.mapping import map_task, read_scalars
from shared.names import BENCHMARK_NAME, table_suffix
from shared.registry.load import RegistryError, load_registry
from shared.registry.specs import Registry
from shared.registry.spellings import Value

registry_app = typer.Typer(no_args_is_help=True, help="Registry files: the benchmarks that results are grouped by.")

OWN_FORM = "documents of Scorehouse's own form"
SHOWN_MAX = 10
UNKNOWN_MODEL = "unknown"
"""Stands for the model of files that do not name one: of which model they are makes no difference here."""


@registry_app.callback()
def registry() -> None:
    """Registry files: the benchmarks that results are grouped by."""


@registry_app.command(epilog=f"{EXIT_CODES}.")
def suggest(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, or folders of them.", show_default=False, exists=True)
    ],
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", file_okay=False, help="Write NAME.toml files there; else they are printed."
        ),
    ] = None,
    registry_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="SCOREHOUSE_REGISTRY_DIR", file_okay=False, help="The services' folder of registry files, if any."
        ),
    ] = None,
) -> None:
    """Draft registry files for the benchmarks that the registry does not know.

    Reads what a harness wrote, or documents as 'scorehouse push' takes
    them, and writes down the fields that their questions have: types,
    values, where they stand. Look through the draft: what has to be
    checked is marked.

      scorehouse registry suggest results/
      scorehouse registry suggest results/ --out registry/
      export SCOREHOUSE_REGISTRY_DIR=registry     and restart the services

    Results that were imported before can be grouped then, too.
    """
    raise typer.Exit(run_suggest(paths, out_dir, registry_dir))


def run_suggest(paths: Sequence[Path], out_dir: Path | None, registry_dir: Path | None) -> int:
    """Print or write a draft for each unknown benchmark in `paths`; the exit code."""
    try:
        known = load_registry(registry_dir)
    except RegistryError as error:
        complain(str(error))
        return 1
    surveys = Surveys(known)
    surveys.read(find_outputs(paths))
    for place in surveys.unreadable:
        complain(place)
    for name, runs in surveys.registered.items():
        say(err(), f"{name} is registered already ({count(runs, 'run')})")
    drafts = {survey.benchmark: draft(survey) for _, survey in sorted(surveys.by_table.items()) if survey.questions}
    without = sorted(surveys.without_questions)
    if without:
        more = f" and {len(without) - SHOWN_MAX} more" if len(without) > SHOWN_MAX else ""
        what = "have figures and no questions in these files, so there is nothing to draft from"
        say(err(), f"{count(len(without), 'benchmark')} {what}: {', '.join(without[:SHOWN_MAX])}{more}")
    if not drafts and not surveys.registered:
        complain(f"no benchmark with questions was found in {', '.join(map(str, paths))}")
        return 1
    if out_dir is None:
        for name, text in drafts.items():
            say(out(), f"# ---- {name}.toml ----\n{text}")
    elif not _write(drafts, out_dir):
        return 1
    return 1 if surveys.unreadable else 0


def _write(drafts: dict[str, str], folder: Path) -> bool:
    """Write each draft to a file of its own; False if one cannot be. What is there already stays as it is."""
    done = True
    for name, text in drafts.items():
        file = folder / f"{name}.toml"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            complain(f"{file} is there already and stays as it is; remove it for a new draft")
            done = False
        except OSError as error:
            complain(f"{file} cannot be written: {error.strerror}")
            done = False
        else:
            say(out(), f"{file} written; check it")
    return done


class Surveys:
    """What was seen of each unknown benchmark, and of the known ones how many runs."""

    def __init__(self, known: Registry) -> None:
        self.by_table: dict[str, Survey] = {}
        """By what they would call their tables: names that differ in `-` and `_` only are one benchmark."""
        self.registered: dict[str, int] = {}
        self.unreadable: list[str] = []
        """What could not be read, and why."""
        self._known = known

    def read(self, found: Found) -> None:
        """Look at all files: what harnesses wrote, then documents."""
        self.unreadable += [f"{file.place}: {file.reason}" for file in found.unreadable]
        for output in found.outputs:
            if output.format is None:
                if output.is_named:
                    self.unreadable.append(f"{output.place} is an archive: unpack it, and name the folder")
                continue
            finding = Finding(output.format, output.files)
            try:
                runs = reader_of(finding).read(finding, ReadOptions(model_id=UNKNOWN_MODEL))
                for run in runs:
                    if isinstance(run, ExportedRun):
                        self._read_document(finding.place, b"".join(run.data()), run.envelope.benchmark_name)
                    else:
                        self._read_run(run, reader_of(finding).title)
            except NotReadable as error:
                self.unreadable.append(str(error))
            except UnreadableFile as error:
                self.unreadable.append(f"{error.place} cannot be read on: {error.reason}")
        for file in filter(is_document, found.others):
            for document in read_documents(file.location):
                if isinstance(document, Unreadable):
                    self.unreadable.append(f"{document.place}: {document.reason}")
                else:
                    self._read_document(document.place, _bytes_of(document))

    def _survey(self, benchmark: str, place: str) -> Survey | None:
        """Where to count; None for what is registered or can never be."""
        if benchmark in self._known.benchmarks:
            self.registered[benchmark] = self.registered.get(benchmark, 0) + 1
            return None
        if not BENCHMARK_NAME.fullmatch(benchmark):
            self.unreadable.append(f"{place}: no registered benchmark can be called {benchmark!r}")
            return None
        taken = {table_suffix(name): name for name in self._known.benchmarks}
        if table_suffix(benchmark) in taken:
            other = taken[table_suffix(benchmark)]
            self.unreadable.append(f"{place}: {benchmark!r} cannot be registered beside {other!r}: rename it")
            return None
        return self.by_table.setdefault(table_suffix(benchmark), Survey())

    @property
    def without_questions(self) -> list[str]:
        """Benchmarks of which there are figures alone."""
        return [table for table, survey in self.by_table.items() if not survey.questions]

    def _read_run(self, run: HarnessRun, source: str) -> None:
        begun: set[str] = set()
        for task in run.tasks:
            benchmark = map_task(task.names, self._known, task.own_name).benchmark
            survey = self._survey(benchmark, task.names[0])
            if survey is None:
                continue
            if benchmark not in begun:
                begun.add(benchmark)
                survey.begin_run(source, benchmark)
            survey.name(task.names)
            for sample in task.samples(Ledger()) if task.samples is not None else ():
                found = (*read_scalars(sample.origin), *read_scalars(task.origin))
                survey.add(f"{task.names[0]}/{sample.id}", found, sample.score)

    def _read_document(self, place: str, body: bytes, benchmark: str | None = None) -> None:
        try:
            if benchmark is None:
                document = msgspec.json.decode(body, type=_Document)
                benchmark, body = document.benchmark_name, bytes(document.data)
            questions = _questions(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.unreadable.append(f"{place} is no document: {error}")
            return
        survey = self._survey(benchmark, place) if questions else None
        if survey is None:
            return
        survey.begin_run(OWN_FORM, benchmark)
        for question in questions:
            survey.add(question.question_id, _metadata(question), question.score)


class _Document(msgspec.Struct):
    benchmark_name: str
    data: msgspec.Raw


class _Question(msgspec.Struct, gc=False):
    question_id: str
    score: float | None = None
    metadata: dict[str, Any] = {}


class _Data(msgspec.Struct):
    questions: list[_Question] = []


def _questions(data: bytes) -> list[_Question]:
    """The questions in `data`, which may be written within a string; none in what has another shape."""
    text = msgspec.json.decode(data, type=str).encode() if data[:1] == b'"' else data
    return msgspec.json.decode(text, type=_Data).questions if text.lstrip()[:1] == b"{" else []


def _metadata(question: _Question) -> Iterator[tuple[str, str, Value]]:
    for name, value in question.metadata.items():
        if isinstance(value, str | int | float):
            yield f"metadata.{name}", name, value


def _bytes_of(document: Document) -> bytes:
    return document.body if isinstance(document.body, bytes) else b"".join(document.body.blocks())

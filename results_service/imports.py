"""Imports what harnesses wrote: their files unchanged as a raw input, what was measured as standardized results.

Everything of a finding is read and checked before anything of it is stored. Then come, each with a majority before the
next: the files, the raw input that names them, its standardized results, the report. A crash between any two leaves
what the same import completes when it comes again, for all names are made of the content.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TypeVar

import msgspec
import structlog

from results_service.attachments import AttachedFile, Attachments
from results_service.blobs import Upload, read_whole
from results_service.documents import envelope_of, stored_id
from results_service.import_records import ImportRecords
from results_service.intake import NewResult, receive_result
from results_service.mongo import Mongo
from results_service.store import ResultStore
from results_service.uploaded_files import IMPORTERS, UploadedFiles
from shared.formats.comparison import counts
from shared.formats.harness import Finding, Ledger, NotReadable, ReadOptions, shown
from shared.formats.json_reading import Unreadable
from shared.formats.known import FORMATS, find_all, reader_of, unrecognised
from shared.formats.standardize import Standardized, StandardResult, digest_of
from shared.imports import ImportedFinding, ImportedRun, ImportReport, RowsLeftOut
from shared.problems import (
    InvalidRequest,
    MalformedJson,
    Problem,
    ResultConflict,
    ResultNameTaken,
    StoreUnavailable,
    UnrecognisedFormat,
)
from shared.registry.specs import Registry
from shared.results import ResultKind, StandardizationState, StoreStatus
from shared.submission import Envelope, Provenance, learn
from shared.submission_stream import SubmissionStream

log = structlog.get_logger(__name__)

AT_ONCE = 2
"""Findings that are being read at a time."""
UNRECOGNISED_MAX = 100
AGGREGATES_MAX = 5000
"""Stated figures that a report lists, those that differ first: it has to fit into a document of the store."""
TASKS_MAX = 1000
_TOLD_MAX = 1000
_PIECE_BYTES = 1024 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What whoever imports chose."""

    read: ReadOptions = field(default_factory=ReadOptions)
    format: str | None = None
    """Look for this one alone."""
    dry_run: bool = False
    """Only report."""
    raw: Envelope | None = None
    """The raw input that the files come from; one is made otherwise."""


@dataclass(slots=True)
class _Received:
    """A result that was read and checked, and what became of it."""

    result: StandardResult
    new: NewResult | None = None
    status: StoreStatus | None = None
    problem: Problem | None = None

    def told(self) -> ImportedRun:
        envelope = self.result.envelope
        return ImportedRun(
            result_name=envelope.result_name,
            benchmark_name=envelope.benchmark_name,
            registered=self.result.registered,
            model_id=envelope.model_id,
            tasks=[shown(task) for task in self.result.tasks[:TASKS_MAX]],
            status=self.status,
            questions=self.new.questions if self.new else self.result.taken,
            warnings=list(self.new.warnings) if self.new else [],
            problem=self.problem.document() if self.problem else None,
        )


class _KeptFiles(msgspec.Struct, frozen=True):
    """The data of a raw input that was made of files."""

    format: str
    files: Sequence[AttachedFile]


learn(_KeptFiles)


class Importer:
    """Imports into one database; any number of instances may do so."""

    def __init__(self, mongo: Mongo, store: ResultStore, attachments: Attachments, registry: Registry) -> None:
        self.records = ImportRecords(mongo)
        self._mongo = mongo
        self._store = store
        self._attachments = attachments
        self._registry = registry
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def import_files(self, files: UploadedFiles, options: ImportOptions) -> ImportReport:
        """Import all that is recognised. UnrecognisedFormat if nothing is; what else is wrong is in the report."""
        findings = await _off_loop(lambda: find_all(files.tree, options.format))
        if not findings:
            looked_for = (
                FORMATS[options.format].title if options.format else ", ".join(form.title for form in FORMATS.values())
            )
            raise UnrecognisedFormat(
                f"none of the {len(files.tree):,} files sent is output of {looked_for}. Documents of "
                "Scorehouse's own form go to POST /standardized_output; anything else can be kept by POST /raw_input"
            )
        imported = [await self._import_finding(finding, files.digests, options) for finding in findings]
        unknown = unrecognised(files.tree, findings)
        return ImportReport(
            dry_run=options.dry_run,
            findings=imported,
            unrecognised=[file.path for file in unknown[:UNRECOGNISED_MAX]],
            files_unrecognised=len(unknown),
            complete=all(map(_is_complete, imported)),
        )

    async def _import_finding(
        self, finding: Finding, digests: Mapping[str, str], options: ImportOptions
    ) -> ImportedFinding:
        async with self._turns:
            digest = digest_of(digests[file.path] for file in finding.files)
            try:
                plan = await _read(lambda: self._plan(finding, digest, options), finding.place)
            except (NotReadable, Unreadable) as error:
                return ImportedFinding(
                    format=finding.format, place=finding.place, files=len(finding.files), problem=_told(str(error))
                )
            if not options.dry_run:
                await self._keep_links(plan.results)
            place = finding.place
            received = [await self._receive(result, place, dry_run=options.dry_run) for result in plan.results]
            if not options.dry_run and any(one.new is not None for one in received):
                await self._store_all(plan, received, digests, options)
            report = _report(plan, received, is_stored=not options.dry_run)
            if options.raw is None and plan.raw is not None and report.raw_input is not None:
                state = StandardizationState.DONE if _is_complete(report) else StandardizationState.PARTLY
                await self.records.write(plan.raw.result_name, state, report)
            return report

    def _plan(self, finding: Finding, digest: str, options: ImportOptions) -> Standardized:
        read = reader_of(finding).read
        runs = read(finding, options.read)
        usual = options.read.choosing_nothing()
        return Standardized(
            finding,
            runs,
            digest=digest,
            registry=self._registry,
            options=options.read,
            raw=options.raw,
            usual=() if usual == options.read else read(finding, usual),
        )

    async def _keep_links(self, results: Sequence[StandardResult]) -> None:
        """Let results that are stored already keep the raw input that they came from first, or none.

        The same run may lie in files of two formats, and is the same result; so may one that came live.
        """
        ids = [stored_id(result.envelope.result_name) for result in results]
        async with self._mongo.answering():
            found = self._mongo.newest(ResultKind.STANDARDIZED).find({"_id": {"$in": ids}}, {"data": 0, "history": 0})
            stored = {document["_id"]: envelope_of(document) for document in await found.to_list(None)}
        for result, id_ in zip(results, ids, strict=True):
            before = stored[id_].provenance if id_ in stored else None
            if before is not None and result.parts:
                now = result.envelope.provenance or Provenance()
                provenance = now.model_copy(update={"raw_input": before.raw_input})
                result.envelope = result.envelope.model_copy(update={"provenance": provenance})

    async def _receive(self, result: StandardResult, place: str, *, dry_run: bool) -> _Received:
        """Read and check a result to its end, as if it had been pushed."""
        received = _Received(result)
        try:
            if dry_run:
                await _read(lambda: _check(result, self._registry), place)
            else:
                blocks = _pieces(result.body(), place)
                received.new = await receive_result(blocks, ResultKind.STANDARDIZED, self._registry, self._mongo)
        except (InvalidRequest, MalformedJson) as problem:
            received.status, received.problem = StoreStatus.REFUSED, problem
        except (NotReadable, Unreadable) as error:
            received.status, received.problem = StoreStatus.REFUSED, InvalidRequest(_told(str(error)))
        if received.problem is None and result.with_questions and not result.taken:
            await _give_up(received)
            received.status = StoreStatus.REFUSED
            received.problem = InvalidRequest("no row of it could be taken")
        return received

    async def _store_all(
        self, plan: Standardized, received: Sequence[_Received], digests: Mapping[str, str], options: ImportOptions
    ) -> None:
        if plan.raw is not None and options.raw is None:
            try:
                await self._store_raw(plan.raw, plan.finding, digests)
            except ResultNameTaken as problem:  # as when the same files are now said to be another model's
                for one in received:
                    await _give_up(one)
                    one.status, one.problem = StoreStatus.CONFLICT, problem
                return
        # All at once, so that they are committed in groups; whatever fails, what was begun is ended.
        ends = await asyncio.gather(*map(self._store_result, received), return_exceptions=True)
        for failure in filter(None, ends):
            raise failure

    async def _store_result(self, one: _Received) -> None:
        if one.new is None:
            return
        try:
            one.status = await self._put(one.result, one.new)
        except (ResultConflict, ResultNameTaken) as problem:
            one.status, one.problem = StoreStatus.CONFLICT, problem

    async def _put(self, result: StandardResult, new: NewResult) -> StoreStatus:
        try:
            return await self._store.put(new)
        except ResultConflict:
            await self._keep_links([result])  # the same run from other files may have come at the same time
            if result.envelope == new.envelope:
                raise
            return await self._store.put(replace(new, envelope=result.envelope))

    async def _store_raw(self, envelope: Envelope, finding: Finding, digests: Mapping[str, str]) -> None:
        """Keep the files. Their raw input has the name of their content, so one that is there is the same."""
        files = [
            AttachedFile(path, digests[file.path], file.size)
            for path, file in zip(_paths_beside(finding), finding.files, strict=True)
        ]
        locations = [file.location for file in finding.files]
        await self._attachments.store_files(list(zip(locations, files, strict=True)))
        kept = _KeptFiles(format=finding.format, files=files)
        body = envelope.model_dump_json(exclude_none=True).encode().removesuffix(b"}")
        body += b',"data":%b}' % msgspec.json.encode(kept)
        raw = await receive_result(_whole(body), ResultKind.RAW, self._registry, self._mongo)
        try:
            await self._store.put(raw)
        except ResultConflict:
            log.info("the files are stored already, under other names", result_name=envelope.result_name)
            kept = msgspec.json.decode(await self._read_raw(envelope), type=_KeptFiles)
        # Also where they are there, for a crash may have left some of them.
        await self._attachments.attach(stored_id(envelope.result_name), kept.files)

    async def _read_raw(self, envelope: Envelope) -> bytes:
        async with self._mongo.answering():
            document = await self._mongo.newest(ResultKind.RAW).find_one({"_id": stored_id(envelope.result_name)})
        if document is None:
            raise StoreUnavailable("MongoDB took back what another writer had stored; send the request again")
        return await read_whole(self._mongo, document)


def _report(plan: Standardized, received: Sequence[_Received], *, is_stored: bool) -> ImportedFinding:
    ledger = plan.ledger
    ledger.gather_rare()
    aggregates = plan.compare()
    agreeing, differing, not_recomputed = counts(aggregates)
    if len(aggregates) > AGGREGATES_MAX:
        ledger.warn(f"{len(aggregates):,} stated figures are counted, and {AGGREGATES_MAX:,} of them are listed")
        # What differs is what somebody wants to see; False sorts before True and None.
        aggregates = sorted(aggregates, key=lambda figure: figure.agrees is not False)[:AGGREGATES_MAX]
    stored = is_stored and any(one.new is not None for one in received)
    return ImportedFinding(
        format=plan.finding.format,
        place=plan.finding.place,
        files=len(plan.finding.files),
        raw_input=plan.raw.result_name if plan.raw is not None and stored else None,
        runs=[one.told() for one in received],
        rows_taken=sum(one.result.taken for one in received),
        rows_refused=ledger.refused_counts.total(),
        refused=_refused(ledger),
        passed_over=[RowsLeftOut(reason=reason, rows=rows) for reason, rows in ledger.passed_over.most_common()],
        fields_left=dict(sorted(ledger.left.items())),
        aggregates=aggregates,
        agreeing=agreeing,
        differing=differing,
        not_recomputed=not_recomputed,
        incomplete=_told(plan.incomplete) if plan.incomplete else None,
        warnings=[
            _told(text) if times == 1 else f"{_told(text)} ({times:,} times)"
            for text, times in ledger.warnings.most_common()
        ],
    )


def _refused(ledger: Ledger) -> list[RowsLeftOut]:
    return [
        RowsLeftOut(reason=_told(reason), rows=rows, places=ledger.refused[reason])
        for reason, rows in ledger.refused_counts.most_common()
    ]


def _told(text: str) -> str:
    """A sentence, which may have names out of the files in it."""
    return text if len(text) <= _TOLD_MAX else f"{text[:_TOLD_MAX]}…"


def _is_complete(finding: ImportedFinding) -> bool:
    return finding.problem is None and not finding.rows_refused and all(run.problem is None for run in finding.runs)


def _check(result: StandardResult, registry: Registry) -> None:
    """Read a result as if it had been pushed, and keep nothing."""
    stream = SubmissionStream(with_questions=True, registry=registry)
    for piece in result.body():
        stream.feed(piece)
    stream.finish()


def _paths_beside(finding: Finding) -> list[str]:
    """The files' paths as seen from the folder of the first, so that where that lies makes no difference."""
    folder = PurePosixPath(finding.files[0].path).parent
    paths = [PurePosixPath(file.path) for file in finding.files]
    beside = [(path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix() for path in paths]
    # Of a file elsewhere the whole path may be the same as what another's is from there.
    return beside if len(set(beside)) == len(beside) else [file.path for file in finding.files]


async def _give_up(received: _Received) -> None:
    """Let go of a result that will not be stored."""
    if received.new is not None and isinstance(received.new.content, Upload):
        await received.new.content.discard()
    received.new = None


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _pieces(body: Iterator[bytes], place: str) -> AsyncIterator[bytes]:
    """A body that is made off the loop, in pieces that are worth the change of threads."""
    while piece := await _read(lambda: _take(body), place):
        yield piece


def _take(body: Iterator[bytes]) -> bytes:
    held = bytearray()
    for piece in body:
        held += piece
        if len(held) >= _PIECE_BYTES:
            break
    return bytes(held)


async def _read(work: Callable[[], _T], place: str) -> _T:
    """What a reader makes of files. NotReadable also where these are as nobody foresaw: others can be read still."""
    try:
        return await _off_loop(work)
    except (NotReadable, Unreadable, Problem, OSError):
        raise
    except Exception as error:
        log.exception("a reader failed", place=place)
        raise NotReadable(
            f"{place}: something in it is not as its reader expects ({type(error).__name__}); the service's log says "
            "where. Please report it"
        ) from error


async def _off_loop(work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(IMPORTERS, work)

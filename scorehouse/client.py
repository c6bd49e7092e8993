"""The awaited client. `Scorehouse`, in `scorehouse.blocking`, blocks; otherwise they are the same.

async with AsyncScorehouse() as house:
    await house.push_standardized(Path("run.json").read_bytes())
    answer = await house.analyze(AnalysisRequest(benchmark="mmlu-redux", level1="category"))
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from itertools import groupby
from pathlib import Path
from typing import Self, TypeVar, Unpack

import httpx

from scorehouse import calls
from scorehouse.analysis_calls import AwaitedAnalysisCalls
from scorehouse.batches import Batch, batches, line_of
from scorehouse.calls import TIMEOUT, Call, ListFilters, ScorehouseError, Service, StoredResult
from scorehouse.documents import Content
from scorehouse.file_download import BLOCK_BYTES, FileDownload
from scorehouse.forms import FileForm
from scorehouse.house import ACCEPT, NO_PROXY, House, OnWait, environment_checked
from scorehouse.reconciliation_lines import ReconciliationLines
from scorehouse.retries import Patience, Retries
from scorehouse.spool import Flushed, Spool, Spooled, SpoolError
from shared.analysis import AnalysisHealth
from shared.attachments import FileSummary
from shared.formats.tree import File
from shared.imports import ImportReport
from shared.rebuilds import RebuildState
from shared.reconciliation import ReconciliationLine
from shared.results import (
    BatchLine,
    CorrectionAction,
    CorrectionAnswer,
    LiveRun,
    OpenedLiveRun,
    PartAnswer,
    ResultKind,
    ResultsHealth,
    ResultSummary,
    StoredAnswer,
)
from shared.submission import Envelope

_T = TypeVar("_T")


class AsyncScorehouse(AwaitedAnalysisCalls, House):
    """Both services, awaited. Addresses and API key default to SCOREHOUSE_RESULTS_URL, SCOREHOUSE_ANALYSIS_URL and
    SCOREHOUSE_API_KEY, then to this machine's ports 8000 and 8001 without a key.

    Every method raises ScorehouseError with the service's problem, or UnreachableError where there was no answer.
    While a service is busy or its store away (429, 502, 503) or its connection lost, a request is sent again as
    `retries` says, and `on_wait` is told. What is read waits only for a service that has answered before.
    """

    def __init__(
        self,
        results_url: str | None = None,
        analysis_url: str | None = None,
        api_key: str | None = None,
        *,
        retries: Retries | None = None,
        on_wait: OnWait | None = None,
    ) -> None:
        super().__init__(results_url, analysis_url, api_key, retries, on_wait)
        with environment_checked():
            self._http = httpx.AsyncClient(timeout=TIMEOUT, mounts=NO_PROXY, headers=ACCEPT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def push_standardized(self, body: Content) -> StoredAnswer:
        """Store a standardized result; `body` is its JSON document, sent as it is.

        answer = await house.push_standardized(Path("run.json").read_bytes())
        """
        return await self.push(ResultKind.STANDARDIZED, body)

    async def push_raw(self, body: Content) -> StoredAnswer:
        """Store a raw input; `body` is its JSON document, sent as it is."""
        return await self.push(ResultKind.RAW, body)

    async def push(self, kind: ResultKind, body: Content) -> StoredAnswer:
        """Store a result of either kind; a FilePart is streamed from its file."""
        return await self._send(calls.push(kind, body))

    async def push_batch(self, kind: ResultKind, documents: Iterable[Content]) -> AsyncGenerator[BatchLine, None]:
        """Store many results; one BatchLine for each, as soon as it is answered, with its number (from 1) as `line`.

        Small documents share requests; large ones, and those with line breaks, go by themselves. After a failure only
        what is unanswered is sent again. A line that is `failed` was not stored because the service failed over it.

        async for line in house.push_batch(ResultKind.STANDARDIZED, documents):
            if line.problem:
                print(line.line, line.problem.detail)
        """
        for batch in batches(documents):
            async with aclosing(self._send_batch(kind, batch)) as lines:
                async for line in lines:
                    yield line

    async def push_or_spool(
        self, body: Content, spool: Spool, kind: ResultKind = ResultKind.STANDARDIZED
    ) -> StoredAnswer | Spooled:
        """Store a result; where the service cannot take it now, keep it in `spool`. Either way it is safe then.

        ScorehouseError if the service refuses the document itself, SpoolError if the spool cannot take it either.

        outcome = await house.push_or_spool(document, Spool(Path("spool")))
        if isinstance(outcome, Spooled):
            print(f"kept in {outcome.file}: {outcome.reason}")
        """
        try:
            return await self.push(kind, body)
        except ScorehouseError as error:
            if error.refused:
                raise
            return Spooled(await asyncio.to_thread(spool.add, kind, body), error)

    async def flush(self, spool: Spool) -> Flushed:
        """Send what waits in `spool`, oldest first, and take out what is answered. It stops where the service is away.

        flushed = await house.flush(Spool(Path("spool")))
        print(flushed.stored, "stored,", flushed.waiting, "wait because", flushed.reason)
        """
        flushed = Flushed()
        with spool.flushing() as waiting:
            if waiting is None:
                return Flushed(waiting=len(spool.waiting()), taken=True)
            try:
                for kind, group in groupby(waiting, lambda item: item.kind):
                    items = list(group)
                    async for line in self.push_batch(kind, (item.content() for item in items)):
                        spool.settle(items[line.line - 1], line, flushed)
            except SpoolError:
                raise
            except OSError as error:  # a large document is read while it is sent
                raise SpoolError(f"cannot read what waits in the spool {spool.folder}: {error}") from error
            except ScorehouseError as error:
                flushed.reason = error
            flushed.waiting = len(spool.waiting())
        return flushed

    async def import_files(self, files: Sequence[File] | FileForm, **parameters: str) -> ImportReport:
        """Import what a harness wrote: the files are kept as they are, and what was measured as standardized results.

        Parameters are those of `POST /import`: format, dry_run="true", model_id, timestamp, metric, filter. OSError if
        a file cannot be read. A FileForm of the files can tell how far they are sent.

        report = await house.import_files(list(read_tree(Path("results")).values()))
        """
        form = files if isinstance(files, FileForm) else FileForm(files)
        try:
            return await self._send(calls.import_files(form, parameters))
        except ScorehouseError as error:
            if not calls.may_send_plain(form, error):
                raise
        return await self._send(calls.import_files(form.uncompressed(), parameters))

    async def open_live_run(self, envelope: Envelope) -> OpenedLiveRun:
        """Begin a run whose questions come in parts; `envelope` is a result without its data. Repeating it is safe.

        live = await house.open_live_run(envelope)
        await house.push_part(live.result_name, 1, json.dumps(questions).encode())
        await house.finish_live_run(live.result_name, parts=1)
        """
        return await self._send(calls.open_live_run(envelope))

    async def push_part(self, result_name: str, number: int, questions: bytes) -> PartAnswer:
        """Store part `number` (from 1, in any order) of a live run; `questions` is the JSON of its array.

        await house.push_part(live.result_name, 2, b'[{"question_id": "q7", "score": 1}]')
        """
        return await self._send(calls.push_part(result_name, number, questions))

    async def finish_live_run(self, result_name: str, parts: int | None = None) -> LiveRun:
        """Make a live run's parts a standardized result; refused unless they are exactly 1 to `parts`, if given.

        finished = await house.finish_live_run(live.result_name, parts=12)
        """
        return await self._send(calls.finish_live_run(result_name, parts))

    async def discard_live_run(self, result_name: str, author: str, reason: str) -> LiveRun:
        """Give a live run up: what came of it leaves the analysis.

        await house.discard_live_run(live.result_name, "ada", "the node was lost")
        """
        return await self._send(calls.discard_live_run(result_name, author, reason))

    async def invalidate(
        self, result_name: str, author: str, reason: str, kind: ResultKind = ResultKind.STANDARDIZED
    ) -> CorrectionAnswer:
        """Say that a result does not count. It stays as it is and leaves every analysis.

        await house.invalidate(name, "ada", "graded with another split's key")
        """
        return await self._send(calls.correct(kind, result_name, CorrectionAction.INVALIDATED, author, reason))

    async def restore(
        self, result_name: str, author: str, reason: str, kind: ResultKind = ResultKind.STANDARDIZED
    ) -> CorrectionAnswer:
        """Say that an invalidated result counts after all.

        await house.restore(name, "ada", "the key was right")
        """
        return await self._send(calls.correct(kind, result_name, CorrectionAction.RESTORED, author, reason))

    async def get_result(self, result_name: str, kind: ResultKind = ResultKind.STANDARDIZED) -> StoredResult:
        """A stored result; its `data` is what was pushed, byte for byte. Any spelling of the name's time will do."""
        return await self._send(calls.get_result(kind, result_name))

    async def list_files(self, result_name: str) -> list[FileSummary]:
        """The files that are kept with a raw input, by their paths.

        for file in await house.list_files(name):
            print(file.path, file.bytes)
        """
        return (await self._send(calls.list_files(result_name))).items

    async def download_file(self, result_name: str, path: str, to: Path) -> None:
        """Write a file that is kept with a raw input to `to`, which is there once it is whole, its SHA-256 compared.

        What breaks off goes on where it was. OSError if it cannot be written.

        await house.download_file(name, "results/samples.jsonl", Path("samples.jsonl"))
        """
        patience = Patience(self._retries)
        with FileDownload(to) as download:
            while True:
                call = calls.download_file(result_name, path, download.headers)
                try:
                    response = await self._http.send(call.request(self._http, self.addresses), stream=True)
                    async with aclosing(response):
                        self._answered = True
                        if response.is_success:
                            download.begin(call, response)
                            async for block in response.aiter_bytes(BLOCK_BYTES):
                                await asyncio.to_thread(download.take, block)
                                patience.start_again()
                            download.finish()
                            return
                        await response.aread()
                    failure, retry_after = call.refusal(response), response.headers.get("retry-after")
                    if not call.may_retry(response):
                        raise failure
                except httpx.RequestError as error:
                    failure, retry_after = self._unreachable(call, error), None
                await asyncio.sleep(self._wait_s(patience, failure, retry_after))

    async def list_results(
        self, kind: ResultKind = ResultKind.STANDARDIZED, **filters: Unpack[ListFilters]
    ) -> AsyncIterator[ResultSummary]:
        """Every result that passes the filters, page by page; by default the newest is first.

        async for result in house.list_results(model_id="gpt-4o", since="2026-01-01T00:00:00Z"):
            print(result.result_name, result.summary)
        """
        cursor = None
        while True:
            page = await self._send(calls.list_results(kind, filters, cursor))
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def results_health(self) -> ResultsHealth:
        """The results service's state, also where it answers 503; asked once, never again by itself."""
        return await self._send(calls.results_health())

    async def analysis_health(self) -> AnalysisHealth:
        """The analysis service's state, also where it answers 503; asked once, never again by itself."""
        return await self._send(calls.analysis_health())

    async def begin_rebuild(self, benchmark: str | None = None) -> RebuildState:
        """Have the analysis apply every result anew, or those of a benchmark; it goes on by itself. Needs admin.

        state = await house.begin_rebuild("mmlu")
        print(state.outdated, "results to apply")
        """
        return await self._send(calls.begin_rebuild(benchmark))

    async def rebuild_state(self) -> RebuildState:
        """How far the analysis has come with that, and with the feed. Needs the scope admin."""
        return await self._send(calls.rebuild_state())

    async def reconcile(
        self, service: Service, *, repair: bool = False, sums: bool = True
    ) -> AsyncGenerator[ReconciliationLine, None]:
        """Compare the stored results with the feed (Service.RESULTS), or what is applied with it (Service.ANALYSIS).

        `repair` mends what differs; with `sums` the analysis makes each run's sums again and compares them. Lines say
        how far it has come; the last one has the report. Needs the scope admin.

        async for line in house.reconcile(Service.ANALYSIS):
            if line.report:
                print(line.report.differences, "differences")
        """
        call = calls.reconcile(service, repair=repair, sums=sums)
        try:
            response = await self._http.send(call.request(self._http, self.addresses), stream=True)
            async with aclosing(response):
                if not response.is_success:
                    await response.aread()
                    raise call.refusal(response)
                lines = ReconciliationLines(call, response)
                async for block in response.aiter_bytes():
                    for line in lines.take(block):
                        yield line
                lines.end()
        except httpx.RequestError as error:
            raise call.unreachable(error, self.addresses) from error

    async def _send(self, call: Call[_T]) -> _T:
        patience = Patience(self._retries)
        while True:
            try:
                response = await self._http.send(call.request(self._http, self.addresses))
            except httpx.RequestError as error:
                wait_s = self._wait_s(patience, self._unreachable(call, error))
            else:
                self._answered = True
                if not call.may_retry(response):
                    return call.answer(response)
                wait_s = self._wait_s(patience, call.refusal(response), response.headers.get("retry-after"))
            await asyncio.sleep(wait_s)

    async def _send_batch(self, kind: ResultKind, batch: Batch) -> AsyncGenerator[BatchLine, None]:
        patience = Patience(self._retries)
        while batch.unanswered and not batch.goes_alone:
            call = self._batch_call(kind, batch)
            try:
                response = await self._http.send(call.request(self._http, self.addresses), stream=True)
                async with aclosing(response):
                    self._answered = True
                    if response.is_success:
                        self._check_is_ours(call, response)
                        async for block in response.aiter_bytes():
                            for line in self._taken(call, batch, response, block):
                                patience.start_again()
                                yield line
                        if batch.goes_alone or not batch.unanswered:
                            break
                        failure, retry_after = batch.failure()
                    else:
                        await response.aread()
                        failure, retry_after = call.refusal(response), response.headers.get("retry-after")
                        if not call.may_retry(response):
                            self._change_of_way(batch, failure)
                            continue
            except httpx.RequestError as error:
                failure, retry_after = self._unreachable(call, error), None
            await asyncio.sleep(self._wait_s(patience, failure, retry_after))
        for number, document in batch.unanswered.items():
            yield line_of(number, await self._judged(kind, document))

    async def _judged(self, kind: ResultKind, document: Content) -> StoredAnswer | ScorehouseError:
        try:
            return await self.push(kind, document)
        except ScorehouseError as error:
            return error

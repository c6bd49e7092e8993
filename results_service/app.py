"""The application: what it is made of, and the order in which that comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from results_service.attachments import Attachments
from results_service.batch import BatchLimits
from results_service.feed import Feed
from results_service.imports import Importer
from results_service.live_runs import LiveRuns
from results_service.mongo import connect
from results_service.pickers import Pickers
from results_service.read_time import ReadLimits
from results_service.reading import ResultReader
from results_service.routes import attachments as attachments_routes
from results_service.routes import feed, health, imports, reconciliation
from results_service.routes import live_runs as live_runs_routes
from results_service.routes.corrections import corrections_router
from results_service.routes.pickers import pickers_router
from results_service.routes.push import push_router
from results_service.routes.results import results_router
from results_service.settings import ResultsSettings
from results_service.standardizing import Standardizing
from results_service.store import ResultStore
from results_service.uploaded_files import ImportLimits
from shared.process import keep_trying, on_stop_signal
from shared.registry.load import load_registry
from shared.results import ResultKind
from shared.version import VERSION
from shared.web import build_app

REPAIR_EVERY_S = 60
"""How often a service looks for what a killed instance left between two writes."""

DESCRIPTION = """
Keeps what benchmark runs measured: immutable, byte for byte. Push results to `/standardized_output` (scores question
by question, to be analysed) or `/raw_input` (a harness's own output, to be kept).
"""


def create_app(settings: ResultsSettings | None = None) -> FastAPI:
    """The results service; with `settings` from the environment unless given.

    RegistryError or KeyFileError if a file it names is wrong. Its lifespan raises StartFailed without MongoDB.
    """
    settings = settings or ResultsSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """MongoDB first, since everything stands on it; its client is closed last, when no request is left.

        Indexes come before the repair and both before the first request: the repair relies on events being unique,
        and a reader of the feed should not see the service up while acknowledged order is still being mended. A stop
        signal ends long polls at once, since uvicorn waits for them before it ends this lifespan. What goes on after
        the acknowledgement is finished before the client is closed.
        """
        stopping = asyncio.Event()
        async with (
            settings.rate_limits() as app.state.rate_limits,
            connect(settings.mongo_url, settings.mongo_database, settings.mongo_timeout_s) as mongo,
        ):
            feed = Feed(mongo)
            store = ResultStore(mongo, feed)
            attachments = Attachments(mongo)
            importer = Importer(mongo, store, attachments, app.state.registry)
            standardizing = Standardizing(mongo, importer)
            live_runs = LiveRuns(
                mongo,
                feed,
                store,
                app.state.registry,
                abandoned_s=settings.live_run_abandoned_s,
                max_bytes=settings.max_body_bytes,
            )
            limits = ReadLimits(timeout_s=settings.read_timeout_s, page=settings.max_page)
            reader = ResultReader(mongo, limits)

            async def start() -> None:
                await mongo.ping()
                await feed.prepare()
                await store.prepare()
                await reader.prepare()
                await attachments.prepare()
                await standardizing.prepare()
                await live_runs.prepare()
                await store.repair()
                await live_runs.repair()

            def stop() -> None:
                stopping.set()
                feed.close()

            with on_stop_signal(stop):
                await keep_trying(start, store=mongo.address, timeout_s=settings.start_timeout_s, stopping=stopping)
                app.state.mongo, app.state.feed, app.state.store = mongo, feed, store
                app.state.reader, app.state.pickers = reader, Pickers(mongo, limits)
                app.state.live_runs, app.state.attachments = live_runs, attachments
                app.state.importer, app.state.standardizing = importer, standardizing
                repairing = [asyncio.create_task(stored.keep_repaired(REPAIR_EVERY_S)) for stored in (store, live_runs)]
                try:
                    async with standardizing.running():
                        yield
                finally:
                    for task in repairing:
                        task.cancel()
                    await asyncio.gather(*repairing, return_exceptions=True)
                    await store.finish()

    app = build_app(
        title="Scorehouse results",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        body_limits=settings.body_limits(settings.max_body_bytes),
        limits_by_path={
            "/import": replace(settings.body_limits(settings.max_import_bytes), setting="MAX_IMPORT_BYTES")
        },
    )
    app.state.import_limits = ImportLimits(settings.max_import_bytes, settings.max_import_files)
    app.state.keys = settings.key_ring()
    app.state.registry = load_registry(settings.scorehouse_registry_dir)
    app.state.batch_limits = BatchLimits(lines=settings.max_batch_lines, line_bytes=settings.max_line_bytes)
    _include_routes(app)
    return app


def _include_routes(app: FastAPI) -> None:
    for kind in ResultKind:
        pushes = push_router(kind)
        app.include_router(pushes)
        app.state.direct_routes.include(pushes)
        app.include_router(corrections_router(kind))
        app.include_router(results_router(kind))
    app.include_router(pickers_router())
    for router in (
        imports.router,
        attachments_routes.router,
        live_runs_routes.router,
        feed.router,
        health.router,
        reconciliation.router,
    ):
        app.include_router(router)

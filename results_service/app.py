"""The application: what it is made of, and the order in which that comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from results_service.feed import Feed
from results_service.mongo import connect
from results_service.routes import feed, health
from results_service.routes.results import results_router
from results_service.settings import ResultsSettings
from results_service.store import ResultStore
from shared.process import keep_trying, on_stop_signal
from shared.registry.load import load_registry
from shared.results import ResultKind
from shared.version import VERSION
from shared.web import build_app

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
        signal ends long polls at once, since uvicorn waits for them before it ends this lifespan.
        """
        stopping = asyncio.Event()
        async with connect(settings.mongo_url, settings.mongo_database, settings.mongo_timeout_s) as mongo:
            feed = Feed(mongo)
            store = ResultStore(mongo, feed)

            async def start() -> None:
                await mongo.ping()
                await feed.prepare()
                await store.prepare()
                await store.repair()

            def stop() -> None:
                stopping.set()
                feed.close()

            with on_stop_signal(stop):
                await keep_trying(start, store=mongo.address, timeout_s=settings.start_timeout_s, stopping=stopping)
                app.state.feed, app.state.store = feed, store
                yield

    app = build_app(
        title="Scorehouse results",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        max_body_bytes=settings.max_body_bytes,
    )
    app.state.keys = settings.key_ring()
    app.state.registry = load_registry(settings.scorehouse_registry_dir)
    for kind in ResultKind:
        app.include_router(results_router(kind))
    app.include_router(feed.router)
    app.include_router(health.router)
    return app

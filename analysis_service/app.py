"""The application: what it is made of, and the order in which that comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

from fastapi import FastAPI

from analysis_service.answer_cache import open_answers
from analysis_service.database import Database
from analysis_service.database.mysql import MysqlAddress, PoolLimits, ReadHosts, open_mysql
from analysis_service.database.sqlite import open_sqlite
from analysis_service.metric_families import open_registry
from analysis_service.projection.apply import Projection
from analysis_service.projection.consumer import Progress, follow_feed
from analysis_service.projection.feed_client import open_feed
from analysis_service.reader import Reader
from analysis_service.reconcile import Reconciler
from analysis_service.routes import (
    analysis,
    benchmarks,
    comparison,
    health,
    metrics,
    questions,
    rebuild,
    reconciliation,
    repeats,
    significance,
    time_series,
)
from analysis_service.schema import prepare_schema
from analysis_service.settings import AnalysisSettings
from shared.process import keep_trying, on_stop_signal
from shared.registry.load import load_registry
from shared.registry.specs import Registry
from shared.version import VERSION
from shared.web import build_app

DESCRIPTION = """
Answers questions about benchmark results at the level of single questions: group-bys over any metadata, models and
runs. Results are pushed to the results service and arrive here within a second.
"""


def create_app(settings: AnalysisSettings | None = None) -> FastAPI:
    """The analysis service; with `settings` from the environment unless given.

    RegistryError or KeyFileError if a file it names is wrong. Its lifespan raises StartFailed without the SQL store.
    """
    settings = settings or AnalysisSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """The store first, then its tables, then the feed's consumer, which writes them.

        They go the other way round: the consumer's transaction is ended or rolled back before the pool under it closes.
        """
        stopping = asyncio.Event()
        async with settings.rate_limits() as app.state.rate_limits, AsyncExitStack() as stack:

            async def start() -> Database:
                async with AsyncExitStack() as opening:
                    database = await opening.enter_async_context(_open_database(settings))
                    await prepare_schema(database, registry)
                    await stack.enter_async_context(opening.pop_all())
                return database

            with on_stop_signal(stopping.set):
                database = await keep_trying(
                    start, store=_store_name(settings), timeout_s=settings.start_timeout_s, stopping=stopping
                )
            app.state.reader = Reader(
                database, registry, settings.max_groups, settings.max_cells, settings.query_timeout_s
            )
            app.state.answers = await stack.enter_async_context(
                open_answers(app.state.reader, settings.answer_cache_bytes)
            )
            app.state.progress = Progress()
            app.state.reconciler = await stack.enter_async_context(
                _following(settings, database, registry, app.state.progress)
            )
            yield

    app = build_app(
        title="Scorehouse analysis",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=lifespan,
        body_limits=settings.body_limits(settings.max_body_bytes),
    )
    registry = load_registry(settings.scorehouse_registry_dir)
    app.state.keys = settings.key_ring()
    app.state.metrics = open_registry(app.state)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(reconciliation.router)
    app.include_router(rebuild.router)
    for router in (
        analysis.direct,
        analysis.router,
        benchmarks.router,
        comparison.router,
        questions.router,
        repeats.router,
        significance.router,
        time_series.router,
    ):
        app.include_router(router)
        app.include_router(router, prefix="/v1", include_in_schema=False)
    for prefix in ("", "/v1"):
        app.state.direct_routes.include(analysis.direct, prefix)
    return app


@asynccontextmanager
async def _following(
    settings: AnalysisSettings, database: Database, registry: Registry, progress: Progress
) -> AsyncIterator[Reconciler]:
    key = settings.results_api_key.get_secret_value() if settings.results_api_key else None
    async with open_feed(settings.results_url, key) as feed:
        projection = Projection(database, registry.hash)
        reconciler = Reconciler(database, projection, feed, registry)
        tasks = [
            asyncio.create_task(follow_feed(feed, projection, registry, progress, wait_s=settings.feed_wait_s)),
            asyncio.create_task(reconciler.compare_at_start(progress)),
        ]
        try:
            yield reconciler
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


def _store_name(settings: AnalysisSettings) -> str:
    if settings.engine == "sqlite":
        return f"SQLite at {settings.sqlite_path}"
    return f"MySQL at {settings.mysql_host}:{settings.mysql_port}"


def _open_database(settings: AnalysisSettings) -> AbstractAsyncContextManager[Database]:
    if settings.engine == "sqlite":
        return open_sqlite(
            settings.sqlite_path,
            acquire_timeout_s=settings.db_pool_timeout_s,
            query_timeout_s=settings.query_timeout_s,
            slow_query_ms=settings.slow_query_ms,
        )
    address = MysqlAddress(
        host=settings.mysql_host or "127.0.0.1",
        port=settings.mysql_port,
        user=settings.mysql_user,
        password=settings.mysql_password.get_secret_value(),
        database=settings.mysql_database,
    )
    limits = PoolLimits(
        size=settings.db_pool_size,
        overflow=settings.db_max_overflow,
        acquire_timeout_s=settings.db_pool_timeout_s,
        recycle_s=settings.db_pool_recycle_s,
    )
    read_hosts = ReadHosts(
        settings.read_hosts,
        begin_timeout_s=settings.mysql_read_timeout_s,
        longest_pause_s=settings.mysql_read_retry_s,
    )
    return open_mysql(
        address,
        limits,
        query_timeout_s=settings.query_timeout_s,
        read_hosts=read_hosts,
        slow_query_ms=settings.slow_query_ms,
    )

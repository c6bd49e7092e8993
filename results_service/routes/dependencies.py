"""What routes are given: the store, the feed and the registry that `create_app` put into the application's state."""

from typing import Annotated

from fastapi import Depends, Request

from results_service.feed import Feed
from results_service.store import ResultStore
from shared.registry.specs import Registry


def _store(request: Request) -> ResultStore:
    store: ResultStore = request.app.state.store
    return store


def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry


TheStore = Annotated[ResultStore, Depends(_store)]
TheFeed = Annotated[Feed, Depends(_feed)]
TheRegistry = Annotated[Registry, Depends(_registry)]

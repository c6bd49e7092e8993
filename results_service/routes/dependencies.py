"""What routes are given: what `create_app` put into the application's state."""

from typing import Annotated

from fastapi import Depends, Request

from results_service.attachments import Attachments
from results_service.feed import Feed
from results_service.pickers import Pickers
from results_service.reading import ResultReader
from results_service.store import ResultStore
from shared.registry.specs import Registry


def _store(request: Request) -> ResultStore:
    store: ResultStore = request.app.state.store
    return store


def _reader(request: Request) -> ResultReader:
    reader: ResultReader = request.app.state.reader
    return reader


def _pickers(request: Request) -> Pickers:
    pickers: Pickers = request.app.state.pickers
    return pickers


def _attachments(request: Request) -> Attachments:
    attachments: Attachments = request.app.state.attachments
    return attachments


def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry


TheStore = Annotated[ResultStore, Depends(_store)]
TheReader = Annotated[ResultReader, Depends(_reader)]
ThePickers = Annotated[Pickers, Depends(_pickers)]
TheAttachments = Annotated[Attachments, Depends(_attachments)]
TheFeed = Annotated[Feed, Depends(_feed)]
TheRegistry = Annotated[Registry, Depends(_registry)]

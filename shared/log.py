"""Structured logging: JSON lines, or colour on a terminal; every line of a request carries its id.

Our own lines go to standard error directly, others' (uvicorn, libraries) by way of the standard library into the same
form: its way takes four times as long, and a line is written for every request.
"""

import logging
import sys
from typing import Any

import msgspec
import structlog


def _drop_color_message(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """uvicorn says each thing twice, once with escape sequences."""
    event.pop("color_message", None)
    return event


class _NamedLogger(structlog.BytesLogger):
    """A logger that knows its name, as the standard library's do."""

    def __init__(self, *names: str) -> None:
        super().__init__(sys.stderr.buffer)
        self.name = names[0] if names else "root"


_EVERY_LINE: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_OTHERS: tuple[structlog.typing.Processor, ...] = (*_EVERY_LINE, structlog.stdlib.ExtraAdder(), _drop_color_message)


def _json(event: structlog.typing.EventDict, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def _as_bytes(_logger: object, _method: str, line: Any) -> bytes:  # noqa: ANN401 - what the renderer before it made
    return str(line).encode("utf-8", "backslashreplace")


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send all logging, uvicorn's included, to standard error in one form. Call it once, at the process's start."""
    terminal = sys.stderr.isatty()
    renderers: list[structlog.typing.Processor]
    if terminal:
        # Where rich is installed its tracebacks would be the default: they show local variables, API keys among them.
        renderers = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_OTHERS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)  # uvicorn sets its own before it imports the application
    # `shared.web` writes one line a request, with its id and duration; uvicorn's would say it a second time.
    logging.getLogger("uvicorn.access").handlers.clear()
    logging.getLogger("uvicorn.access").propagate = False
    for name in ("httpx", "httpcore", "pymongo", "aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*_EVERY_LINE, *renderers, _as_bytes],
        logger_factory=_NamedLogger,
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)

"""Logging, in a process of its own since it is configured once a process."""

import json
import os
import pty
import subprocess
import sys

PROGRAM = """
import logging, sys, structlog
logging.getLogger("uvicorn.error").setLevel(logging.INFO)
from shared.log import configure_logging
configure_logging("results", sys.argv[1])
with structlog.contextvars.bound_contextvars(request_id="r-1"):
    structlog.get_logger("ours").info("점수 kept", n=3)
    try:
        1 / 0
    except ZeroDivisionError:
        structlog.get_logger("ours").exception("failed")
logging.getLogger("uvicorn.error").info("started %s", "it", extra={"color_message": "\\x1b[1mstarted\\x1b[0m"})
logging.getLogger("uvicorn.access").info("GET /")
logging.getLogger("httpx").info("request")
"""


def lines(level: str) -> list[dict[str, object]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, level], capture_output=True, check=True, encoding="utf-8")
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_each_line_is_json_with_service_level_time_and_request() -> None:
    kept, failed, started = lines("INFO")
    assert {name: kept[name] for name in ("event", "n", "level", "logger", "service", "request_id")} == {
        "event": "점수 kept",
        "n": 3,
        "level": "info",
        "logger": "ours",
        "service": "results",
        "request_id": "r-1",
    }
    assert str(kept["timestamp"]).endswith("Z")
    assert "ZeroDivisionError" in str(failed["exception"])
    assert started["event"] == "started it"
    assert "color_message" not in started
    assert "request_id" not in started


def test_the_level_holds_for_uvicorn_too() -> None:
    assert [line["event"] for line in lines("WARNING")] == ["failed"]


def test_a_traceback_on_a_terminal_shows_no_local_variables() -> None:
    """API keys and whole bodies are among them."""
    program = """
import structlog
from shared.log import configure_logging
configure_logging("results", "INFO")
def authorize(token):
    raise RuntimeError("the reason")
try:
    authorize("-".join(["a", "secret"]))
except RuntimeError:
    structlog.get_logger("ours").exception("failed")
"""
    terminal, its_end = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=its_end, check=True)
    os.close(its_end)
    shown = b""
    try:
        while chunk := os.read(terminal, 1 << 16):
            shown += chunk
    except OSError:
        pass  # Linux tells the end of a terminal so
    os.close(terminal)
    assert b"the reason" in shown
    assert b"a-secret" not in shown

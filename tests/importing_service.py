"""A results service that only imports, over a real port, for commands that are processes of their own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shared.imports import ImportedFinding, ImportReport
from shared.problems import Problem


class Importing(BaseHTTPRequestHandler):
    """Answers every import with the next of `answers`, then as stored."""

    answers: list[Problem]
    came: threading.Semaphore
    """Released for each import that came."""
    hold: threading.Event
    """While it is not set, nothing is answered."""
    hold_after: int
    """How many are answered all the same."""

    def do_POST(self) -> None:
        while size := int(self.rfile.readline(), 16) if self.headers["Transfer-Encoding"] else 0:
            self.rfile.read(size + 2)
        if not self.headers["Transfer-Encoding"]:
            self.rfile.read(int(self.headers["Content-Length"]))
        self.came.release()
        if self.hold_after:
            type(self).hold_after -= 1
        else:
            self.hold.wait(30)
        if self.answers:
            problem = self.answers.pop(0)
            self._answer(problem.status, problem.document().model_dump_json(exclude_none=True))
            return
        report = ImportReport(
            dry_run=False,
            findings=[ImportedFinding(format="lm-eval", place="p", files=2, rows_taken=2)],
            unrecognised=[],
            files_unrecognised=0,
            complete=True,
        )
        self._answer(200, report.model_dump_json())

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status >= 400 else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def importing(*answers: Problem) -> Iterator[tuple[str, type[Importing]]]:
    """A service that imports; its address, and what it is told by."""

    class Handler(Importing):
        pass

    Handler.answers, Handler.came, Handler.hold = list(answers), threading.Semaphore(0), threading.Event()
    Handler.hold_after = 0
    Handler.hold.set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        Handler.hold.set()
        server.shutdown()

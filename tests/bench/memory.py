"""The memory of a process and of all it started, watched while it lives; Linux only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.2


class MemoryWatch:
    """The most that a process and its children had, each at its own peak: an upper bound of what they had at once."""

    def __init__(self) -> None:
        self.peak_mb = 0.0

    def look(self, pid: int) -> None:
        """Take what there is now into account; a process that ended has nothing."""
        peaks = [_peak_mb(Path("/proc") / str(process)) for process in _family(pid)]
        self.peak_mb = max(self.peak_mb, sum(peaks))


@contextmanager
def watched(watch: MemoryWatch, pid: int) -> Iterator[None]:
    """`watch` looks at this process until the end of the context."""
    is_over = threading.Event()

    def look_on() -> None:
        while not is_over.wait(EVERY_S):
            watch.look(pid)

    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.look(pid)
        is_over.set()
        thread.join()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(file).split():
            yield from _family(int(child))


def _peak_mb(process: Path) -> float:
    """VmHWM: what the kernel says was the most resident memory so far."""
    found = _read(process / "status").partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 / 1e6 if found else 0.0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""

"""Tells what in a folder is finished and was not pushed yet.

The folder is looked through every few seconds rather than watched by the system, since harnesses write to shared disks
where nobody is told of changes. An output is finished when none of its files has changed for a while. What was pushed
is remembered on the disk; to forget it costs only time, for what is stored answers `unchanged`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from scorehouse.documents import Unreadable, find_files
from scorehouse.harness_outputs import FoundOutput, find_outputs, is_document, sizes_and_times
from scorehouse.spool import state_folder
from shared.formats.harness import Finding, HarnessRun, NotReadable, ReadOptions
from shared.formats.json_reading import Unreadable as UnreadableFile
from shared.formats.known import reader_of
from shared.formats.tree import File

RETRY_S = 300
"""How long an output is left alone that the service failed over."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to push that stands in the folder."""

    files: Sequence[File]
    output: FoundOutput | None
    """What a harness wrote; None of a file of documents in Scorehouse's own form."""
    signature: str
    """Changes whenever one of its files does."""

    @property
    def place(self) -> str:
        """Its first file, as seen from the folder."""
        return self.files[0].path


_State = Mapping[str, tuple[int, int]]
"""Size and time of each file."""


@dataclass(slots=True)
class Watched:
    """A folder, what was pushed of it, and what is still being written there."""

    folder: Path
    memory: Path
    """The file in which is kept what was pushed: a line each, so that two watchers may share it."""
    settle_s: float
    """How long nothing must have changed."""
    abandoned_s: float
    """The same for a run that is not whole, and may yet go on."""
    unreadable: Sequence[Unreadable] = ()
    """What could not be looked at, at the last look."""
    _pushed: dict[str, str] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    """Places of what the service refused as it is."""
    _tried: dict[str, tuple[str, float]] = field(default_factory=dict)
    """What was pushed in vain, by place: its signature, and when."""
    _since: dict[str, float] = field(default_factory=dict)
    """Since when each file is as it is."""
    _state: _State = field(default_factory=dict)
    _found_in: _State = field(default_factory=dict)
    """The files as they were when it was last looked into them."""
    _settled: frozenset[str] = frozenset()
    """Those of them that had not changed for long enough."""
    _candidates: Sequence[Candidate] = ()
    _whole: dict[str, bool] = field(default_factory=dict)
    """Whether a run has come to its end, by signature."""

    def __post_init__(self) -> None:
        lines = 0
        with suppress(OSError):
            for line in self.memory.read_bytes().splitlines():
                with suppress(ValueError, KeyError, TypeError, RecursionError):  # a line that was cut off
                    entry = json.loads(line)
                    self._keep(str(entry["place"]), str(entry["signature"]), refused=bool(entry.get("refused")))
                lines += 1
            if lines > 2 * len(self._pushed) + 100:
                unfinished = self.memory.with_name(f"{self.memory.name}.{os.getpid()}")
                unfinished.write_bytes(b"".join(self._line(place) for place in self._pushed))
                unfinished.replace(self.memory)

    def finished(self, now: float) -> list[Candidate]:
        """What is finished and was not pushed as it is. `now` is in seconds, of a clock that is never set back.

        As long as nothing has changed the files are not opened. OSError if the disk fails.
        """
        self._look(now)
        settled = frozenset(path for path, since in self._since.items() if now - since >= self.settle_s)
        due = self._due(now)
        has_news = any(path not in self._settled or self._changed(path) for path in settled)
        if has_news or (due and self._state != self._found_in):
            # A file that came since may belong to what seems finished.
            self._find()
            self._settled = settled & self._found_in.keys()
            due = self._due(now)
        return due

    @property
    def refused(self) -> list[str]:
        """What was refused as it is now, by place: it is left alone until it changes."""
        return [
            candidate.place
            for candidate in self._candidates
            if candidate.place in self._refused and self._pushed.get(candidate.place) == candidate.signature
        ]

    def remember(self, candidate: Candidate, *, refused: bool = False) -> None:
        """This was pushed, or refused as it is: not again until it changes. OSError if that cannot be kept."""
        self._keep(candidate.place, candidate.signature, refused=refused)
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        with self.memory.open("ab") as file:
            file.write(self._line(candidate.place))

    def put_off(self, candidate: Candidate, now: float) -> None:
        """The service failed over it: not again for a while."""
        self._tried[candidate.place] = (candidate.signature, now)

    def _keep(self, place: str, signature: str, *, refused: bool) -> None:
        self._pushed[place] = signature
        (self._refused.add if refused else self._refused.discard)(place)

    def _line(self, place: str) -> bytes:
        """As it is kept. It begins a line of its own also where the one before was cut off."""
        entry = {"place": place, "signature": self._pushed[place], "refused": place in self._refused}
        return f"\n{json.dumps(entry)}".encode()

    def _look(self, now: float) -> None:
        state = sizes_and_times(self.folder)
        for path in self._since.keys() - state.keys():
            del self._since[path]
        for path, one in state.items():
            if self._state.get(path) != one:
                self._since[path] = now
        self._state = state

    def _find(self) -> None:
        found = find_outputs([self.folder])
        links = (item for item in find_files([self.folder]) if isinstance(item, Unreadable))
        self.unreadable = list({item.place: item for item in (*found.unreadable, *links)}.values())
        documents = [([file], None) for file in found.others if is_document(file)]
        outputs = [(output.files, output) for output in found.outputs]
        self._candidates = [
            Candidate(files, output, self._signature(files))
            for files, output in (*outputs, *documents)
            if all(str(file.location) in self._state for file in files)  # else it came after the look
        ]
        self._found_in = self._state
        self._whole = {
            candidate.signature: self._whole[candidate.signature]
            for candidate in self._candidates
            if candidate.signature in self._whole
        }

    def _due(self, now: float) -> list[Candidate]:
        return [candidate for candidate in self._candidates if self._is_due(candidate, now)]

    def _is_due(self, candidate: Candidate, now: float) -> bool:
        if self._pushed.get(candidate.place) == candidate.signature:
            return False
        tried, at = self._tried.get(candidate.place, ("", 0.0))
        if tried == candidate.signature and now - at < RETRY_S:
            return False
        paths = [str(file.location) for file in candidate.files]
        if any(self._changed(path) for path in paths):
            return False
        unchanged_s = now - max(self._since[path] for path in paths)
        if unchanged_s < self.settle_s:
            return False
        if unchanged_s >= self.abandoned_s or candidate.output is None:
            return True
        if candidate.signature not in self._whole:
            self._whole[candidate.signature] = _is_whole(candidate.output)
        return self._whole[candidate.signature]

    def _changed(self, path: str) -> bool:
        """Whether a file is not as it was when it was last looked into, or is gone."""
        return path not in self._state or self._state[path] != self._found_in.get(path)

    def _signature(self, files: Sequence[File]) -> str:
        digest = sha256()
        for file in files:
            size, time = self._state[str(file.location)]
            digest.update(f"{file.path}\n{size}\n{time}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def memory_of(folder: Path, results_url: str) -> Path:
    """Where it is kept what of this folder was pushed to the service at this address."""
    name = sha256(f"{results_url}\n{folder.resolve()}".encode(errors="surrogateescape")).hexdigest()[:16]
    return state_folder() / "watch" / f"{name}.jsonl"


def _is_whole(output: FoundOutput) -> bool:
    """Whether its runs have come to their end. What cannot be read is as whole as it will be: the service will say."""
    if output.format is None:
        return True
    finding = Finding(output.format, output.files)
    try:
        runs = reader_of(finding).read(finding, ReadOptions())
    except (NotReadable, UnreadableFile, OSError):
        return True
    return not any(isinstance(run, HarnessRun) and run.incomplete for run in runs)

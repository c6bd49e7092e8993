"""The file of API keys, edited: one at a time, in one step, with all that people wrote into it kept."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from tomlkit.items import AoT, Array, Comment, InlineTable, Item, Table
from tomlkit.items import Key as Name

from shared.keys import Key, KeyFileError, read_keys


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file being edited; what it says beside the keys stays as it is."""

    document: tomlkit.TOMLDocument
    keys: Sequence[Key]

    def add(self, key: Key) -> None:
        """Put a key at the end."""
        entries = self.document.get("keys")
        if not entries:  # none, or `keys = []`
            self.document["keys"] = entries = tomlkit.aot()
        entry: Table | InlineTable = tomlkit.inline_table() if isinstance(entries, Array) else tomlkit.table()
        entry.add("id", key.id)
        entry.add("sha256", key.sha256)
        entry.add("scopes", sorted(scope.value for scope in key.scopes))
        for name, moment in (("created", key.created), ("expires", key.expires)):
            if moment is not None:
                entry.add(name, moment)
        if isinstance(entries, AoT) and entries:
            entries[-1].add(tomlkit.nl())
        entries.append(entry)

    def remove(self, index: int) -> None:
        """Take out the key at `index`."""
        entries = self.document["keys"]
        assert isinstance(entries, AoT | Array)  # noqa: S101 - `keys` was read from it
        # To tomlkit, what stands above the next [[keys]] is the end of this one.
        after = _remarks_at_end(entries[index].value.body) if isinstance(entries, AoT) else []
        if len(entries) == 1:
            self.document.remove("keys")
            for _, remark in after:
                self.document.add(remark)
            return
        del entries[index]
        if index:
            entries[index - 1].value.body.extend(after)
        else:
            body = self.document.body
            place = next(number for number, (name, _) in enumerate(body) if name is not None and name.key == "keys")
            body[place:place] = after


def _remarks_at_end(body: list[tuple[Name | None, Item]]) -> list[tuple[Name | None, Item]]:
    last = max(number for number, (name, _) in enumerate(body) if name is not None)
    return [(None, item) for _, item in body[last + 1 :] if isinstance(item, Comment)]


@contextmanager
def edit_keys(file: Path, *, may_be_new: bool = False) -> Iterator[KeyFile]:
    """The content of `file`, written back at the end in one step.

    KeyFileError if it is not sound, before or after the edit; nothing is changed then. OSError as the system has it.
    """
    file = file.resolve()  # a link stays one
    with _locked(file.parent):
        text = "" if may_be_new and not file.exists() else file.read_text(encoding="utf-8")
        keys = read_keys(text, file)
        opened = KeyFile(tomlkit.parse(text if text.endswith("\n") else f"{text}\n"), keys)
        yield opened
        text = tomlkit.dumps(opened.document)
        read_keys(text, file)  # what would stop a service from starting is never written
        _replace(file, text)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else edits a key file in `folder` meanwhile. A lock on the file would be on what is being replaced."""
    if sys.platform == "win32":
        raise KeyFileError("key files are edited on Linux or macOS; on Windows do it in WSL")
    import fcntl  # noqa: PLC0415 - Windows has none

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(file: Path, text: str) -> None:
    """Write `file` in one step: a reader sees the old keys or the new. Mode and owner stay; a new file is 0600."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            if file.exists():
                before = file.stat()
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(stream.fileno(), before.st_uid, before.st_gid)
                os.fchmod(stream.fileno(), before.st_mode & 0o7777)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

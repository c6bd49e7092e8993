"""Logs of Inspect (inspect_ai), finished and running: `.json`, and `.eval`, a zip with a member for each sample."""

import codecs
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import msgspec

from shared.formats.harness import Finding, HarnessRun, Ledger, ReadOptions, Sample, Task
from shared.formats.inspect_head import Log, read_log, run_of, scoring_of, stated_by, task_names, task_origin
from shared.formats.inspect_sample import FLAGS, USED, Scoring, sample_of
from shared.formats.json_reading import (
    CONTAINERS_MAX,
    VALUE_MAX_BYTES,
    TooManyContainers,
    Unreadable,
    check_containers,
    read_members,
    read_value,
)
from shared.formats.tree import File
from shared.formats.tree import Tree as Files
from shared.submission import learn

if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError, zipfile

UNPACKED_MAX_BYTES = 64 * 1024**3
"""Of all members of an archive together: 4 GB of zstd hold about half of it."""

SETTLED_WITHIN = 100
"""Samples that are looked at for the first one that has a score."""

_ZIP = b"PK\x03\x04"
_NAME_AT = 30
"""Where in a zip its first member's name stands."""
_HEADER = "header.json"
_START = "_journal/start.json"
_SAMPLE = re.compile(r"samples/(.*)_epoch_(\d+)\.json", re.DOTALL)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_ZSTANDARD)
_DAMAGE = (zipfile.BadZipFile, ZstdError, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError)
"""What a damaged, encrypted or otherwise packed member raises."""
_BULK = ("samples", "reductions")
_WORD_BYTES = 5
"""A field of at most as many bytes (`null`, `[]`, `{}`, `false`) may say nothing."""
_VALUES = USED - FLAGS - {"attachments"}

Fields = dict[str, msgspec.Raw]
learn(Fields)
_FIELDS = msgspec.json.Decoder(Fields)


class InspectLog:
    """The format; has no state."""

    name = "inspect_ai"
    title = "Inspect"

    def find(self, tree: Files) -> Iterator[Finding]:
        """Each log is a finding of its own, whatever it is called."""
        for file in tree.values():
            head = file.head()
            if _is_archive(file, head) if head.startswith(_ZIP) else _is_json(file, head):
                yield Finding(self.name, (file,))

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """One run. Unreadable if it has no head, NotReadable if it has not the scorer that is asked for."""
        file = finding.files[0]
        packed = file.head(len(_ZIP)) == _ZIP
        log, has_samples = _archive_head(file) if packed else _json_head(file)
        scoring = scoring_of(log, options.metric)
        if has_samples:
            scoring = _settled(scoring, file, log)
        task = Task(
            names=task_names(log.eval),
            samples=partial(_read_samples, file, log, scoring) if has_samples else None,
            stated=list(stated_by(log)),
            metric=scoring.metric,
            version=str(log.eval.task_version) if log.eval.task_version else None,
            origin=task_origin(log.eval),
            expected=log.expected,
            files=finding.files,
        )
        warnings = ["the log is marked as invalidated"] if log.invalidated else []
        scorers = list(dict.fromkeys(score.scorer or score.name for score in log.scores))
        if len(scorers) > 1 and options.metric is None:
            warnings.append(f"there are several scorers ({', '.join(scorers)}): the score is {scoring.metric}'s")
        run = run_of(log, task, warnings)
        return [run if packed or _ends_well(file) else replace(run, incomplete="the file ends too early")]


INSPECT = InspectLog()


def _rows(file: File, log: Log) -> Iterator[tuple[str, Any]]:
    """Place and fields of each sample, ordered by epoch and id; Unreadable stands in for one that cannot be read."""
    return _archive_samples(file, log) if file.head(len(_ZIP)) == _ZIP else _json_samples(file)


def _settled(scoring: Scoring, file: File, log: Log) -> Scoring:
    """What of the samples is their score, with what the head leaves open taken from the first that has one."""
    try:
        for _, row in islice(_rows(file, log), SETTLED_WITHIN):
            if isinstance(row, dict) and (settled := scoring.settled(row)) is not None:
                return settled
    except Unreadable:  # whoever reads all of them hears of it
        pass
    return scoring


def _read_samples(file: File, log: Log, scoring: Scoring, ledger: Ledger) -> Iterator[Sample]:
    number = 0
    for place, row in _rows(file, log):
        number += 1
        if isinstance(row, Unreadable):
            ledger.refuse(place, row.reason)
            continue
        try:
            sample = sample_of(row, scoring, ledger)
        except ValueError as error:
            ledger.refuse(place, str(error))
            continue
        yield sample
    if log.expected is not None and number < log.expected:
        ledger.warn(f"the log speaks of {log.expected:,} samples and holds {number:,}")


def _is_json(file: File, head: bytes) -> bool:
    if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") or b'"eval"' not in head:
        return False
    spec = None
    with file.open() as stream:
        try:
            for key, inner, value in read_members(stream, file.path, into=_BULK):
                if key == "eval" or inner is not None:
                    spec = value if key == "eval" else None
                    break
        except Unreadable:
            return False
    return (
        isinstance(spec, dict)
        and isinstance(spec.get("task"), str)
        and isinstance(spec.get("model"), str)
        and isinstance(spec.get("dataset"), dict)
    )


def _json_head(file: File) -> tuple[Log, bool]:
    members: dict[str, Any] = {}
    has_samples = False
    with file.open() as stream:
        try:
            for key, inner, value in read_members(stream, file.path, into=_BULK):
                if key == "samples" and inner is not None:
                    has_samples = True
                    if {"eval", "status"} <= members.keys():
                        break
                elif inner is None:
                    members[str(key)] = value
        except Unreadable:
            if "eval" not in members:
                raise
            has_samples = True  # whoever reads them gets to where it ends, and hears of it
    return _checked(file, members), has_samples


def _ends_well(file: File) -> bool:
    """Whether a `.json` could be whole, as far as its last bytes say."""
    with file.open() as stream:
        stream.seek(max(0, file.size - 64))
        return stream.read().rstrip().endswith(b"}")


def _json_samples(file: File) -> Iterator[tuple[str, Any]]:
    with file.open() as stream:
        began = False
        for key, inner, value in read_members(stream, file.path, into=_BULK):
            if key == "samples" and inner is not None:
                began = True
                place = f"{file.path}: samples[{inner}]"
                yield place, value if isinstance(value, dict) else Unreadable(place, "is no object")
            elif began:
                return


def _is_archive(file: File, head: bytes) -> bool:
    length = int.from_bytes(head[26:28], "little")
    if head[_NAME_AT : _NAME_AT + length].decode("utf-8", "replace") in (_HEADER, _START):
        return True
    try:
        with _archive(file) as archive:
            return not {_HEADER, _START}.isdisjoint(archive.NameToInfo)
    except Unreadable:
        return False


@contextmanager
def _archive(file: File) -> Iterator[zipfile.ZipFile]:
    with file.open() as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except (*_DAMAGE, ValueError) as error:
            raise Unreadable(file.path, f"is no whole zip archive ({error}): it was cut short, or is damaged") from None
        with archive:
            yield archive


def _archive_head(file: File) -> tuple[Log, bool]:
    with _archive(file) as archive:
        members = archive.NameToInfo
        if sum(info.file_size for info in members.values()) > UNPACKED_MAX_BYTES:
            raise Unreadable(file.path, f"unpacks to more than {UNPACKED_MAX_BYTES:,} bytes")
        name = _HEADER if _HEADER in members else _START
        if name not in members:
            raise Unreadable(file.path, f"has neither {_HEADER} nor {_START}")
        try:
            value = read_value(_unpacked(archive, members[name]))
        except ValueError as error:
            raise Unreadable(f"{file.path}:{name}", f"is not JSON: {error}") from None
        except Unreadable as error:
            raise Unreadable(f"{file.path}:{error.place}", error.reason) from None
        return _checked(file, value), any(map(_SAMPLE.fullmatch, members))


def _archive_samples(file: File, log: Log) -> Iterator[tuple[str, Any]]:
    with _archive(file) as archive:
        for info in _in_order(archive, log):
            place = f"{file.path}:{info.filename}"
            try:
                yield place, _sample(_unpacked(archive, info))
            except Unreadable as error:
                yield place, error
            except ValueError as error:
                is_json = isinstance(error, TooManyContainers)
                yield place, Unreadable(place, str(error) if is_json else "is not JSON")


def _in_order(archive: zipfile.ZipFile, log: Log) -> Iterable[zipfile.ZipInfo]:
    """The samples in the order in which Inspect writes them into a `.json`; of several of one name the last."""
    ids = log.eval.dataset.sample_ids if log.eval.dataset else None
    # Numbers are ordered as numbers; a member's name does not say whether its digits are one, or a text.
    texts = bool(ids) and all(isinstance(id_, str) for id_ in ids or ())
    keyed = []
    for name, info in archive.NameToInfo.items():
        if match := _SAMPLE.fullmatch(name):
            id_ = match[1] if texts or not match[1].lstrip("-").isdecimal() else match[1].zfill(20)
            keyed.append((int(match[2]), id_, info))
    keyed.sort(key=lambda key: key[:2])
    return [info for _, _, info in keyed]


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes; never more than it says it has, which a bomb would."""
    if info.file_size > VALUE_MAX_BYTES:
        raise Unreadable(info.filename, f"has more than {VALUE_MAX_BYTES:,} bytes")
    if info.compress_type not in _METHODS:
        raise Unreadable(info.filename, "is packed by a method that is not read: deflate and zstd are")
    try:
        with archive.open(info) as member:
            data = member.read(info.file_size)
    except _DAMAGE as error:
        raise Unreadable(info.filename, f"cannot be unpacked: {type(error).__name__}") from None
    if len(data) < info.file_size:
        raise Unreadable(info.filename, "is shorter than its archive says")
    return data


def _sample(data: bytes) -> Any:  # noqa: ANN401
    """A sample's fields that are used; of the others, whether there is anything in them."""
    try:
        fields = _FIELDS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # NaN, for one
        value = read_value(data)
        return value if isinstance(value, dict) else Unreadable("", "is no object")
    decode = msgspec.json.decode
    sample: dict[str, Any] = {}
    for key, raw in fields.items():
        if key in _VALUES:
            if memoryview(raw).nbytes > CONTAINERS_MAX:
                check_containers(bytes(raw))
            sample[key] = decode(raw)
        else:
            sample[key] = memoryview(raw).nbytes > _WORD_BYTES or bool(decode(raw))
    if b'"attachment://' in b"".join(bytes(fields[key]) for key in _REFERRING if key in fields):
        sample["attachments"] = decode(fields["attachments"]) if "attachments" in fields else {}
    return sample


_REFERRING = ("input", "choices", "target", "output", "scores")
"""The fields whose texts may stand among the attachments."""


def _checked(file: File, value: object) -> Log:
    try:
        return read_log(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise Unreadable(file.path, f"is no log that can be read: {error}") from None

"""What a harness's task is in the registry, and which of a sample's own fields are metadata."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any

from shared.names import FIELD_NAME, ROW_KEYS, table_suffix
from shared.registry.specs import BenchmarkSpec, FieldSpec, Registry
from shared.registry.spellings import NamePattern, Value, fold

TEXT_MAX = 200
"""Characters of a text that may become metadata of a benchmark that nobody registered."""
CACHE_MAX = 10_000
NAME_MAX = 48
"""Characters that a registered benchmark's name may have (`shared.names.BENCHMARK_NAME`)."""
TASK_NAME_MAX = 1000
"""Characters of a task's name that patterns are tried on: their time may grow with its square."""
OTHER = "-other"
UNMAPPED_MAX = 100
"""Values that cannot be converted are told one by one up to this many; then by field alone."""

_SCALARS = frozenset({str, int, float, bool})
_UNTOLD = ("", "default")
"""Says nothing; a data set without subsets has one called `default`."""
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class TaskMapping:
    """The benchmark that a task is."""

    benchmark: str
    registered: bool
    metadata: Mapping[str, Value] = field(default_factory=dict)
    """What the task's name says of all its questions: {"subject": "anatomy"} in `mmlu_anatomy`."""


def map_task(names: Sequence[str], registry: Registry, own_name: str | None = None) -> TaskMapping:
    """The benchmark that the first known of a task's names means; a benchmark of its own where none is known.

    That is called `own_name`, or as the task's first name is.

    Names are compared folded: whole, then without what stands before the last `/`. A benchmark's exact names come
    before patterns. A name that is a pattern's but for the value (`mmlu_anatomy_continuation`) is a variant: being made
    of a benchmark's data set (a name with `/`) does not make it that benchmark.
    """
    known = _known_names(registry)
    variant_of: set[str] = set()
    for name in names:
        if len(name) > TASK_NAME_MAX:
            continue
        last = fold(name.rpartition("/")[2])
        for spelling in dict.fromkeys((fold(name), last)):
            mapping = known.find(spelling)
            if mapping and not ("/" in name and mapping.benchmark in variant_of):
                return mapping
        variant_of |= known.resembled(last)
    return TaskMapping(_own_name(own_name or names[0], registry), registered=False)


@lru_cache(maxsize=4096)
def field_name(key: str) -> str | None:
    """What a harness's field is called as metadata: `Problem Number` is `problem_number`; None if it cannot be one.

    Keys of an answer's rows get a `_` behind: `value` is `value_`.
    """
    name = re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")
    name = f"{name}_" if name in ROW_KEYS else name
    return name if FIELD_NAME.fullmatch(name) else None


class MetadataMapper:
    """Reads a benchmark's metadata from what samples come with.

    Of a registered benchmark: its fields, converted to their types, from the places that the registry names. Of any
    other: every short scalar, as it is, under its `field_name`; of two with the same name the first.
    """

    def __init__(self, spec: BenchmarkSpec | None) -> None:
        self.unmapped: Counter[str] = Counter()
        """Values that a field cannot take, with the rows that had them: `level: '?'`."""
        self.used: set[str] = set()
        """Paths of what became metadata, such as `doc.level`."""
        self._reader = _FieldsReader(spec) if spec else None
        self._task: tuple[Mapping[str, Value], Mapping[str, Any]] = ({}, {})
        self._cache: dict[tuple[Any, ...], _Read] = {}

    def read(
        self, origin: Mapping[str, Any], task_metadata: Mapping[str, Value], task_origin: Mapping[str, Any] = _NOTHING
    ) -> dict[str, Value]:
        """The metadata of a sample: from its own origin, else what the task's name says, else from the task's origin.

        Samples alike may get the same dict: not to be changed. Fastest while the task's two stay the same objects.
        """
        if self._reader is None:
            return self._take_all(origin, task_origin)
        if task_metadata is not self._task[0] or task_origin is not self._task[1]:
            self._task = (task_metadata, task_origin)
            self._cache.clear()
        found = self._reader.find(origin)
        # 1, 1.0 and true are equal, and not the same.
        key = (found, tuple(map(type, found)))
        try:
            read = self._cache.get(key)
        except TypeError:  # a list or an object stands at one of the places
            found = tuple([value if type(value) in _SCALARS else None for value in found])
            key = (found, tuple(map(type, found)))
            read = self._cache.get(key)
        if read is None:
            if len(self._cache) >= CACHE_MAX:
                self._cache.clear()
            read = self._cache[key] = self._reader.read(found, task_metadata, self._reader.find(task_origin))
            self.used |= read.used
        for text in read.unmapped:
            known = text in self.unmapped or len(self.unmapped) < UNMAPPED_MAX
            self.unmapped[text if known else text.partition(":")[0]] += 1
        return read.metadata

    def _take_all(self, *origins: Mapping[str, Any]) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for origin in origins:
            for path, name, value in read_scalars(origin):
                if name not in metadata:
                    metadata[name] = value
                    self.used.add(path)
        return metadata


@dataclass(frozen=True, slots=True)
class _Read:
    metadata: dict[str, Value]
    unmapped: Sequence[str]
    used: Set[str]


class _FieldsReader:
    """Reads the fields of a registered benchmark."""

    def __init__(self, spec: BenchmarkSpec) -> None:
        self._fields = spec.fields
        self._children_first = sorted(spec.fields, key=lambda item: -_depth(item, spec))
        paths = dict.fromkeys(path for item in spec.fields for path in item.all_places)
        by_table: dict[tuple[str, ...], list[str]] = {}
        for path in paths:
            *outer, last = path.split(".")
            by_table.setdefault(tuple(outer), []).append(last)
        self._tables = list(by_table.items())
        order = [".".join((*outer, last)) for outer, keys in self._tables for last in keys]
        self._positions = {path: order.index(path) for path in paths}

    def find(self, origin: Mapping[str, Any]) -> tuple[Any, ...]:
        """What stands at each of the places; this runs for every row, so each object is looked up once."""
        found: list[Any] = []
        for outer, keys in self._tables:
            table: Any = origin
            for key in outer:
                table = table.get(key) if type(table) is dict else None
            if table is origin or type(table) is dict:
                found += [table.get(key) for key in keys]
            else:
                found += [None] * len(keys)
        return tuple(found)

    def read(self, found: Sequence[Any], task_metadata: Mapping[str, Value], of_task: Sequence[Any]) -> _Read:
        """The fields' values out of what `find` found in a sample and its task."""
        metadata: dict[str, Value] = {}
        unmapped: list[str] = []
        used: set[str] = set()
        for item in self._fields:
            told = [(path, found[self._positions[path]]) for path in item.all_places]
            told.append(("", task_metadata.get(item.name)))
            told += [(path, of_task[self._positions[path]]) for path in item.all_places]
            told = [(path, value) for path, value in told if type(value) in _SCALARS and value not in _UNTOLD]
            for path, value in told:
                read = item.read(value)
                if read is not None:
                    metadata[item.name] = read
                    used |= {path} - {""}
                    break
            else:
                unmapped += [f"{item.name}: {str(value)[:60]!r}" for _, value in told[:1]]
        for item in self._children_first:
            if item.parent and item.parent not in metadata and item.name in metadata:
                parent = item.parent_of.get(metadata[item.name])
                if parent is not None:
                    metadata[item.parent] = parent
        return _Read(metadata, unmapped, used)


def _depth(item: FieldSpec, spec: BenchmarkSpec) -> int:
    return 0 if item.parent is None else 1 + _depth(spec.by_name[item.parent], spec)


def read_scalars(origin: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str, Value]]:
    """Path, field name and value of what becomes metadata where nobody registered the benchmark."""
    found: list[tuple[str, str, Value]] = []
    for key, value in origin.items():
        kind = type(value)
        if kind is dict:
            found += read_scalars(value, f"{prefix}{key}.")
        elif kind in _SCALARS and (0 < len(value) <= TEXT_MAX if kind is str else kind is not float or isfinite(value)):
            name = field_name(key)
            if name is not None:
                found.append((prefix + key, name, value))
    return found


@dataclass(frozen=True, slots=True)
class _KnownNames:
    """The names that the registry knows tasks by."""

    exact: Mapping[str, str]
    """Benchmarks by folded name."""
    patterns: Sequence[tuple[NamePattern, BenchmarkSpec]]
    """The most exact first."""

    def find(self, folded: str) -> TaskMapping | None:
        """What a folded name means."""
        if folded in self.exact:
            return TaskMapping(self.exact[folded], registered=True)
        for pattern, spec in self.patterns:
            texts = pattern.match(folded)
            read = {name: spec.by_name[name].read(text) for name, text in (texts or {}).items()}
            metadata = {name: value for name, value in read.items() if value is not None}
            if texts and len(metadata) == len(texts):
                return TaskMapping(spec.name, registered=True, metadata=metadata)
        return None

    def resembled(self, folded: str) -> set[str]:
        """The benchmarks that have a pattern which fits but for the values."""
        return {spec.name for pattern, spec in self.patterns if pattern.loose.fullmatch(folded)}


@lru_cache(maxsize=8)
def _known_names(registry: Registry) -> _KnownNames:
    specs = registry.benchmarks.values()
    patterns = [(pattern, spec) for spec in specs for pattern in spec.name_patterns]
    patterns.sort(key=lambda item: -item[0].literals)
    exact = {name: spec.name for spec in specs for name in spec.claimed_names if "{}" not in name}
    return _KnownNames(exact, patterns)


def _own_name(name: str, registry: Registry) -> str:
    """A harness's name made fit for a benchmark that is none of the registered."""
    fit = (
        re.sub(r"[^a-z0-9._-]+", "-", name[-TASK_NAME_MAX:].rpartition("/")[2].lower())[:NAME_MAX].strip("._-")
        or "unknown"
    )
    tables = {table_suffix(benchmark) for benchmark in registry.benchmarks}
    return fit if table_suffix(fit) not in tables else f"{fit[: NAME_MAX - len(OTHER)]}{OTHER}"

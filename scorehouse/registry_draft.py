"""Drafts a registry file for a benchmark that nobody registered, out of the questions that were seen of it."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from shared.names import FIELD_NAME, ROW_KEYS
from shared.registry.specs import FieldType
from shared.registry.spellings import Value, fold

QUESTIONS_MAX = 100_000
"""Questions that are looked at of one benchmark."""
LISTED_VALUES_MAX = 30
FIELDS_MAX = 32
ALL_DIFFERENT_MAX = 4
"""Questions up to which a field may tell each from the others and be no id."""
QUESTIONS_PER_VALUE_MIN = 3
"""Questions for each value, on average, from which one field is believed to refine another."""
WIDTH = 118
SHOWN_MAX = 60


class Survey:
    """What was seen of one benchmark."""

    def __init__(self) -> None:
        self.spellings: Counter[str] = Counter()
        """Answers by the benchmark's name as results are stored under it, which may differ in `-` and `_`."""
        self.runs: Counter[str] = Counter()
        """Runs by where they come from."""
        self.names: dict[str, None] = {}
        """What harnesses call it."""
        self.other_names: dict[str, None] = {}
        """What else they call it, which may mean other benchmarks, too: data sets, groups."""
        self.counts: list[int] = []
        """Different questions of each run."""
        self.scores: tuple[float, float] | None = None
        """The least and the greatest."""
        self.questions: dict[str, Mapping[str, Value]] = {}
        """Metadata by question."""
        self.places: dict[str, dict[str, None]] = {}
        """Paths by field."""
        self.types: dict[str, set[type]] = {}
        """Types of all its values by field: the same question may come with another one from elsewhere."""
        self.unfit: dict[str, None] = {}
        """Keys of metadata that no field can have."""
        self._source = self._spelling = ""
        self._of_run: set[str] = set()

    @property
    def benchmark(self) -> str:
        """Its name: the spelling with the most answers."""
        return self.spellings.most_common(1)[0][0]

    def begin_run(self, source: str, spelling: str) -> None:
        """All that is added from here on is of another run; one without questions does not count."""
        self._source, self._spelling, self._of_run = source, spelling, set()

    def name(self, names: Sequence[str]) -> None:
        """Keep what a harness calls it, the most exact name first."""
        self.names.update(dict.fromkeys(names[:1]))
        self.other_names.update(dict.fromkeys(names[1:]))

    def add(self, question_id: str, found: Iterable[tuple[str, str, Value]], score: float | None) -> None:
        """Count an answer; `found` is path, name and value of its metadata, the first of a name counts."""
        self.spellings[self._spelling] += 1
        if not self._of_run:
            self.runs[self._source] += 1
            self.counts.append(0)
        if question_id not in self._of_run:
            self._of_run.add(question_id)
            self.counts[-1] += 1
        if score is not None and math.isfinite(score):
            low, high = self.scores or (score, score)
            self.scores = (min(low, score), max(high, score))
        metadata: dict[str, Value] = {}
        for path, name, value in found:
            if not FIELD_NAME.fullmatch(name) or name in ROW_KEYS:
                self.unfit[name] = None
            elif name not in metadata:
                metadata[name] = value
                self.places.setdefault(name, {})[path] = None
                self.types.setdefault(name, set()).add(type(value))
        if len(self.questions) < QUESTIONS_MAX:
            self.questions.setdefault(question_id, metadata)


@dataclass(frozen=True, slots=True)
class _Column:
    """One field's values over the questions that have one."""

    name: str
    values: Mapping[str, Value]
    """By question."""
    types: Set[type]

    @property
    def distinct(self) -> set[Value]:
        return set(self.values.values())

    @property
    def type(self) -> FieldType | None:
        """None where the values are of several types, which no field can hold."""
        if self.types == {int, float}:
            return FieldType.NUMBER
        types = {str: FieldType.CATEGORY, bool: FieldType.BOOLEAN, int: FieldType.INTEGER, float: FieldType.NUMBER}
        return types[next(iter(self.types))] if len(self.types) == 1 else None

    @property
    def why_not(self) -> str | None:
        """Why it is of no use as a field; None if it is."""
        distinct, count = len(self.distinct), len(self.values)
        first = _shown(next(iter(self.values.values()), ""))
        reasons = {
            "none of the questions that were looked at has it": not count,
            "its values are of several types": self.type is None,
            "it has values beyond what a field holds": self.type and not all(map(self.type.fits, self.values.values())),
            f"it is the same for all: {first}": distinct == 1,
            f"each of {count:,} questions has another one: {first}": distinct == count > ALL_DIFFERENT_MAX,
            f"it has {distinct:,} values for {count:,} questions, too many to group by": (
                distinct > LISTED_VALUES_MAX and distinct * 2 > count
            ),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


def draft(survey: Survey) -> str:
    """A registry file, as TOML, with comments where somebody has to look."""
    by_name = {
        name: _Column(name, {id_: found[name] for id_, found in survey.questions.items() if name in found}, kinds)
        for name, kinds in survey.types.items()
    }
    useful = [column for column in by_name.values() if column.why_not is None]
    useful.sort(key=lambda column: (len(column.distinct), column.name))
    fields, too_many = useful[:FIELDS_MAX], useful[FIELDS_MAX:]
    lines = [*_head(survey), ""]
    for column in fields:
        lines += [*_field(column, survey, fields), ""]
    left = {column.name: column.why_not for column in by_name.values() if column.why_not is not None}
    left |= {column.name: f"a benchmark has at most {FIELDS_MAX} fields" for column in too_many}
    left |= dict.fromkeys(survey.unfit, "no field can be called that; name it otherwise in what you push")
    if left:
        lines.append("# Left out:")
        lines += [f"#   {_quote(name)[1:-1]}: {reason}" for name, reason in left.items()]
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(survey: Survey) -> Iterator[str]:
    runs = ", ".join(f"{runs:,} {'run' if runs == 1 else 'runs'} of {source}" for source, runs in survey.runs.items())
    yield f"# Drafted by 'scorehouse registry suggest' from {len(survey.questions):,} questions: {runs}."
    if len(survey.questions) >= QUESTIONS_MAX:
        yield "# There are more questions: these are the first."
    yield "# Check what is marked, put the file where SCOREHOUSE_REGISTRY_DIR says, and restart both services."
    yield f"name = {_quote(survey.benchmark)}"
    others = ", ".join(_quote(spelling) for spelling in survey.spellings if spelling != survey.benchmark)
    if others:
        yield f"# check: results were stored as {others}, too; those stay by themselves"
    yield f'title = {{ en = {_quote(survey.benchmark)} }}  # check: what people call it; add ko = "…"'
    yield 'description = { en = "Not described yet." }  # check: one or two sentences'
    yield from _scale(survey)
    counts = sorted(set(survey.counts))
    if len(counts) == 1:
        yield f"question_count = {counts[0]}  # check: as many were seen; a run cut short has fewer"
    elif len(counts) > 1:
        yield f"# question_count = {counts[-1]}  # check: runs had from {counts[0]:,} to {counts[-1]:,} questions"
    known = fold(survey.benchmark)
    names = [name for name in survey.names if known not in (fold(name), fold(name.rpartition("/")[2]))]
    names = [name for name in names if not set("{}") & set(name)]
    if names:
        yield f"harness_names = {_list(names)}"
    more = [name for name in survey.other_names if name not in survey.names and fold(name) != known]
    if more:
        yield f"# Also told, add those that mean nothing else: {', '.join(map(_quote, more[:10]))}"


def _scale(survey: Survey) -> Iterator[str]:
    if survey.scores is None:
        yield "# score_min, score_max: no score was seen; the scale is 0 to 1 if nothing is said"
        return
    low, high = survey.scores
    if low < 0 or high > 1:
        yield f"# check the scale: scores from {low:g} to {high:g} were seen"
        yield f"score_min = {float(math.floor(min(low, 0))):.1f}"
        yield f"score_max = {next((top for top in (1.0, 10.0, 100.0) if high <= top), float(math.ceil(high))):.1f}"
    yield "# chance_level = 0.25  # check: the mean score of guessing, if answers can be guessed"


def _field(column: _Column, survey: Survey, fields: Sequence[_Column]) -> Iterator[str]:
    yield "[[fields]]"
    yield f"name = {_quote(column.name)}"
    yield f"type = {_quote(column.type or '')}"
    distinct = len(column.distinct)
    missing = len(survey.questions) - len(column.values)
    told = f"{distinct:,} values" + (f"; {missing:,} questions have none" if missing else "")
    if column.type is FieldType.CATEGORY and distinct <= LISTED_VALUES_MAX:
        yield f"# {told}; check: the order in which they are shown"
        yield f"values = {_list(sorted(map(str, column.distinct), key=_natural))}"
    else:
        examples = sorted(column.distinct, key=lambda value: _natural(str(value)))[:3]
        yield f"# {told}, such as {', '.join(map(_shown, examples))}"
    if all(isinstance(value, str) and value.strip().isdecimal() for value in column.distinct):
        yield "# these are texts: as an integer field it would not fit what is stored already"
    parent = _parent(column, fields)
    if parent is not None:
        yield f"# check: a guess, as each value has one {parent.name} only"
        yield f"parent = {_quote(parent.name)}"
    yield f"places = {_list(survey.places[column.name])}"
    yield f"description = {{ en = {_quote(column.name.replace('_', ' ').strip().capitalize() + '.')} }}  # check"


def _parent(column: _Column, fields: Sequence[_Column]) -> _Column | None:
    """The field with the most values, though fewer, of which each of this one's values has only one."""
    distinct = len(column.distinct)
    if column.type is not FieldType.CATEGORY or len(column.values) < QUESTIONS_PER_VALUE_MIN * distinct:
        return None
    coarser = [
        other
        for other in fields
        if len(other.distinct) < distinct and other.type is FieldType.CATEGORY and _determines(column, other)
    ]
    return max(coarser, key=lambda other: len(other.distinct), default=None)


def _determines(column: _Column, other: _Column) -> bool:
    found: dict[Value, Value] = {}
    for question, value in column.values.items():
        if question not in other.values or found.setdefault(value, other.values[question]) != other.values[question]:
            return False
    return True


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A key that puts `Level 2` before `Level 10`."""
    pieces = re.split(r"([0-9]{1,18})", text.casefold())
    return [(0, int(piece), "") if index % 2 else (1, 0, piece) for index, piece in enumerate(pieces) if piece]


def _shown(value: Value) -> str:
    """A value for a comment."""
    text = _quote(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _quote(value: Value | FieldType) -> str:
    """A value as TOML writes it, which for strings is nearly as JSON does."""
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _list(values: Iterable[str]) -> str:
    """An array, on one line where it fits."""
    quoted = [_quote(value) for value in values]
    line = f"[{', '.join(quoted)}]"
    return (
        line
        if len(line) <= WIDTH - len("harness_names = ")
        else "[\n" + "".join(f"    {one},\n" for one in quoted) + "]"
    )

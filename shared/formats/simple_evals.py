"""simple-evals: `{eval}_{model}_{date}_allresults.json`, or only the metrics without `_allresults`.

The files say neither which eval it was nor when: simple-evals writes that into their names alone. So their names are
read as if they were content: the eval is what they begin with, the time is what they end with (the clock of the machine
that ran it, taken as UTC), and a copy under another name is another run, or none where the name says no eval. Which
model it was has to be said, because names of models hold `_` too.

Questions have no ids. Theirs are made of their words, and not of their position: `--examples` draws other positions.
"""

import re
import sys
from ast import literal_eval
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from html import unescape
from itertools import zip_longest
from math import isfinite
from typing import Any, NamedTuple

from shared.formats.content import content_hash
from shared.formats.harness import Finding, HarnessRun, Ledger, NotReadable, ReadOptions, Sample, Stated, Task
from shared.formats.json_reading import Unreadable, read_file, read_members, read_value
from shared.formats.tree import File, Tree
from shared.submission import Status

HEAD_BYTES = 64 * 1024
METRICS_MAX_BYTES = 256 * 1024
"""A file of metrics alone is smaller."""
ANSWER_MAX = 1000
"""Characters of an extracted answer that are held; a longer one is the response itself, as in SimpleQA."""
LISTED_MAX = 10_000
"""Characters of a list that is read."""
ALL_RESULTS = "_allresults"

NAMES = {
    "browsecomp": ("browsecomp",),
    "drop": ("drop",),
    "gpqa": ("gpqa_diamond", "gpqa"),
    "healthbench": ("healthbench",),
    "healthbench_consensus": ("healthbench_consensus",),
    "healthbench_hard": ("healthbench_hard",),
    "healthbench_meta": ("healthbench_meta",),
    "humaneval": ("humaneval",),
    "math": ("math",),
    "mgsm": ("mgsm",),
    "mmlu": ("mmlu",),
    "simpleqa": ("simpleqa",),
}
"""What simple-evals calls its evals, and what others call them."""

IN_LISTS = ("drop", "humaneval")
"""Evals that report all right answers, and of the model's answers whether they passed or only those that did."""

_FILE_NAME = re.compile(
    rf"(?P<eval>{'|'.join(sorted(NAMES, reverse=True))}|[^_]+(?=_.*_\d{{8}}_\d{{4}}))"
    r"(?:_(?P<model>.+?))??(?:_(?P<date>\d{8}_\d{4}(?:\d\d)?))?(?P<debug>_DEBUG)?"
)
"""An eval that is not known is only taken for one where a date shows that simple-evals made the name."""
_BEGINS_WITH_SCORE = re.compile(rb'\s*\{\s*"score"\s*:\s*[^\s,{\[]+\s*,\s*"metrics"\s*:\s*\{')
_GOES_ON = re.compile(_BEGINS_WITH_SCORE.pattern + rb'[^{}]*\}\s*,\s*"htmls"\s*:\s*\[')
_BEGINS_WITH_NUMBER = re.compile(rb'\s*\{\s*"[^"]+"\s*:\s*(?:[-.\d]|null|NaN)')
_SPREAD = re.compile(rb'"score:(?:std|bootstrap_std)"\s*:')
_ARRAYS = ("htmls", "convos", "metadata")

# What simple-evals writes below each conversation. It escapes all texts above and in it, so no text can look like this.
_VERDICT = re.compile(
    r"<h3>Results</h3>\s*(?:<p>Correct Answer: (?P<target>[^<]*)</p>\s*)?"
    r"<p>Extracted Answer: (?P<answer>[^<]*)</p>\s*<p>Score: (?P<score>[^<]*)</p>"
)


class SimpleEvals:
    """The results of OpenAI's simple-evals."""

    name = "simple_evals"
    title = "simple-evals"

    def find(self, tree: Tree) -> Iterable[Finding]:
        """Each file of all results, with the metrics and the report of the same name; else each file of metrics."""
        metrics: list[File] = []
        taken: set[str] = set()
        for path, file in tree.items():
            if not path.endswith(".json"):
                continue
            if _has_all_results(file):
                stem = path.removesuffix(".json").removesuffix(ALL_RESULTS)
                beside = [tree[f"{stem}{end}"] for end in (".json", ".html") if f"{stem}{end}" in tree]
                files = [file, *(other for other in beside if other is not file)]
                taken |= {other.path for other in files}
                yield Finding(self.name, files)
            elif _has_metrics(file):
                metrics.append(file)
        for file in metrics:
            if file.path not in taken:
                report = tree.get(f"{file.path.removesuffix('.json')}.html")
                yield Finding(self.name, [file, report] if report else [file])

    def read(self, finding: Finding, options: ReadOptions) -> Sequence[HarnessRun]:
        """The run: one model on one eval. NotReadable without `options.model_id`, and where the name says no eval."""
        file = finding.files[0]
        name = _FILE_NAME.fullmatch(file.name.removesuffix(".json").removesuffix(ALL_RESULTS))
        if name is None:
            known = ", ".join(NAMES)
            raise NotReadable(f"{file.path} does not say which eval it is: its name must begin with one of {known}")
        if options.model_id is None:
            guess = f", such as {name['model']!r}" if name["model"] else ""
            raise NotReadable(f"{file.path} does not say which model it is: say it as model_id{guess}")
        with_samples = _has_all_results(file)
        timestamp, warnings = _timestamp(name["date"])
        if name["debug"]:
            warnings.append("it is a run with --debug: of a few questions")
        task = Task(
            names=NAMES.get(name["eval"], (name["eval"],)),
            samples=_Rows(file, name["eval"] in IN_LISTS).read if with_samples else None,
            stated=_stated(_read_metrics(file) if with_samples else read_file(file)),
            metric="score",
            files=[file] if with_samples else [],
        )
        config = {"sampler": name["model"]} if name["model"] else {}
        return [HarnessRun(options.model_id, [task], timestamp, config=config, warnings=warnings)]


SIMPLE_EVALS = SimpleEvals()


def _has_all_results(file: File) -> bool:
    return bool(_BEGINS_WITH_SCORE.match(file.head(256)) and _GOES_ON.match(file.head(HEAD_BYTES)))


def _has_metrics(file: File) -> bool:
    """Whether it is one object of numbers, with a score and how much it spreads."""
    if file.size > METRICS_MAX_BYTES or not _BEGINS_WITH_NUMBER.match(file.head(256)):
        return False
    text = file.head(METRICS_MAX_BYTES)
    try:
        value = read_value(text) if _SPREAD.search(text) else None
    except ValueError:
        return False
    return isinstance(value, dict) and "score" in value and all(map(_is_number, value.values()))


def _is_number(value: Any) -> bool:  # noqa: ANN401
    """Whether it is a number that a float can be, or null."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max
    return value is None or isinstance(value, float)


def _timestamp(date: str | None) -> tuple[str | None, list[str]]:
    if date is None:
        return None, []
    try:
        moment = datetime.strptime(date, "%Y%m%d_%H%M%S" if len(date) == 15 else "%Y%m%d_%H%M")  # noqa: DTZ007
    except ValueError:
        return None, [f"{date} in the file's name is no time"]
    return f"{moment.isoformat()}Z", ["the time in the file's name has no zone: taken as UTC"]


def _read_metrics(file: File) -> dict[str, Any]:
    """The figures at the beginning of a file of all results."""
    found: dict[str, Any] = {}
    with file.open() as stream:
        for key, inner, value in read_members(stream, file.path, into=_ARRAYS):
            if key == "score":
                found["score"] = value
            elif key == "metrics" and isinstance(value, dict):
                found |= value
            elif inner is not None:
                break  # metrics stand before samples
    return found


def _stated(metrics: Mapping[str, Any]) -> list[Stated]:
    """`score` is a mean, `score:std` a population standard deviation; HealthBench cuts its means to 0 to 1."""
    stated = []
    for name, value in metrics.items():
        metric, _, kind = name.partition(":")
        if value is None or not _is_number(value) or kind == "n_samples":
            continue
        count = metrics.get(f"{metric}:n_samples")
        is_cut = count is not None and not kind and value in (0, 1)
        stated.append(
            Stated(
                metric,
                float(value),
                kind or ("mean, cut to 0 to 1" if is_cut else "mean"),
                name=name,
                count=count if isinstance(count, int) else None,
            )
        )
    return stated


class _Verdict(NamedTuple):
    """What is held of a sample while its conversation is still to come."""

    score: float | None = None
    answer: str | None = None
    target: str | Sequence[str] | None = None
    id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class _Rows:
    """The samples of a file of all results."""

    file: File
    in_lists: bool
    """Whether answers and targets are written as Python's lists."""

    def read(self, ledger: Ledger) -> Iterator[Sample]:
        """The samples, in their order. The file is read twice, as it has the scores apart from the conversations."""
        attempts: Counter[str] = Counter()
        pairs = zip_longest(self._read_verdicts(ledger), self._read_convos(), fillvalue=None)
        for number, (verdict, convo) in enumerate(pairs):
            sample = _sample(verdict or _Verdict(), convo, number, attempts)
            if sample is None:
                ledger.refuse(f"{self.file.path}:[{number}]", "it has neither a conversation nor a score")
            else:
                yield sample

    def _read_verdicts(self, ledger: Ledger) -> list[_Verdict]:
        """Score, answer and target of each sample; of a file that breaks off, those before."""
        verdicts: list[_Verdict] = []
        left: Counter[str] = Counter()
        with suppress(Unreadable), self.file.open() as stream:
            for key, inner, value in read_members(stream, self.file.path, into=_ARRAYS):
                if key == "htmls" and inner is not None:
                    verdicts.append(_read_verdict(value, in_lists=self.in_lists))
                elif key == "metadata" and inner == "example_level_metadata" and isinstance(value, list):
                    verdicts = [
                        _with_details(verdict or _Verdict(), details, left)
                        for verdict, details in zip_longest(verdicts, value, fillvalue=None)
                    ]
        ledger.leave(left)  # a Counter adds its counts
        return verdicts

    def _read_convos(self) -> Iterator[Any]:
        with self.file.open() as stream:
            for key, inner, value in read_members(stream, self.file.path, into=_ARRAYS):
                if key == "convos" and inner is not None:
                    yield value


def _read_verdict(html: Any, *, in_lists: bool) -> _Verdict:  # noqa: ANN401
    found = _VERDICT.search(html) if isinstance(html, str) else None
    if found is None:
        return _Verdict()
    score, target = _score(found["score"]), found["target"] and unescape(found["target"])
    if in_lists:
        return _Verdict(score, target=target and _texts(target))
    answer = unescape(found["answer"])
    return _Verdict(score, None if answer == "None" or len(answer) > ANSWER_MAX else answer, target)


def _texts(listed: str) -> Sequence[str] | str | None:
    """The texts of a list as Python writes it; None if there are none in it, and the text itself if it is no list."""
    try:
        items = literal_eval(listed) if len(listed) <= LISTED_MAX else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        items = None
    return [item for item in items if isinstance(item, str)] or None if isinstance(items, list) else listed


def _score(text: str) -> float | None:
    """The number that Python's `str` wrote: also `True`, `None` and numpy's."""
    if text in ("True", "False"):
        return float(text == "True")
    try:
        score = float(text)
    except ValueError:
        return None
    return score if isfinite(score) else None


def _with_details(verdict: _Verdict, details: Any, left: Counter[str]) -> _Verdict:  # noqa: ANN401
    """A verdict with what `example_level_metadata` (of HealthBench) knows better."""
    if not isinstance(details, dict):
        return verdict
    left.update(f"metadata.{key}" for key in details if key not in ("score", "usage", "prompt_id"))
    score, id_, usage = details.get("score"), details.get("prompt_id"), details.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = [usage.get(key) for key in ("input_tokens", "output_tokens")]
    return verdict._replace(
        score=float(score) if score is not None and _is_number(score) and isfinite(score) else verdict.score,
        id=id_ if isinstance(id_, str) and id_ else None,
        input_tokens=tokens[0] if isinstance(tokens[0], int) else None,
        output_tokens=tokens[1] if isinstance(tokens[1], int) else None,
    )


def _sample(verdict: _Verdict, convo: Any, number: int, attempts: Counter[str]) -> Sample | None:  # noqa: ANN401
    messages = [message for message in convo if isinstance(message, dict)] if isinstance(convo, list) else []
    if not messages and verdict == _Verdict():
        return None
    asked = len(messages)
    while asked and messages[asked - 1].get("role") == "assistant":  # HumanEval has several answers to one question
        asked -= 1
    responses = [_text(message) for message in messages[asked:]]
    response = responses[0] if len(responses) == 1 else responses or None
    question, choices = _take_apart(_question(messages[:asked]))
    id_ = verdict.id or _id(question, choices, number)
    attempts[id_] += 1
    return Sample(
        id=id_,
        attempt=attempts[id_] - 1,
        status=Status.UNSCORED if verdict.score is None else Status.SCORED,
        score=verdict.score,
        answer=verdict.answer if verdict.answer is not None else response,
        target=verdict.target,
        question=question,
        choices=choices,
        input_tokens=verdict.input_tokens,
        output_tokens=verdict.output_tokens,
        metrics={} if verdict.score is None else {"score": verdict.score},
    )


def _id(question: str | None, choices: Sequence[str], number: int) -> str:
    """Of the question's words, however GPQA shuffles the choices; its position where the words are not told."""
    return f"position-{number}" if question is None else content_hash(question, choices).rpartition(":")[2][:16]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _question(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """What was asked, without instructions to the model as such; a conversation with who said what."""
    asked = [message for message in messages if message.get("role") not in ("system", "developer")]
    if len(asked) == 1:
        return _text(asked[0]) or None
    return "\n\n".join(f"{message.get('role')}: {_text(message)}" for message in asked) or None


def _take_apart(text: str | None) -> tuple[str | None, list[str]]:
    """Question and choices, out of simple-evals' own templates; other texts as they are."""
    instruction, blank, body = (text or "").partition("\n\n")
    if blank and instruction.startswith("Answer the following multiple choice question."):
        choices: list[str] = []
        for letter in "DCBA":
            body, mark, choice = body.rpartition(f"\n{letter}) ")
            if not mark:
                return text, []
            choices.insert(0, choice)
        return body.strip(), choices
    if blank and instruction.startswith("Solve the following math problem step by step."):
        body, mark, _ = body.rpartition("\n\nRemember to put your answer on its own line")
        if mark:
            return body.strip(), []
    return text, []

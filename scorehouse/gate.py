"""Whether a verdict opens the gate, and what is told of it. Pure."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from enum import IntEnum
from typing import get_args

from scorehouse.figures import NOT_KNOWN, interval, p_value, percent, signed
from shared.significance import Accepted, BenchmarkVerdict, SignificanceAnswer
from shared.statistics import Verdict

ACCEPTABLE: tuple[Accepted, ...] = get_args(Accepted)
NOT_WORSE: Accepted = "not-worse"


class GateCode(IntEnum):
    """Exit codes; 1 and 2 are those of every command."""

    OPEN = 0
    WORSE = 3
    """Closed: on some benchmark the verdict is known, and not accepted."""
    INCONCLUSIVE = 4
    """Closed only because nothing can be told yet."""


@dataclass(frozen=True, slots=True)
class Gate:
    """An answer, judged by what is accepted."""

    answer: SignificanceAnswer
    accepted: frozenset[Accepted]

    def lets_through(self, verdict: BenchmarkVerdict) -> bool:
        """Whether a benchmark's verdict is accepted; what is better is not worse."""
        if NOT_WORSE in self.accepted and (verdict.not_worse or verdict.verdict is Verdict.BETTER):
            return True
        return verdict.verdict.value in self.accepted

    @property
    def refused(self) -> list[BenchmarkVerdict]:
        """The benchmarks that keep it closed."""
        return [verdict for verdict in self.answer.verdicts if not self.lets_through(verdict)]

    @property
    def code(self) -> GateCode:
        """The exit code."""
        if not self.refused:
            return GateCode.OPEN
        if all(verdict.verdict is Verdict.INCONCLUSIVE for verdict in self.refused):
            return GateCode.INCONCLUSIVE
        return GateCode.WORSE

    @property
    def sentence(self) -> str:
        """Open or closed, and why."""
        if not self.refused:
            return "the gate is open"
        why = ", ".join(f"{verdict.verdict} on {verdict.benchmark}" for verdict in self.refused)
        return f"the gate is closed: {why}"

    def hint(self, verdict: BenchmarkVerdict) -> str | None:
        """What would let a benchmark through that is refused for a difference that does not matter."""
        if verdict.verdict is not Verdict.WORSE or not verdict.within_margin or self.lets_through(verdict):
            return None
        return f"it does not matter by the margin given: --accept {NOT_WORSE} lets it through"


def warnings_of(answer: SignificanceAnswer) -> list[str]:
    """What makes verdicts less sure than they read, each once."""
    told = dict.fromkeys(answer.warnings)
    for verdict in answer.verdicts:
        for warning in (*verdict.pair.warnings, *(verdict.live.warnings if verdict.live else ())):
            if warning not in told:
                told.setdefault(f"{verdict.benchmark}: {warning}")
    return list(told)


def as_markdown(gate: Gate, title: str) -> str:
    """A heading, the sentence and a table, for the summary of a job."""
    answer = gate.answer
    heads = [
        "benchmark",
        "verdict",
        "difference",
        f"{percent(answer.confidence)} interval",
        "p",
        "shared questions",
        "",
    ]
    rows = [
        [
            verdict.benchmark,
            verdict.verdict.value,
            *_difference(verdict),
            "accepted" if gate.lets_through(verdict) else "**not accepted**",
        ]
        for verdict in answer.verdicts
    ]
    marks = ["---", "---", "---:", "---", "---:", "---:", "---"]
    table = [f"| {' | '.join(map(_cell, row))} |" for row in (heads, marks, *rows)]
    notes = [f"- {_cell(warning)}" for warning in warnings_of(answer)]
    told = [f"- {_cell(verdict.sentence)}" for verdict in answer.verdicts]
    return "\n".join([f"### {_cell(title)}", "", f"**{gate.sentence}**", "", *table, "", *told, *notes, ""])


def _difference(verdict: BenchmarkVerdict) -> list[str]:
    """Difference, interval, p and shared questions; of a live run those that may be looked at any time."""
    pair = verdict.pair
    if verdict.live is None:
        numbers = [signed(pair.delta), interval(pair.ci_low, pair.ci_high), p_value(pair.p_adjusted)]
        return [*numbers, f"{pair.n_shared:,}"]
    if not verdict.live.path:
        return [NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "0"]
    last = verdict.live.path[-1]
    return [signed(last.delta), interval(last.ci_low, last.ci_high), NOT_KNOWN, f"{last.n:,} so far"]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def as_junit(gate: Gate, title: str) -> bytes:
    """A test suite with a case a benchmark, for CI that shows such reports."""
    verdicts = gate.answer.verdicts
    suite = ET.Element("testsuite", name="scorehouse gate", tests=f"{len(verdicts)}", failures=f"{len(gate.refused)}")
    for verdict in verdicts:
        case = ET.SubElement(suite, "testcase", classname=title, name=verdict.benchmark)
        if gate.lets_through(verdict):
            ET.SubElement(case, "system-out").text = verdict.sentence
        else:
            ET.SubElement(case, "failure", type=verdict.verdict.value, message=verdict.sentence)
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    report: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return report

"""How a group-by is answered: from stored sums where these are exact, else from packed answers. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pyroaring import BitMap

from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.runs import Run, layout_of
from shared.problems import TooManyGroups

LAYOUT_CELLS_MAX = 4_000_000
"""Cells of different layouts that an answer may be about: they are all in memory at once, in 16 bytes each."""
ANSWERS_MAX = 50_000_000
"""Answers that may be unpacked for one answer; about ten million take a second."""


class PlanKind(StrEnum):
    """Where the numbers come from."""

    SUMS = "sums"
    ANSWERS = "answers"
    """Some of them from packed answers."""


@dataclass(frozen=True, slots=True)
class QuestionReads:
    """The runs whose answers statistics need question by question, and why."""

    run_nos: Collection[int]
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read for one benchmark, and why."""

    kind: PlanKind
    reason: str
    from_sums: Sequence[Run]
    from_answers: Sequence[Run]
    """Their sums are made anew of these."""
    by_question: Sequence[Run] = ()
    """Their answers are read question by question, for statistics; they are among the others, too."""

    @property
    def read(self) -> Mapping[int, Run]:
        """The runs whose answers are read, by number."""
        return {run.run_no: run for run in (*self.from_answers, *self.by_question)}

    @property
    def cells(self) -> int:
        """Cells of packed sums that are read."""
        return sum(run.n_cells for run in self.from_sums)

    @property
    def answers(self) -> int:
        """Answers that are unpacked."""
        return sum(run.n_answers for run in self.read.values())


def plan_of(
    resolved: ResolvedAnalysis,
    counted: Collection[int],
    shared: BitMap | None = None,
    cut: Collection[int] = frozenset(),
    statistics: QuestionReads | None = None,
) -> Plan:
    """The cheapest plan that is exact for `resolved`.

    `counted` are the numbers of the runs that rows are made of. Of `shared` questions (None: all are) the layouts `cut`
    have cells that hold some and others too, so that the sums of such a cell are over too much.
    """
    runs = sorted((run for run in resolved.runs if run.run_no in counted), key=lambda run: run.run_no)
    from_answers = [run for run in runs if layout_of(run) in cut]
    from_sums = [run for run in runs if layout_of(run) not in cut] if from_answers else runs
    if not runs:
        return Plan(PlanKind.SUMS, "no run is chosen that has the levels asked for", (), ())
    if not resolved.shared_questions:
        reason = "stored sums are kept by every metadata field, and runs by everything else"
    elif shared is None:
        reason = "all chosen runs were asked the same questions, so stored sums are over shared questions alone"
    elif not from_answers:
        reason = "of each stored sum that is needed either all questions are shared or none is"
    else:
        reason = (
            f"{len(from_answers):,} of {len(runs):,} runs have stored sums over questions of which only some are "
            "shared; these runs are summed anew from their packed answers"
        )
    by_question = [] if statistics is None else [run for run in runs if run.run_no in statistics.run_nos]
    if statistics is not None:
        reason += f"; {statistics.reason}"
    kind = PlanKind.ANSWERS if from_answers or by_question else PlanKind.SUMS
    return Plan(kind, reason, from_sums, from_answers, by_question)


def check_layouts(runs: Iterable[Run]) -> None:
    """TooManyGroups if the runs' layouts have more cells than may be in memory at once; no read is needed to tell."""
    sizes = {run.layout_no: run.n_cells for run in runs}
    cells = sum(sizes.values())
    if cells > LAYOUT_CELLS_MAX:
        raise TooManyGroups(
            f"the chosen runs have {len(sizes):,} different sets of questions or metadata with {cells:,} cells, and an "
            f"answer may be about {LAYOUT_CELLS_MAX:,}; ask for fewer runs or models"
        )


def check_cost(plans: Sequence[Plan], *, max_cells: int) -> None:
    """TooManyGroups if these plans together read more than one answer may; no read is needed to tell."""
    cells = sum(plan.cells for plan in plans)
    if cells > max_cells:
        runs = sum(len(plan.from_sums) for plan in plans)
        raise TooManyGroups(
            f"the answer needs {cells:,} cells of sums of {runs:,} runs, more than {max_cells:,} (setting MAX_CELLS); "
            "ask for fewer runs or models"
        )
    answers = sum(plan.answers for plan in plans)
    if answers > ANSWERS_MAX:
        runs = sum(len(plan.read) for plan in plans)
        why = "statistics need" if any(plan.by_question for plan in plans) else "shared_questions needs"
        raise TooManyGroups(
            f"{why} {answers:,} single answers of {runs:,} runs, and {ANSWERS_MAX:,} may be read; "
            "ask for fewer runs or models, or for runs that were asked the same questions"
        )

"""Which runs' answers are read question by question for statistics that stored sums cannot tell. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis_service.group_by.plan import QuestionReads
from analysis_service.group_by.question_totals import QUESTIONS_MAX
from analysis_service.group_by.resolve_statistics import StatisticsAsked
from analysis_service.group_by.slots import Slots
from analysis_service.runs import Run
from shared.problems import TooManyGroups


@dataclass(frozen=True, slots=True)
class QuestionNeeds:
    """The divisions whose statistics need answers question by question; `reason` is a clause of a sentence."""

    divisions: frozenset[int]
    reads: QuestionReads


def find_question_needs(
    asked: StatisticsAsked, runs: Sequence[Run], division_of: Mapping[int, int], slots: Slots | None
) -> QuestionNeeds | None:
    """What stored sums cannot tell of these `runs`; None where they tell everything. Clusters are in `slots`."""
    members: dict[int, list[Run]] = {}
    for run in runs:
        if run.run_no in division_of:
            members.setdefault(division_of[run.run_no], []).append(run)
    if asked.baseline is not None:
        needed, why = set(members), "differences to a baseline are of questions, so all runs are read answer by answer"
    elif asked.cluster_by is not None and slots is not None:
        needed = {division for division in members if (slots.blocks[division].cluster < 0).any()}
        why = f"{{}} of {{}} runs have questions without {asked.cluster_by}, each a cluster of its own, and are read so"
    else:
        needed = {
            division
            for division, its_runs in members.items()
            if len(its_runs) > 1 or its_runs[0].n_answers > its_runs[0].n_questions
        }
        why = (
            "{} of {} runs may have several attempts at a question in one row, whose errors are clustered by question, "
            "and are read answer by answer"
        )
    if not needed:
        return None
    run_nos = frozenset(run.run_no for division in needed for run in members[division])
    every = sum(map(len, members.values()))
    return QuestionNeeds(frozenset(needed), QuestionReads(run_nos, why.format(f"{len(run_nos):,}", f"{every:,}")))


def count_questions(
    asked: StatisticsAsked, reads: QuestionReads, runs: Sequence[Run], division_of: Mapping[int, int]
) -> int:
    """How many questions of rows are in memory at once; TooManyGroups if they are too many, before any is read.

    A division is done with when its last run was read, so one of a single run takes none, but for a baseline's sake.
    """
    needed = [run for run in runs if run.run_no in reads.run_nos]
    sets = {(division_of[run.run_no], run.set_no): run.n_questions for run in needed}
    several = Counter(division_of[run.run_no] for run in needed)
    questions = sum(size for (division, _), size in sets.items() if asked.baseline is not None or several[division] > 1)
    if questions > QUESTIONS_MAX:
        raise TooManyGroups(
            f"statistics need {questions:,} questions of the rows at once, and {QUESTIONS_MAX:,} may be in memory; "
            "ask for fewer runs or models"
        )
    return questions

"""Which plan answers a request, what it costs, and what costs too much."""

from dataclasses import replace

import pytest
from pyroaring import BitMap

from analysis_service.group_by.plan import (
    ANSWERS_MAX,
    LAYOUT_CELLS_MAX,
    Plan,
    PlanKind,
    check_cost,
    check_layouts,
    plan_of,
)
from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.runs import Run
from shared.problems import TooManyGroups
from tests.unit.test_resolve import resolve, run

RUNS = [
    run(1, layout_no=7, n_cells=3, n_answers=40),
    run(2, layout_no=8, n_cells=5, n_answers=60),
    run(3, layout_no=7, n_cells=3, n_answers=50),
]
COUNTED = [1, 2, 3]


def asked(*, shared_questions: bool = False) -> ResolvedAnalysis:
    return replace(resolve(RUNS, runs="all"), shared_questions=shared_questions)


def numbers(runs: list[Run] | tuple[Run, ...]) -> list[int]:
    return [run.run_no for run in runs]


@pytest.mark.parametrize(
    ("shared_questions", "shared", "cut", "from_sums", "from_answers", "reason"),
    [
        (False, None, [], [1, 2, 3], [], "stored sums are kept by every metadata field"),
        (True, None, [], [1, 2, 3], [], "were asked the same questions"),
        (True, BitMap([1, 2]), [], [1, 2, 3], [], "either all questions are shared or none is"),
        (True, BitMap([1, 2]), [7], [2], [1, 3], "2 of 3 runs have stored sums over questions of which only some"),
        (True, BitMap([1, 2]), [7, 8], [], [1, 2, 3], "3 of 3 runs"),
        (True, BitMap(), [], [1, 2, 3], [], "either all questions are shared or none is"),
    ],
)
def test_the_cheapest_exact_plan(
    shared_questions: bool,
    shared: BitMap | None,
    cut: list[int],
    from_sums: list[int],
    from_answers: list[int],
    reason: str,
) -> None:
    plan = plan_of(asked(shared_questions=shared_questions), COUNTED, shared, cut)
    assert (numbers(list(plan.from_sums)), numbers(list(plan.from_answers))) == (from_sums, from_answers)
    assert plan.kind is (PlanKind.ANSWERS if from_answers else PlanKind.SUMS)
    assert reason in plan.reason
    assert plan.cells == sum({1: 3, 2: 5, 3: 3}[number] for number in from_sums)
    assert plan.answers == sum({1: 40, 2: 60, 3: 50}[number] for number in from_answers)


def test_runs_that_make_no_row_are_not_read() -> None:
    assert numbers(list(plan_of(asked(), [2]).from_sums)) == [2]
    plan = plan_of(asked(), [])
    assert (plan.from_sums, plan.kind) == ((), PlanKind.SUMS)
    assert "no run" in plan.reason


def plan(*, sums: list[Run] | None = None, answers: list[Run] | None = None) -> Plan:
    return Plan(PlanKind.SUMS, "", sums or [], answers or [])


def test_what_costs_too_much_is_refused_before_it_is_read() -> None:
    two = [plan(sums=[run(1, n_cells=6)]), plan(sums=[run(2, n_cells=4), run(3, n_cells=1)])]
    check_cost(two, max_cells=11)
    with pytest.raises(TooManyGroups, match=r"needs 11 cells of sums of 3 runs, more than 10 \(setting MAX_CELLS\)"):
        check_cost(two, max_cells=10)
    check_cost([plan(answers=[run(1, n_answers=ANSWERS_MAX)])], max_cells=1)
    with pytest.raises(TooManyGroups, match=r"50,000,001 single answers of 2 runs.*ask for fewer runs or models"):
        check_cost([plan(answers=[run(1, n_answers=ANSWERS_MAX), run(2, n_answers=1)])], max_cells=1)


def test_layouts_count_once_each_however_many_runs_have_them() -> None:
    same = [run(number, layout_no=1, n_cells=LAYOUT_CELLS_MAX) for number in (1, 2)]
    check_layouts(same)
    with pytest.raises(TooManyGroups, match=r"2 different sets .* 4,000,001 cells.*ask for fewer runs"):
        check_layouts([*same, run(3, layout_no=2, n_cells=1)])

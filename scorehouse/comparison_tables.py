"""A comparison as tables, warnings, and one sentence that says which are tied."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product

from scorehouse.figures import NOT_KNOWN, interval, p_value, percent, signed, two_digits
from scorehouse.terminal import count, in_columns, out, say
from shared.comparisons import ComparisonAnswer, PairComparison
from shared.statistics import Correction, Verdict

PAIRS_NAMED = 3
"""Pairs that are named with a warning, or as tied across groups; of more the number is told."""


def print_comparison(answer: ComparisonAnswer) -> None:
    """Print entries, pairs, contested questions, warnings, and which are tied."""
    console = out()
    what = f"{len(answer.entries)} compared, {count(answer.n_shared_by_all, 'question')} shared by all"
    say(console, f"{', '.join(answer.benchmarks)}: {what}; {percent(answer.confidence)} confidence")
    _print_table(*_entry_table(answer))
    _print_table(*_pair_table(answer))
    if answer.contested:
        say(console, f"\n{count(answer.n_contested, 'question')} not scored the same by all; the widest apart:")
        _print_table(*_contested_table(answer))
    for number, warning in enumerate(_warnings(answer)):
        say(console, f"{'' if number else chr(10)}warning: {warning}", "yellow")
    say(console, f"\n{tie_sentence(answer)}", "bold")


def tie_sentence(answer: ComparisonAnswer) -> str:
    """Who is first, and who is tied with whom: within tie groups, and across them."""
    groups: dict[int, list[str]] = defaultdict(list)
    for entry in answer.entries:
        if entry.tie_group is not None:
            groups[entry.tie_group].append(entry.name)
    if not groups:
        return "There are no ranks: all share too few questions."
    first, *_ = tied = [names for _, names in sorted(groups.items())]
    others = "all others" if len(answer.entries) > 2 else tied[-1][-1]
    parts = [f"{first[0]} is better than {others}"] if len(first) == 1 else []
    # Ranks are by Holm's correction; by another one pairs may say more, and do not say who is tied.
    by_holm = answer.correction is Correction.HOLM
    not_told = {frozenset((pair.a, pair.b)) for pair in answer.pairs if by_holm and not pair.significant}
    for names in tied:
        if len(names) == 2 or (len(names) > 2 and not_told.issuperset(map(frozenset, combinations(names[1:], 2)))):
            parts.append(f"{_listed(names)} are not told apart")
        elif len(names) > 2:
            parts.append(f"{_listed(names[1:])} are not told apart from {names[0]}")
    across = [
        f"{a} and {b}"
        for higher, lower in combinations(tied, 2)
        for a, b in product(higher, lower)
        if frozenset((a, b)) in not_told
    ]
    if across:
        pairs = ", ".join(across) if len(across) <= PAIRS_NAMED else f"{len(across):,} pairs"
        parts.append(f"across groups, not told apart: {pairs}")
    if len(tied) == len(answer.entries) > 2 and not across:
        parts.append("no two of them are tied")
    return f"{'; '.join(parts)}{'' if by_holm else ' (ranks and ties always allow for all pairs, as holm does)'}."


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}"


_Table = tuple[list[list[str]], range]
"""Rows, their heads first; the columns that hold numbers."""


def _print_table(rows: list[list[str]], numbers: range) -> None:
    say(out())
    heads, *lines = in_columns(rows, right=numbers)
    say(out(), heads, "bold")
    for line in lines:
        say(out(), line)


def _entry_table(answer: ComparisonAnswer) -> _Table:
    heads = [
        "",
        "rank",
        "rank interval",
        "mean",
        f"{percent(answer.confidence)} interval",
        "questions",
        "tie group",
        "first",
    ]
    rows = [
        [
            entry.name,
            _told(entry.rank),
            _span(entry.rank_low, entry.rank_high),
            NOT_KNOWN if entry.mean is None else f"{entry.mean:.3f}",
            interval(entry.ci_low, entry.ci_high, ".3f"),
            f"{entry.n_questions:,}",
            _told(entry.tie_group),
            NOT_KNOWN if entry.p_best is None else f"{entry.p_best:.0%}",
        ]
        for entry in answer.entries
    ]
    return [heads, *rows], range(1, len(heads))


def _pair_table(answer: ComparisonAnswer) -> _Table:
    p = "p" if answer.correction is Correction.NONE else f"p ({answer.correction})"
    heads = ["", "", "difference", f"{percent(answer.confidence)} interval", p, "wins", "losses", "ties", ""]
    rows = [
        [
            pair.a,
            pair.b,
            signed(pair.delta),
            interval(pair.ci_low, pair.ci_high),
            p_value(pair.p_adjusted),
            *(f"{number:,}" for number in (pair.wins, pair.losses, pair.ties)),
            verdict_word(pair),
        ]
        for pair in answer.pairs
    ]
    return [heads, *rows], range(2, len(heads) - 1)


def _contested_table(answer: ComparisonAnswer) -> _Table:
    names = [entry.name for entry in answer.entries]
    rows = [
        [
            question.question_id if len(answer.benchmarks) == 1 else f"{question.benchmark} {question.question_id}",
            *(f"{question.scores[name]:.2f}" if name in question.scores else NOT_KNOWN for name in names),
        ]
        for question in answer.contested
    ]
    return [["", *names], *rows], range(1, len(names) + 1)


def verdict_word(pair: PairComparison) -> str:
    """What is told of a against b."""
    if pair.significant is None or pair.delta is None:
        return "not compared"
    if not pair.significant:
        needed = pair.questions_needed or 0
        hint = f"; about {two_digits(needed):,} questions would tell" if needed > pair.n_shared else ""
        return f"not told apart{hint}"
    return Verdict.BETTER if pair.delta > 0 else Verdict.WORSE


def _warnings(answer: ComparisonAnswer) -> Iterator[str]:
    yield from answer.warnings
    for entry in answer.entries:
        if entry.reason:
            yield f"{entry.name}: {entry.reason}"
    of: dict[str, list[str]] = defaultdict(list)
    for pair in answer.pairs:
        # What else may be null is not in the table.
        is_told = pair.p is not None and pair.ci_low is not None
        for warning in (*([pair.reason] if pair.reason and not is_told else []), *pair.warnings):
            of[warning].append(f"{pair.a} and {pair.b}")
    for warning, pairs in of.items():
        if warning not in answer.warnings:
            yield f"{'; '.join(pairs) if len(pairs) <= PAIRS_NAMED else f'{len(pairs):,} pairs'}: {warning}"


def _told(number: int | None) -> str:
    return NOT_KNOWN if number is None else f"{number}"


def _span(low: int | None, high: int | None) -> str:
    return NOT_KNOWN if low is None or high is None else f"{low}" if low == high else f"{low} to {high}"

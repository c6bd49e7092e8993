"""Verdicts in words: what was found, and the numbers that say so. Pure."""

import math

from analysis_service.significance.verdicts import Interval, within_margin
from shared.comparisons import PairComparison
from shared.registry.specs import BenchmarkSpec
from shared.significance import LiveVerdict
from shared.statistics import Verdict


def tell_verdict(
    verdict: Verdict,
    pair: PairComparison,
    within: Interval | None,
    spec: BenchmarkSpec,
    *,
    margin: float,
    n_tests: int,
) -> str:
    """The verdict on two finished runs, one of `n_tests`; `within` is the interval that was held against the margin."""
    a, b, name = pair.a, pair.b, spec.name
    if pair.delta is None:
        return f"{a} and {b} cannot be compared on {name}: {pair.reason}"
    told = _Numbers(spec)
    shared = f"{pair.n_shared:,} shared questions"
    interval = told.interval(pair.confidence, pair.ci_low, pair.ci_high)
    difference = f"{told.signed(pair.delta)} ({', '.join(filter(None, (interval, shared)))})"
    match verdict:
        case Verdict.BETTER | Verdict.WORSE:
            small = f", though by less than the margin of {margin:g}" if within_margin(within, margin).within else ""
            return f"{a} is {verdict} than {b} on {name}: {difference}{small}{_despite(pair)}"
        case Verdict.EQUIVALENT:
            narrow = told.interval(max(2 * pair.confidence - 1, 0), *within) if within else ""
            difference = f"{told.signed(pair.delta)} ({', '.join(filter(None, (narrow, shared)))})"
            return f"{a} and {b} are within {margin:g} of each other on {name}: {difference}"
        case Verdict.INCONCLUSIVE:
            return f"{a} and {b} are not told apart on {name}: {difference}{_why(pair, n_tests)}"


def tell_live(live: LiveVerdict, a: str, b: str, spec: BenchmarkSpec, *, margin: float, confidence: float) -> str:
    """The verdict on a candidate `a` whose run is going on, against `b`."""
    name = spec.name
    if not live.path:
        return f"{a} has answered no question yet that {b} was asked of {name}"
    told, last = _Numbers(spec), live.path[-1]
    seen = f"{last.n:,} of {live.of:,} questions" if live.of is not None else f"{last.n:,} questions"
    interval = told.interval(confidence, last.ci_low, last.ci_high)
    difference = f"{told.signed(last.delta)} ({interval}, however often it is looked at, {seen}"
    match live.verdict:
        case Verdict.BETTER | Verdict.WORSE:
            says = f"{a} is {live.verdict} than {b}"
        case Verdict.EQUIVALENT:
            says = f"{a} and {b} are within {margin:g} of each other"
        case Verdict.INCONCLUSIVE:
            return f"So far {a} and {b} are not told apart on {name}: {difference})"
    return f"So far {says} on {name}: {difference}; decided at question {live.decided_at:,})"


def _despite(pair: PairComparison) -> str:
    """What else seems to be in the way of a difference that is told: interval and test may be of different kinds."""
    if pair.p is None or pair.ci_low is None or pair.ci_high is None or not pair.ci_low <= 0 <= pair.ci_high:
        return ""
    return f"; the interval just holds 0, but the test, which decides, tells a difference (p {pair.p:.2g})"


def _why(pair: PairComparison, n_tests: int) -> str:
    """What stood in the way of a verdict."""
    if pair.ci_low is None:
        return f"; {pair.reason}" if pair.reason else ""
    if pair.p is not None and pair.p <= 1 - pair.confidence and not pair.significant:
        return f"; alone it would count, but not among {n_tests:,} benchmarks that are looked at together"
    if pair.p is not None and (pair.ci_low > 0 or (pair.ci_high or 0) < 0):
        return f"; the interval just leaves 0 out, but the test is the stricter one (p {pair.p:.2g})"
    if pair.questions_needed is not None:
        return f"; about {_rounded(pair.questions_needed):,} questions would tell such a difference"
    return ""


def _rounded(number: int) -> int:
    """To two digits: more would claim to know more than can be."""
    step = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // step) * step


class _Numbers:
    """Scores and differences in as many digits as the scale makes sense of: 0.031 of 1, 3.1 of 100."""

    def __init__(self, spec: BenchmarkSpec) -> None:
        self._digits = max(0, 3 - math.floor(math.log10(spec.score_max - spec.score_min)))

    def signed(self, value: float) -> str:
        # Up to two more than usual: an interval that ends next to 0 does not hold it. What is nearer is 0.
        enough = [digits for digits in range(self._digits, self._digits + 3) if round(value, digits)]
        digits = enough[0] if enough else self._digits
        return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: there is no −0

    def interval(self, confidence: float, low: float | None, high: float | None) -> str:
        """`95 % interval +0.012 to +0.050`; empty where there is none."""
        if low is None or high is None:
            return ""
        return f"{100 * confidence:.6g} % interval {self.signed(low)} to {self.signed(high)}"

"""The statistics of one row worked out slowly: attempt by attempt, with scipy, statsmodels and whole matrices."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from analysis_service.stats.intervals import clustered_wilson

FAILED = ("refused", "truncated", "error")
Limits = tuple[float | None, float | None]
NOTHING: Limits = (None, None)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a question."""

    question: Hashable
    status: str
    score: float | None
    value: Any
    """Of the field that macro means are over."""
    cluster: Any


@dataclass(frozen=True)
class Counted:
    """An attempt with the score that it counts as, from 0 to 1."""

    question: Hashable
    score: float
    value: Any
    cluster: Any


@dataclass(frozen=True)
class Asked:
    """What the request says."""

    policy: str
    confidence: float
    clustered: bool
    low: float
    high: float


def count(attempts: Iterable[Attempt], asked: Asked, unknown: float | None, statuses: Sequence[str]) -> list[Counted]:
    """The scored attempts, and with a score for the `unknown` ones those of these statuses."""
    found = []
    for attempt in attempts:
        if attempt.status == "scored" and attempt.score is not None:
            score = (attempt.score - asked.low) / (asked.high - asked.low)
        elif unknown is not None and attempt.status in statuses:
            score = unknown
        else:
            continue
        found.append(Counted(attempt.question, score, attempt.value, attempt.cluster))
    return found


def readings(attempts: Sequence[Attempt], asked: Asked) -> tuple[list[Counted], list[Counted], list[Counted]]:
    """What the mean, and the two ends of its interval are of."""
    match asked.policy:
        case "wrong":
            return (count(attempts, asked, 0, FAILED),) * 3
        case "bounds":
            statuses = (*FAILED, "unscored")
            return (
                count(attempts, asked, None, ()),
                count(attempts, asked, 0, statuses),
                count(attempts, asked, 1, statuses),
            )
        case _:
            return (count(attempts, asked, None, ()),) * 3


def row_statistics(attempts: Sequence[Attempt], asked: Asked) -> dict[str, Any]:
    """The keys of a row, without those of a baseline and `reason`."""
    middle, lowest, highest = readings(attempts, asked)
    se, _, n_clusters, method = mean_error(middle, asked)
    low, high = mean_error(lowest, asked), mean_error(highest, asked)
    if asked.policy == "bounds":
        order = (None, "clopper-pearson", "t", "wilson on effective n", "wilson on effective n (CR2)")
        method = max(low[3], high[3], key=order.index)
    macro_mean, macro_se, _ = macro(middle, asked)
    statuses = [attempt.status for attempt in attempts]
    counts = {f"n_{status}": statuses.count(status) for status in (*FAILED, "scored", "unscored")}
    return {
        "se": None if se is None else se * (asked.high - asked.low),
        "ci_low": on_scale(low[1][0], asked),
        "ci_high": on_scale(high[1][1], asked),
        "method": method,
        "confidence": asked.confidence,
        "n_clusters": n_clusters,
        "macro_mean": on_scale(macro_mean, asked),
        "macro_se": None if macro_se is None else macro_se * (asked.high - asked.low),
        "macro_ci_low": on_scale(macro(lowest, asked)[2][0], asked),
        "macro_ci_high": on_scale(macro(highest, asked)[2][1], asked),
        "n_asked": len(attempts),
        "n_answered": counts["n_scored"] + counts["n_unscored"],
        **counts,
    }


def on_scale(value: float | None, asked: Asked) -> float | None:
    return None if value is None else asked.low + (asked.high - asked.low) * value


def by(some: Iterable[Counted], key: str) -> dict[Any, list[Counted]]:
    found = defaultdict(list)
    for one in some:
        found[getattr(one, key)].append(one)
    return dict(found)


def unit(one: Counted, asked: Asked) -> Hashable:
    if not asked.clustered:
        return one.question
    return ("alone", one.question) if one.cluster is None else ("cluster", one.cluster)


def repeated(some: Sequence[Counted]) -> bool:
    return any(len(own) > 1 for own in by(some, "question").values())


def mean_error(some: Sequence[Counted], asked: Asked) -> tuple[float | None, Limits, int | None, str | None]:
    """Standard error, interval, clusters and method."""
    if not some:
        return None, NOTHING, None, None
    if asked.clustered:
        return cluster_error(some, asked)
    return question_error(some, asked) if repeated(some) else single_error(some, asked)


def question_error(some: Sequence[Counted], asked: Asked) -> tuple[float | None, Limits, int | None, str | None]:
    scores = np.array([one.score for one in some])
    groups = list(by(some, "question").values())
    if len(groups) == 1:
        return None, NOTHING, 1, None
    mean = scores.mean()
    squares = sum(sum(one.score - mean for one in own) ** 2 for own in groups)
    squares = 0 if squares < 1e-20 else squares
    se = sqrt(len(groups) / (len(groups) - 1) * squares) / len(scores)
    even = len(scores) ** 2 / sum(len(own) ** 2 for own in groups)
    return se, effective_wilson(mean, se, even, asked.confidence), len(groups), "wilson on effective n"


def single_error(some: Sequence[Counted], asked: Asked) -> tuple[float | None, Limits, int | None, str | None]:
    scores = np.array([one.score for one in some])
    n, mean = len(scores), scores.mean()
    if set(scores) <= {0, 1}:
        method, kind = ("clopper-pearson", "beta") if asked.policy == "bounds" else ("wilson", "wilson")
        limits = proportion_confint(scores.sum(), n, 1 - asked.confidence, kind)
        return (sqrt(mean * (1 - mean) / n) if n > 1 else None), (float(limits[0]), float(limits[1])), None, method
    if len(set(scores)) == 1:
        return None if n == 1 else 0, NOTHING, None, None
    se = scores.std(ddof=1) / sqrt(n)
    low, high = stats.t.interval(asked.confidence, n - 1, mean, se)
    return se, (max(low, 0), min(high, 1)), None, "t"


def effective_wilson(mean: float, se: float, units: float, confidence: float, df: float | None = None) -> Limits:
    """The service's own, which has tests of its own; here it matters what it is told."""
    low, high = clustered_wilson(mean, se, units, confidence, np.inf if df is None else df)
    return float(low), float(high)


def cluster_error(some: Sequence[Counted], asked: Asked) -> tuple[float | None, Limits, int | None, str | None]:
    mean, se, df, clusters = cr2([one.score for one in some], [unit(one, asked) for one in some])
    if clusters < 5:
        return None, NOTHING, clusters, None
    se = 0 if se < 1e-12 else se
    return se, effective_wilson(mean, se, clusters, asked.confidence, df), clusters, "wilson on effective n (CR2)"


def cr2(scores: Sequence[float], units: Sequence[Hashable]) -> tuple[float, float, float, int]:
    """Mean, standard error, degrees of freedom and clusters, by Bell & McCaffrey's matrices."""
    y, n = np.array(scores), len(scores)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for number, name in enumerate(units):
        members[name].append(number)
    if len(members) < 2:
        return float(y.mean()), 0.0, 0.0, len(members)
    x = np.ones((n, 1))
    residual_maker = np.eye(n) - x @ x.T / n
    variance, columns = 0.0, []
    for own in members.values():
        block = residual_maker[np.ix_(own, own)]
        values, vectors = np.linalg.eigh(block)
        root = vectors @ np.diag(1 / np.sqrt(values)) @ vectors.T
        weight = root @ x[own] / n
        variance += ((weight.T @ (y[own] - y.mean())) ** 2).item()
        columns.append((residual_maker[:, own] @ weight)[:, 0])
    product = np.array(columns) @ np.array(columns).T
    df = np.trace(product) ** 2 / np.trace(product @ product)
    return float(y.mean()), sqrt(variance), float(df), len(members)


def macro(some: Sequence[Counted], asked: Asked) -> tuple[float | None, float | None, Limits]:
    """Mean over values, its standard error and interval."""
    strata = by([one for one in some if one.value is not None], "value")
    if not strata:
        return None, None, NOTHING
    means = {value: float(np.mean([one.score for one in own])) for value, own in strata.items()}
    mean = sum(means.values()) / len(means)
    independent = not asked.clustered and not repeated(some)
    moved: dict[Hashable, dict[Any, float]] = defaultdict(dict)
    sizes, variances = [], []
    for value, own in strata.items():
        units = defaultdict(list)
        for number, one in enumerate(own):
            units[(value, number) if independent else unit(one, asked)].append(one.score - means[value])
        sizes.append(len(units))
        for name, scores in units.items():
            moved[name][value] = sqrt(len(units) / max(len(units) - 1, 1)) * sum(scores) / len(own)
        variances.append(len(units) * sum(moved[name][value] ** 2 for name in units))
    clusters = len({unit(one, asked) for one in some})
    free = sum(size - 1 for size in sizes)
    if min(sizes) < 2 or (asked.clustered and clusters < 5):
        return mean, None, NOTHING
    pooled = sum((size - 1) * variance for size, variance in zip(sizes, variances, strict=True)) / free
    errors = [((n - 1) * own + 3 * pooled) / (n + 2) / n for n, own in zip(sizes, variances, strict=True)]
    across = sum(sum(told.values()) ** 2 - sum(one**2 for one in told.values()) for told in moved.values())
    se = sqrt(max(sum(errors) + across, 0)) / len(strata)
    se = 0 if se < 1e-9 else se
    df = sum(errors) ** 2 / sum(error**2 / (n + 2) for error, n in zip(errors, sizes, strict=True)) if pooled else None
    if asked.clustered:
        df = clusters - 1 if df is None else min(df, clusters - 1)
    worth = len(strata) ** 2 / sum(1 / size for size in sizes)
    return mean, se, effective_wilson(mean, se, worth, asked.confidence, None if df is None else max(df, 1))


def row_delta(own: Sequence[Attempt], baseline: Sequence[Attempt], asked: Asked, least: int) -> dict[str, Any]:
    """The keys of a row that a baseline adds, without those of correction."""
    mine, theirs = by(readings(own, asked)[0], "question"), by(readings(baseline, asked)[0], "question")
    shared = [question for question in mine if question in theirs]
    found: dict[str, Any] = {"n_shared": len(shared)}
    keys = ("delta", "delta_se", "delta_ci_low", "delta_ci_high", "p", "delta_method")
    if len(shared) < least:
        return found | dict.fromkeys(keys)
    pairs = [([one.score for one in mine[q]], [one.score for one in theirs[q]]) for q in shared]
    differences = np.array([np.mean(a) - np.mean(b) for a, b in pairs])
    differences[abs(differences) < 1e-12] = 0
    delta, n, span = differences.mean(), len(shared), asked.high - asked.low
    if asked.clustered:
        firsts = [min(mine[question], key=lambda one: (one.cluster is None, one.cluster)) for question in shared]
        _, se, df, clusters = cr2(list(differences), [unit(one, asked) for one in firsts])
        se = 0 if se < 1e-12 else se
        if clusters < 5:
            return found | dict.fromkeys(keys) | {"delta": delta * span}
    else:
        se, df = float(differences.std(ddof=1)) / sqrt(n), n - 1.0
        se = 0 if se < 1e-12 else se
    told: Sequence[Any]
    if not asked.clustered and all(len(a) == len(b) == 1 and {*a, *b} <= {0, 1} for a, b in pairs):
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        p = mcnemar([[0, wins], [losses, 0]], exact=True).pvalue if wins + losses else 1.0
        limits = tango(wins, losses, n, asked.confidence)
        told = (delta * span, se * span or None, limits[0] * span, limits[1] * span, p, "tango")
    elif se == 0:
        told = (delta * span, None, None, None, 1.0 if delta == 0 else None, None)
    else:
        low, high = stats.t.interval(asked.confidence, df, delta, se)
        p = 2 * stats.t.sf(abs(delta / se), df)
        told = (
            delta * span,
            se * span,
            low * span,
            high * span,
            p,
            "clustered t (CR2)" if asked.clustered else "paired t",
        )
    return found | dict(zip(keys, told, strict=True))


def tango(wins: int, losses: int, n: int, confidence: float) -> tuple[float, float]:
    """The differences that Tango's score test does not reject, by bisection on the quadratic of his equation 5."""
    z = stats.norm.ppf((1 + confidence) / 2)

    def rejected(delta: float) -> bool:
        a, b, c = 2 * n, -wins - losses + (2 * n - wins + losses) * delta, -losses * delta * (1 - delta)
        q = (sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        return (wins - losses - n * delta) ** 2 > z * z * n * (2 * q + delta * (1 - delta)) + 1e-13

    ends = []
    for end in (-1.0, 1.0):
        inside, outside = (wins - losses) / n, end
        for _ in range(80):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        ends.append(inside)
    return ends[0], ends[1]


def add_adjusted(rows: Mapping[Any, dict[str, Any]], correction: str, confidence: float) -> int:
    """Add what correction adds to the rows; the number of tests."""
    tested = [row for row in rows.values() if row["p"] is not None]
    method = {"holm": "holm", "bh": "fdr_bh", "none": None}[correction]
    ps = [row["p"] for row in tested]
    adjusted = ps if method is None or not ps else multipletests(ps, method=method)[1]
    for row in rows.values():
        row |= {"p_adjusted": None, "significant": None}
    for row, p in zip(tested, adjusted, strict=True):
        row |= {"p_adjusted": p, "significant": bool(p <= 1 - confidence)}
    return len(tested)

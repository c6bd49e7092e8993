"""Statistics as rows tell them: on the benchmark's scale, methods by name, and why something is not known. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis_service.group_by.baseline import DELTA_METHOD_NAMES, DeltaLack, Deltas
from analysis_service.group_by.resolve import ResolvedAnalysis
from analysis_service.group_by.resolve_statistics import StatisticsAsked, field_below
from analysis_service.group_by.uncertainty import Attempts, Macro
from analysis_service.means import round_means
from analysis_service.stats.clusters import FEW_CLUSTERS, MIN_CLUSTERS
from analysis_service.stats.corrections import adjust
from analysis_service.stats.means import Lack, tell_lack
from shared.analysis import AnalysisRequest
from shared.registry.specs import BenchmarkSpec
from shared.statistics import MIN_SHARED, Correction

F = NDArray[np.float64]
Codes = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]
Texts = Mapping[int, str]
"""Why something is not known, by code."""


def named(names: Sequence[str | None], codes: Codes) -> NDArray[Any]:
    """The names of codes, as objects."""
    return np.array(names, dtype=object)[codes]


def delta_columns(deltas: Deltas, spec: BenchmarkSpec) -> Columns:
    """The columns of differences, without those that correction adds."""
    span = spec.score_max - spec.score_min

    def rounded(values: F) -> F:
        return round_means(span * values, spec) + 0.0  # which is never -0

    return {
        "n_shared": deltas.n_shared,
        "delta": rounded(deltas.delta),
        "delta_se": rounded(deltas.se),
        "delta_ci_low": rounded(deltas.low),
        "delta_ci_high": rounded(deltas.high),
        "delta_method": named(DELTA_METHOD_NAMES, deltas.method),
        "p": deltas.p,
    }


def add_correction(parts: Sequence[Columns], correction: Correction, confidence: float) -> int:
    """Add `p_adjusted` and `significant` to the columns of all benchmarks, corrected together; the number of tests."""
    p = np.concatenate([part["p"] for part in parts])
    adjusted = adjust(p, correction.value)
    significant = (adjusted <= 1 - confidence).astype(object)
    significant[np.isnan(adjusted)] = None
    begin = 0
    for part in parts:
        end = begin + len(part["p"])
        part |= {"p_adjusted": adjusted[begin:end], "significant": significant[begin:end]}
        begin = end
    return int(np.count_nonzero(~np.isnan(p)))


def statistics_warnings(
    request: AnalysisRequest, asked: Sequence[ResolvedAnalysis], parts: Sequence[Columns]
) -> Iterator[str]:
    """What whoever reads the statistics of these benchmarks' rows should know."""
    if request.statistics and len(asked) > 1 and request.macro_over is None:
        below = {field_below(resolved.spec, resolved.group_by) for resolved in asked}
        if len(below) > 1:
            yield "no macro means: the benchmarks have different fields below these levels; name one as macro_over"
    if request.cluster_by is not None:
        numbers = np.array([told for part in parts for told in part["n_clusters"] if told is not None])
        few = int(np.count_nonzero((numbers >= MIN_CLUSTERS) & (numbers < FEW_CLUSTERS)))
        if few:
            yield (
                f"cluster_by: {few:,} of {sum(len(part['n']) for part in parts):,} rows have fewer than {FEW_CLUSTERS} "
                f"values of {request.cluster_by}, so that their errors are rough"
            )


def lack_texts(asked: StatisticsAsked) -> Texts:
    """Of `Lack`."""
    return {lack: tell_lack(lack, asked.cluster_by) for lack in Lack if lack is not Lack.NOTHING}


def macro_lacks(macros: Iterable[Macro], attempts: Attempts) -> Codes:
    """Codes of `macro_texts`, over all readings; rows without attempts have a reason of their own."""
    lack = np.zeros(len(attempts.n), dtype=np.int64)
    for macro in macros:
        lack = np.maximum(lack, np.where(np.isnan(macro.mean), 2, np.isnan(macro.errors.se)))
    return np.where(attempts.n == 0, 0, lack)


def macro_texts(asked: StatisticsAsked) -> Texts:
    """Why a macro mean or its error is not known."""
    unit = "question" if asked.cluster_by is None else f"value of {asked.cluster_by}"
    return {
        1: f"macro: some {asked.macro_over} has one {unit} alone, which tells nothing of the error",
        2: f"macro: no scored attempt has a {asked.macro_over}",
    }


def delta_texts(asked: StatisticsAsked) -> Texts:
    """Of `DeltaLack`."""
    return {
        DeltaLack.IS_BASELINE: "delta: this is the baseline",
        DeltaLack.FEW_SHARED: f"delta: fewer than {MIN_SHARED} questions are shared with the baseline",
        DeltaLack.ALL_EQUAL: "delta: the same on all shared questions, which tells nothing of the error",
        DeltaLack.FEW_CLUSTERS: f"delta: fewer than {MIN_CLUSTERS} values of {asked.cluster_by} are shared",
    }


def join_reasons(reasons: Sequence[tuple[Codes, Texts]]) -> NDArray[Any]:
    """The texts of each row's codes in one sentence; None where all are 0."""
    combined = np.zeros(len(reasons[0][0]), dtype=np.int64)
    for codes, texts in reasons:
        combined = combined * (len(texts) + 1) + codes
    if not combined.any():
        return np.full(len(combined), None, dtype=object)
    found, place = np.unique(combined, return_inverse=True)
    sentences = []
    for code in found.tolist():
        told: list[str] = []
        for _, texts in reversed(reasons):
            code, own = divmod(code, len(texts) + 1)  # noqa: PLW2901
            told[:0] = [texts[own]] if own else []
        sentences.append("; ".join(told) or None)
    return np.array(sentences, dtype=object)[place]

"""Means as they are told: on their benchmark's scale, without the digits that only the order of adding up has made."""

from math import ceil, log10
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis_service.stats.means import METHOD_NAMES, Estimates, Lack, tell_lack
from shared.registry.specs import BenchmarkSpec

F = NDArray[np.float64]

_DIGITS = 13


def round_means(means: F, spec: BenchmarkSpec) -> F:
    """`means` of scores of `spec`, to 13 digits of its scale: 13 decimals where scores go from 0 to 1.

    Sums of fractions depend in their last digits on the order of the questions. Models that are equal would be ranked
    by that.
    """
    largest = max(abs(spec.score_min), abs(spec.score_max))
    return np.round(means, max(0, _DIGITS - ceil(log10(largest))))


def as_shares(scores: F, spec: BenchmarkSpec) -> F:
    """Scores of `spec` on the scale from 0 to 1."""
    if (spec.score_min, spec.score_max) == (0, 1):
        return scores
    return (scores - spec.score_min) / (spec.score_max - spec.score_min)


def on_scale(shares: F, spec: BenchmarkSpec) -> F:
    """Values from 0 to 1 as scores of `spec`."""
    return round_means(spec.score_min + (spec.score_max - spec.score_min) * shares, spec)


class ToldMean(NamedTuple):
    """A mean with its interval; what is None is so for `reason`."""

    mean: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    method: str | None
    reason: str | None


def tell_means(found: Estimates, spec: BenchmarkSpec | None, cluster_by: str | None = None) -> list[ToldMean]:
    """The means of rows as scores of `spec`, or with None as shares."""
    if spec is None:
        told = [np.round(values, _DIGITS) for values in (found.mean, found.se, *found.limits)]
    else:
        span = spec.score_max - spec.score_min
        told = [on_scale(found.mean, spec), round_means(span * found.se, spec)]
        told += [on_scale(limits, spec) for limits in found.limits]
    columns = [[None if np.isnan(value) else value for value in values.tolist()] for values in told]
    methods = [METHOD_NAMES[method] for method in found.method.tolist()]
    reasons = [tell_lack(Lack(lack), cluster_by) or None for lack in found.lack.tolist()]
    return [ToldMean(*row) for row in zip(*columns, methods, reasons, strict=True)]

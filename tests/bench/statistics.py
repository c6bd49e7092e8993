"""How fast many models are compared: from their scores to all pairs' intervals and tests, bootstrap draws included.

    python -m tests.bench.statistics [--rounds 7]

Ten made-up models of various skill on 100,000 questions of various difficulty. Told is the fastest of some rounds,
since whatever else the machine does only ever adds to the time, and the median beside it.
"""

import argparse
import statistics
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from analysis_service.stats.matrix import compare_all
from tests.bench.figures import Figure, limited, print_figures

F = NDArray[np.float64]

MODELS, QUESTIONS, DRAWS = 10, 100_000, 2_000
BINARY_LIMIT_MS = 1_000
CONTINUOUS_LIMIT_MS = 5_000
TWO_QUESTIONS, TWO_LIMIT_MS = 14_042, 100
MEMORY_LIMIT_MB = 200


def main() -> int:
    """Measure, print a table, and return 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    figures = measure(parser.parse_args().rounds)
    print_figures("Comparing models", figures)
    return 0 if all(figure.is_met for figure in figures) else 1


def measure(rounds: int = 7) -> list[Figure]:
    """Every figure of this module, in a process of its own: with as many threads for algebra as the service has."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_measure, rounds).result()


def _measure(rounds: int) -> list[Figure]:
    rng = np.random.default_rng(0)
    latent = np.linspace(-0.1, 0.1, MODELS)[:, None] + rng.normal(size=QUESTIONS)
    latent += rng.normal(size=(MODELS, QUESTIONS))
    right, graded, continuous = (latent > 0).astype(np.float64), np.round(_squash(latent) * 4) / 4, _squash(latent)
    gaps = rng.random((MODELS, QUESTIONS)) < 0.02
    pairs = MODELS * (MODELS - 1) // 2
    asked = f"{MODELS} models × {QUESTIONS:,} questions, {pairs} pairs, {DRAWS:,} draws"
    return [
        _timed(f"{asked}: right or wrong", right, BINARY_LIMIT_MS, rounds),
        _timed("the same, 2 % of each model's scores missing", np.where(gaps, np.nan, right), BINARY_LIMIT_MS, rounds),
        _timed("means of four attempts", graded, CONTINUOUS_LIMIT_MS, rounds),
        _timed("continuous scores", continuous, CONTINUOUS_LIMIT_MS, rounds),
        _timed("the same, 2 % missing", np.where(gaps, np.nan, continuous), CONTINUOUS_LIMIT_MS, rounds),
        limited("the same, most memory beyond the scores", _peak_mb(continuous), MEMORY_LIMIT_MB, "MB"),
        _timed(
            f"two models × {TWO_QUESTIONS:,} questions, continuous scores",
            continuous[:2, :TWO_QUESTIONS],
            TWO_LIMIT_MS,
            rounds,
        ),
    ]


def _squash(latent: F) -> F:
    return np.asarray(1 / (1 + np.exp(-latent)), np.float64)


def _compare(scores: F) -> None:
    compared = compare_all(scores, confidence=0.95, draws=DRAWS, seed=0)
    for pair, drawn in zip(compared.pairs, compared.bootstrap, strict=True):
        assert drawn.low < pair.delta < drawn.high, pair


def _timed(what: str, scores: F, limit_ms: float, rounds: int) -> Figure:
    times_ms = []
    for _ in range(rounds):
        began = time.perf_counter()
        _compare(scores)
        times_ms.append((time.perf_counter() - began) * 1000)
    return limited(f"{what} (median of {rounds}: {statistics.median(times_ms):,.0f} ms)", min(times_ms), limit_ms, "ms")


def _peak_mb(scores: F) -> float:
    tracemalloc.start()
    try:
        _compare(scores)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    raise SystemExit(main())

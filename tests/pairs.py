"""What the analysis says of two models, for tests of what is made of it."""

from typing import Any


def pair(a: str, b: str, **changes: Any) -> dict[str, Any]:
    """A pair of a comparison, the first one better."""
    usual = {
        "a": a,
        "b": b,
        "n_shared": 5700,
        "wins": 1204,
        "losses": 381,
        "ties": 4115,
        "mean_a": 0.86,
        "mean_b": 0.83,
        "delta": 0.0312,
        "se": 0.01,
        "ci_low": 0.0121,
        "ci_high": 0.0498,
        "confidence": 0.95,
        "method": "tango",
        "df": None,
        "n_clusters": None,
        "p": 0.0001,
        "test": "exact mcnemar",
        "p_adjusted": 0.0003,
        "significant": True,
        "bootstrap_low": None,
        "bootstrap_high": None,
        "mde80": 0.02,
        "questions_needed": 900,
        "reason": None,
        "warnings": [],
    }
    return usual | changes

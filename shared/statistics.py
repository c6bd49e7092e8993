"""What requests and answers about uncertainty have in common."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from shared.names import TextId

MIN_SHARED = 20
"""Shared questions below which two models are not compared: hardly any difference could be told from chance."""
SEED_MAX = 2**63 - 1
DRAWS_MAX = 20_000


class Correction(StrEnum):
    """How p-values allow for the number of tests of one request."""

    HOLM = "holm"
    """Of all true nulls none is rejected, with the confidence asked for (family-wise error rate)."""
    BH = "bh"
    """Of what is rejected at most a share of 1 − confidence is, on average, a true null (false discovery rate)."""
    NONE = "none"
    """They do not."""


class Verdict(StrEnum):
    """What a comparison of two says."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    """The difference is within the margin."""
    INCONCLUSIVE = "inconclusive"


Confidence = Annotated[
    float, Field(ge=0.5, le=0.9999, strict=True, description="Of intervals, and 1 − the level of tests")
]
Seed = Annotated[int, Field(ge=0, le=SEED_MAX, strict=True, description="Of resampling: equal seeds, equal intervals")]
Draws = Annotated[int, Field(ge=0, le=DRAWS_MAX, strict=True, description="Bootstrap draws; 0 leaves them out")]
Names = Annotated[list[TextId], Field(min_length=1, max_length=100)]

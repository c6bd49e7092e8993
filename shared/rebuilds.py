"""Wire models of `/rebuild`: results applied anew, and how far that and the feed have come."""

from pydantic import BaseModel, ConfigDict, Field

from shared.names import BenchmarkName


class RebuildRequest(BaseModel):
    """What to apply anew."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    benchmark: BenchmarkName | None = Field(default=None, description="This benchmark's results alone; default: all")


class RebuildState(BaseModel):
    """How far this instance has come. Counts of what was applied are since its start."""

    model_config = ConfigDict(frozen=True)

    outdated: int
    """Results of the SQL store that are still to be applied anew, whichever instance does that."""
    position: int | None
    """The seq of the feed's last entry applied."""
    head: int | None
    """The greatest seq of the feed; null while the results service is away."""
    lag: int | None
    """Entries not yet applied."""
    results_applied: int
    answers_applied: int
    applying: str | None
    """The result that is next."""
    stopped: str | None
    """Why nothing is applied, if that is so."""

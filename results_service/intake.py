"""From a POST's body to a result ready to be stored. Pure, and slow for large bodies: call it off the event loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from shared.registry.specs import Registry
from shared.results import ResultKind
from shared.submission import (
    Envelope,
    Scalar,
    check_against,
    read_questions,
    read_submission,
    shape_warnings,
    summarize,
)


@dataclass(frozen=True, slots=True)
class NewResult:
    """A valid result: `data` as received, and what is told of it without reading it again."""

    kind: ResultKind
    envelope: Envelope
    data: bytes
    sha256: str
    questions: int
    summary: Mapping[str, Scalar]
    warnings: tuple[str, ...]

    @property
    def result_name(self) -> str:
        """The identity of the result."""
        return self.envelope.result_name


def read_result(body: bytes, kind: ResultKind, registry: Registry) -> NewResult:
    """Read and check a body. MalformedJson or InvalidRequest says what is wrong and where.

    A raw input's data is anything; a standardized result's questions are checked against its benchmark's definition.
    """
    submission = read_submission(body)
    questions = None
    warnings: list[str] = []
    if kind is ResultKind.STANDARDIZED:
        name = submission.envelope.benchmark_name
        benchmark = registry.benchmarks.get(name)
        questions = read_questions(submission.value)
        if benchmark is not None and questions is not None:
            check_against(benchmark, questions)
        warnings = shape_warnings(submission.value, questions, benchmark, name)
    return NewResult(
        kind=kind,
        envelope=submission.envelope,
        data=submission.data,
        sha256=sha256(submission.data).hexdigest(),
        questions=len(questions or ()),
        summary=summarize(submission.value),
        warnings=tuple(warnings),
    )

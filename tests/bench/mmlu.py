"""Made-up answers in the shape of MMLU: 14,042 questions of 57 subjects, and as many runs of 15 models as are wanted.

A run is the same for the same seed and number. Its document and its columns, of which the peer's table is made, are
written from the same numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import product

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.registry.load import load_registry
from shared.timestamps import canonical_timestamp

BENCHMARK = "mmlu"
# fmt: off
QUESTIONS_OF_SUBJECT = {
    "abstract_algebra": 100, "anatomy": 135, "astronomy": 152, "business_ethics": 100, "clinical_knowledge": 265,
    "college_biology": 144, "college_chemistry": 100, "college_computer_science": 100, "college_mathematics": 100,
    "college_medicine": 173, "college_physics": 102, "computer_security": 100, "conceptual_physics": 235,
    "econometrics": 114, "electrical_engineering": 145, "elementary_mathematics": 378, "formal_logic": 126,
    "global_facts": 100, "high_school_biology": 310, "high_school_chemistry": 203,
    "high_school_computer_science": 100, "high_school_european_history": 165, "high_school_geography": 198,
    "high_school_government_and_politics": 193, "high_school_macroeconomics": 390, "high_school_mathematics": 270,
    "high_school_microeconomics": 238, "high_school_physics": 151, "high_school_psychology": 545,
    "high_school_statistics": 216, "high_school_us_history": 204, "high_school_world_history": 237,
    "human_aging": 223, "human_sexuality": 131, "international_law": 121, "jurisprudence": 108,
    "logical_fallacies": 163, "machine_learning": 112, "management": 103, "marketing": 234, "medical_genetics": 100,
    "miscellaneous": 783, "moral_disputes": 346, "moral_scenarios": 895, "nutrition": 306, "philosophy": 311,
    "prehistory": 324, "professional_accounting": 282, "professional_law": 1534, "professional_medicine": 272,
    "professional_psychology": 612, "public_relations": 110, "security_studies": 245, "sociology": 201,
    "us_foreign_policy": 100, "virology": 166, "world_religions": 171,
}
# fmt: on
QUESTIONS = sum(QUESTIONS_OF_SUBJECT.values())
MODELS = 15
STATUSES = ("scored", "refused", "truncated", "error", "unscored")
_STATUS_SHARES = (0.975, 0.012, 0.004, 0.005, 0.004)
_LETTERS = "ABCD"
_ENDINGS = 64
"""How many rows of latency, tokens and cost there are for each way to answer."""
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MadeUpRun:
    """One run: its document, and an entry of each column for each question it was asked."""

    result_name: str
    model: str
    document: bytes
    """JSON on one line."""
    asked: Numbers
    """Numbers of questions."""
    statuses: Numbers
    """Index into STATUSES."""
    scores: NDArray[np.float64]
    """NaN where there is none."""


class MadeUpMmlu:
    """The questions, and what makes runs of them. `ids`, `subjects`, `categories`, `sources` are in their order."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        registry = load_registry()
        spec = registry.benchmarks[BENCHMARK]
        categories = spec.by_name["subject"].parent_values
        self.models: Sequence[str] = sorted(registry.models)[:MODELS]
        chance = np.random.default_rng(seed)
        self.ids = [f"{subject}/{n}" for subject, count in QUESTIONS_OF_SUBJECT.items() for n in range(count)]
        self.subjects = [question.partition("/")[0] for question in self.ids]
        self.categories = [str(categories[subject]) for subject in self.subjects]
        is_general = chance.random(QUESTIONS) < 0.2
        self.sources = [
            "general" if general else _source(subject)
            for subject, general in zip(self.subjects, is_general, strict=True)
        ]
        self._targets = chance.integers(4, size=QUESTIONS)
        self._difficulty = chance.normal(0, 0.15, size=QUESTIONS)
        self._heads = np.array([self._head(number) for number in range(QUESTIONS)], dtype=object)
        self._endings = np.array(list(_endings(chance)), dtype=object)

    def runs(self, count: int, *, share: float = 1.0, prefix: str = "bench") -> Iterator[MadeUpRun]:
        """`count` runs, the models in turn, an hour apart; of each subject's questions the first `share`."""
        asked = first_of_each_subject(share)
        for number in range(count):
            yield self.run(number, asked, prefix=prefix)

    def run(self, number: int, asked: Numbers, *, prefix: str = "bench") -> MadeUpRun:
        """The run of this number, asked these questions."""
        chance = np.random.default_rng((self.seed, number, len(asked)))
        model = number % len(self.models)
        is_right = chance.random(len(asked)) < 0.5 + model / 40 + self._difficulty[asked]
        statuses = chance.choice(len(STATUSES), size=len(asked), p=_STATUS_SHARES)
        # _endings() has them in this order: status, target, right or wrong, ending.
        rows = (statuses * 4 + self._targets[asked]) * 2 + is_right
        endings = self._endings[rows * _ENDINGS + chance.integers(_ENDINGS, size=len(asked))]
        timestamp = canonical_timestamp((_FIRST + timedelta(hours=number)).isoformat())
        run_id = f"{prefix}-{number:05}"
        envelope = {
            "run_id": run_id,
            "benchmark_name": BENCHMARK,
            "timestamp": timestamp,
            "model_id": self.models[model],
            "source": "bench",
        }
        questions = b",".join((self._heads[asked] + endings).tolist())
        return MadeUpRun(
            result_name=f"{timestamp}-{BENCHMARK}-{run_id}",
            model=self.models[model],
            document=msgspec.json.encode(envelope)[:-1] + b',"data":{"questions":[' + questions + b"]}}",
            asked=asked,
            statuses=statuses,
            scores=np.where(statuses == 0, is_right.astype(np.float64), np.nan),
        )

    def _head(self, number: int) -> bytes:
        """The start of a question's object: what every run says of it."""
        shared = {
            "question_id": self.ids[number],
            "content_hash": f"sha256:{sha256(self.ids[number].encode()).hexdigest()}",
            "target": _LETTERS[self._targets[number]],
            "metadata": {
                "subject": self.subjects[number],
                "category": self.categories[number],
                "knowledge_source": self.sources[number],
            },
            "input_tokens": 60 + number % 300,
        }
        return msgspec.json.encode(shared)[:-1] + b","


def first_of_each_subject(share: float) -> Numbers:
    """Numbers of the first questions of each subject, as large a share of all of them."""
    numbers, start = [], 0
    for count in QUESTIONS_OF_SUBJECT.values():
        numbers.append(np.arange(start, start + round(count * share)))
        start += count
    return np.concatenate(numbers)


def _source(subject: str) -> str:
    names = {"high": "school_exam", "college": "university_exam", "professional": "professional_exam"}
    return names.get(subject.partition("_")[0], "textbook")


def _endings(chance: np.random.Generator) -> Iterator[bytes]:
    """The ends of questions' objects: what a run says of a question."""
    for status, target, is_right in product(STATUSES, range(4), (False, True)):
        for ending in range(_ENDINGS):
            row: dict[str, object] = {"status": status}
            if status == "scored":
                row["score"] = float(is_right)
            if status in {"scored", "unscored"}:
                row["answer"] = _LETTERS[target if is_right else (target + 1 + ending % 3) % 4]
            row["latency_ms"] = round(float(chance.lognormal(6.5, 0.4)), 1)
            row["output_tokens"] = int(chance.integers(1, 12))
            row["cost_usd"] = round(float(chance.random()) / 1000, 7)
            yield msgspec.json.encode(row)[1:]

"""A synthetic sample: invented answers of the shipped models to invented questions, for a first look at every table.

Nothing here was measured. Each model has an ability, each question a difficulty, and a question is answered rightly
with a probability that grows with the difference (the Rasch model of item response theory, and a floor for
guessing). So the tables look as real ones do: better models score higher, subjects differ, some answers are missing.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

from shared.enums import Benchmark, Model
from shared.registry.load import load_registry
from shared.registry.specs import ModelSpec

SOURCE = "scorehouse synthetic sample"

ABILITIES: dict[Model, float] = {
    Model.DEEPSEEK_R1: 2.3,
    Model.CLAUDE_3_5_SONNET: 1.6,
    Model.LLAMA_4_MAVERICK: 1.55,
    Model.DEEPSEEK_V3: 1.5,
    Model.GEMINI_2_0_FLASH: 1.45,
    Model.GPT_4O: 1.3,
    Model.LLAMA_4_SCOUT: 1.1,
    Model.QWEN2_5_72B_INSTRUCT: 1.05,
    Model.MISTRAL_LARGE_2407: 0.9,
    Model.PHI_4: 0.85,
    Model.CLAUDE_3_OPUS: 0.8,
    Model.LLAMA_3_1_70B_INSTRUCT: 0.75,
    Model.GPT_4: 0.65,
    Model.GPT_4O_MINI: 0.5,
    Model.GEMMA_2_27B_IT: 0.1,
}
"""Invented; of the order that one would expect, so that the tables are easy to read."""

MEASURED_TWICE = (Model.GPT_4O, Model.DEEPSEEK_R1, Model.LLAMA_4_MAVERICK)
"""These have an earlier and slightly worse run too, sent under another name of the model, so that latest is not all."""

_FAILURES = (("refused", 0.004), ("truncated", 0.008), ("error", 0.002))
_Metadata = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    difficulty: float
    guess: float
    target: str
    wrong: tuple[str, ...]
    metadata: _Metadata


def sample_documents(seed: int = 7) -> Iterator[dict[str, Any]]:
    """Bodies for `POST /standardized_output`, about 40,000 answers in all; the same for the same seed.

    All shipped benchmarks and models, every metadata field; run ids begin with `synthetic-`.
    """
    facts = load_registry().models
    for benchmark in Benchmark:
        questions = list(_QUESTIONS[benchmark](_dice(seed, benchmark)))
        for model in ABILITIES:
            if model in MEASURED_TWICE:
                yield _document(seed, benchmark, questions, facts[model], earlier=True)
            yield _document(seed, benchmark, questions, facts[model], earlier=False)


def _dice(*parts: object) -> Random:
    return Random("/".join(map(str, parts)))  # noqa: S311 - repeatable is what a sample needs, not secret


def _document(
    seed: int, benchmark: Benchmark, questions: list[_Question], facts: ModelSpec, *, earlier: bool
) -> dict[str, Any]:
    model = Model(facts.id)
    day = f"2025-{3 if earlier else 6:02}-{list(ABILITIES).index(model) + 1:02}"
    ability = ABILITIES[model] - (0.3 if earlier else 0.0)
    attempts = 4 if benchmark is Benchmark.AIME else 1
    random = _dice(seed, benchmark, model, day)
    return {
        "run_id": f"synthetic-{facts.id}-{day}",
        "benchmark_name": str(benchmark),
        "timestamp": f"{day}T{9 + list(Benchmark).index(benchmark):02}:00:00Z",
        "model_id": facts.aliases[0] if earlier else facts.id,
        "source": SOURCE,
        "provenance": {"harness": SOURCE, "config": {"seed": seed, "attempts": attempts}},
        "data": {
            "questions": [
                _answer(random, benchmark, question, attempt=attempt, ability=ability, facts=facts)
                for question in questions
                for attempt in range(attempts)
            ]
        },
    }


def _answer(
    random: Random, benchmark: Benchmark, question: _Question, *, attempt: int, ability: float, facts: ModelSpec
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "question_id": question.id,
        "attempt": attempt,
        "status": "scored",
        "target": question.target,
        "content_hash": f"sha256:{sha256(f'{benchmark}/{question.id}'.encode()).hexdigest()}",
        "metadata": question.metadata,
    }
    draw = random.random()
    for status, share in _FAILURES:
        if draw < share:
            answer["status"] = status
            break
        draw -= share
    else:
        knows = 1 / (1 + math.exp(question.difficulty - ability))
        right = random.random() < question.guess + (1 - question.guess) * knows
        answer["score"] = 1.0 if right else 0.0
        answer["answer"] = question.target if right else random.choice(question.wrong)
    answer.update(_usage(random, benchmark, facts))
    return answer


def _usage(random: Random, benchmark: Benchmark, facts: ModelSpec) -> dict[str, int | float]:
    """Time, tokens and cost of one answer; the last two only of models with a list price."""
    typical = _OUTPUT_TOKENS[benchmark] * (6 if facts.id == Model.DEEPSEEK_R1 else 1)
    input_tokens = random.randint(60, 400)
    output_tokens = max(1, round(random.lognormvariate(math.log(typical), 0.5)))
    usage: dict[str, int | float] = {"latency_ms": round(200 + output_tokens * random.uniform(8, 20))}
    if facts.input_usd_per_mtok is None or facts.output_usd_per_mtok is None:
        return usage
    cost = (input_tokens * facts.input_usd_per_mtok + output_tokens * facts.output_usd_per_mtok) / 1e6
    return usage | {"input_tokens": input_tokens, "output_tokens": output_tokens, "cost_usd": round(cost, 8)}


_OUTPUT_TOKENS = {
    Benchmark.AIME: 1500,
    Benchmark.MMLU: 5,
    Benchmark.MMLU_REDUX: 5,
    Benchmark.HLE: 600,
    Benchmark.DS_MMLU: 40,
    Benchmark.MATH500: 500,
}


def _aime(random: Random) -> Iterator[_Question]:
    for year, contest in ((2024, "II"), (2025, "I")):
        for number in range(1, 16):
            metadata: _Metadata = {
                "year": year,
                "contest": contest,
                "problem_number": number,
                "solution_steps": 2 + number // 3 + random.randint(0, 3),
            }
            yield _open(random, f"{year}-{contest}-{number}", 0.6 + 0.28 * number, metadata, guess=0.001)


def _mmlu(random: Random) -> Iterator[_Question]:
    exams = {"high_school": "school_exam", "college": "university_exam", "professional": "professional_exam"}
    for category, subject, harder in _subjects(random, _MMLU_SUBJECTS):
        exam = next((exam for prefix, exam in exams.items() if subject.startswith(prefix)), None)
        for number in range(10):
            source = exam or random.choice(("textbook", "general"))
            metadata: _Metadata = {"category": category, "subject": subject, "knowledge_source": source}
            yield _choice(random, f"{subject}/{number}", -0.4 + harder, metadata)


def _mmlu_redux(random: Random) -> Iterator[_Question]:
    for category, subject, harder in _subjects(random, _MMLU_SUBJECTS):
        for number in range(10):
            error = "ok" if random.random() < 0.9 else random.choice(_REDUX_ERRORS)
            metadata: _Metadata = {"category": category, "subject": subject, "error_type": error}
            if random.random() < 0.95:  # some lack it, as they do in real annotations
                local = category in ("Humanities", "Social Sciences") and random.random() < 0.5
                metadata["cultural_context"] = random.choice(_REDUX_CONTEXTS) if local else "universal"
            yield _choice(random, f"{subject}/{number}", -0.6 + harder + (1.5 if error != "ok" else 0.0), metadata)


def _hle(random: Random) -> Iterator[_Question]:
    for category, count in _HLE_CATEGORIES.items():
        harder = random.gauss(0, 0.3)
        for number in range(count):
            depth = random.randint(2, 9)
            kind = _choice if random.random() < 0.25 else _open
            metadata: _Metadata = {
                "category": category,
                "answer_type": "multipleChoice" if kind is _choice else "exactMatch",
                "consensus_level": random.choices(("low", "medium", "high"), (1, 3, 6))[0],
                "reasoning_depth": depth,
                "domain_knowledge": random.choices(("general", "undergraduate", "graduate", "expert"), (1, 2, 5, 6))[0],
                "ambiguity": random.choices(("none", "low", "medium", "high"), (8, 4, 2, 1))[0],
            }
            yield kind(random, f"{category}/{number}", 3.5 + 0.2 * depth + harder, metadata)


def _ds_mmlu(random: Random) -> Iterator[_Question]:
    for category, subject, harder in _subjects(random, _DS_SUBJECTS):
        for number in range(20):
            relevance = random.choices(("low", "medium", "high"), (2, 3, 3))[0]
            metadata: _Metadata = {"category": category, "subject": subject, "industry_relevance": relevance}
            yield _choice(random, f"{subject}/{number}", 0.4 + harder, metadata)


def _math500(random: Random) -> Iterator[_Question]:
    for subject, count in _MATH_SUBJECTS.items():
        harder = random.gauss(0, 0.3)
        for number in range(count):
            level = random.choices((1, 2, 3, 4, 5), (1, 2, 2, 3, 3))[0]
            theorem = random.choices(("none", "standard", "advanced"), (6 - level, 3, level))[0]
            metadata: _Metadata = {
                "subject": subject,
                "level": level,
                "proof_required": random.random() < 0.04 * level,
                "theorem_dependency": theorem,
            }
            yield _open(random, f"{subject}/{number}", -2.3 + 0.8 * level + harder, metadata)


def _subjects(random: Random, table: dict[str, str]) -> Iterator[tuple[str, str, float]]:
    """Category, subject, and how much harder than others the subject is."""
    for category, subjects in table.items():
        for subject in subjects.split():
            yield category, subject, random.gauss(0, 0.6)


def _choice(random: Random, name: str, difficulty: float, metadata: _Metadata) -> _Question:
    target = random.choice("ABCD")
    wrong = tuple(letter for letter in "ABCD" if letter != target)
    return _Question(f"synthetic/{name}", difficulty + random.gauss(0, 1), 0.25, target, wrong, metadata)


def _open(random: Random, name: str, difficulty: float, metadata: _Metadata, *, guess: float = 0.0) -> _Question:
    target, *wrong = (str(number) for number in random.sample(range(1000), 5))
    return _Question(f"synthetic/{name}", difficulty + random.gauss(0, 1), guess, target, tuple(wrong), metadata)


_QUESTIONS: dict[Benchmark, Callable[[Random], Iterator[_Question]]] = {
    Benchmark.AIME: _aime,
    Benchmark.MMLU: _mmlu,
    Benchmark.MMLU_REDUX: _mmlu_redux,
    Benchmark.HLE: _hle,
    Benchmark.DS_MMLU: _ds_mmlu,
    Benchmark.MATH500: _math500,
}

_MMLU_SUBJECTS = {
    "STEM": "abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics "
    "college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics "
    "high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics "
    "high_school_physics high_school_statistics machine_learning",
    "Humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    "Social Sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "Other": "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management "
    "marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
}
_REDUX_ERRORS = (
    "bad_question_clarity",
    "bad_options_clarity",
    "no_correct_answer",
    "multiple_correct_answers",
    "wrong_groundtruth",
    "expert",
)
_REDUX_CONTEXTS = ("western", "united_states", "other")
_HLE_CATEGORIES = {
    "Math": 100,
    "Physics": 25,
    "Chemistry": 20,
    "Biology/Medicine": 30,
    "Computer Science/AI": 25,
    "Engineering": 10,
    "Humanities/Social Science": 20,
    "Other": 20,
}
_DS_SUBJECTS = {
    "Manufacturing": "process_control quality_assurance industrial_safety",
    "Electronics": "circuit_design semiconductor_devices signal_processing",
    "Energy": "power_systems battery_technology renewable_generation",
    "Finance": "risk_management auditing payment_systems",
}
_MATH_SUBJECTS = {
    "Prealgebra": 80,
    "Algebra": 120,
    "Number Theory": 65,
    "Counting & Probability": 40,
    "Geometry": 40,
    "Intermediate Algebra": 100,
    "Precalculus": 55,
}

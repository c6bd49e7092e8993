"""Imports meet the registry: task names become benchmarks, a sample's own fields become metadata."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.enums import Benchmark
from shared.formats.mapping import CACHE_MAX, UNMAPPED_MAX, MetadataMapper, field_name, map_task
from shared.names import BENCHMARK_NAME, ROW_KEYS
from shared.registry.load import load_registry
from shared.registry.specs import BenchmarkSpec, FieldSpec, Registry

REGISTRY = load_registry()

QUIZ = """
name = "quiz"
title = { en = "Quiz" }
description = { en = "Questions." }
harness_names = ["quiz_{topic}", "quiz_{topic}_{level}", "quiz_hard", "{area}-quizzes", "quiz_plants_of_{area}"]

[[fields]]
name = "realm"
type = "category"
description = { en = "Realm." }

[[fields]]
name = "area"
type = "category"
parent = "realm"
places = ["doc.area"]
parent_values = { Life = "Nature", Earth = "Nature" }
description = { en = "Area." }

[[fields]]
name = "topic"
type = "category"
parent = "area"
places = ["doc.topic", "metadata.topic", "deep.er.topic", "topic"]
values = ["Rocks & Soil", "Plants"]
parent_values = { "Plants" = "Life", "Rocks & Soil" = "Earth" }
spellings = { botany = "Plants" }
description = { en = "Topic." }

[[fields]]
name = "level"
type = "integer"
values = [1, 2, 3]
spellings = { easy = 1 }
description = { en = "Level." }

[[fields]]
name = "weight"
type = "number"
description = { en = "Weight." }

[[fields]]
name = "checked"
type = "boolean"
description = { en = "Whether it was checked." }

[[fields]]
name = "note"
type = "category"
description = { en = "Note." }
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "quiz.toml").write_text(QUIZ, encoding="utf-8")
    return load_registry(folder)


@pytest.fixture(scope="module")
def quiz(registry: Registry) -> BenchmarkSpec:
    return registry.benchmarks["quiz"]


# Which benchmark a task is: (names, benchmark, what the name says)

KNOWN: list[tuple[str, str, dict[str, Any]]] = [
    *[(name, name, {}) for name in Benchmark],
    ("mmlu_anatomy", "mmlu", {"subject": "anatomy"}),
    ("MMLU_High-School Biology", "mmlu", {"subject": "high_school_biology"}),
    ("hendrycksTest-anatomy", "mmlu", {"subject": "anatomy"}),
    ("hendrycks-test", "hendrycks-test", {}),
    ("hendrycksTest", "mmlu", {}),
    ("mmlu:virology", "mmlu", {"subject": "virology"}),
    ("lukaemon_mmlu_virology", "mmlu", {"subject": "virology"}),
    ("inspect_evals/mmlu_0_shot", "mmlu", {}),
    ("cais/mmlu", "mmlu", {}),
    ("mmlu_redux", "mmlu-redux", {}),
    ("mmlu_redux_anatomy", "mmlu-redux", {"subject": "anatomy"}),
    ("mmlu_redux_anatomy_generative", "mmlu-redux", {"subject": "anatomy"}),
    ("mmlu_redux_2:anatomy", "mmlu-redux", {"subject": "anatomy"}),
    ("edinburgh-dawg/mmlu-redux-2.0", "mmlu-redux", {}),
    ("minerva_math500", "math500", {}),
    ("hendrycks_math500", "math500", {}),
    ("math_500", "math500", {}),
    ("HuggingFaceH4/MATH-500", "math500", {}),
    ("aime24", "aime", {"year": 2024}),
    ("aime_2022", "aime", {"year": 2022}),
    ("inspect_evals/aime2025", "aime", {"year": 2025}),
    ("AIME2025-II", "aime", {"year": 2025, "contest": "II"}),
    ("gneubig/aime-1983-2024", "aime", {}),
    ("aime24_avg", "aime", {"year": 2024}),
    ("aime2025_repeat_32", "aime", {"year": 2025}),
    ("cais/hle", "hle", {}),
    ("hle_judge", "hle", {}),
    ("math_prm800k_500-llmjudge", "math500", {}),
    ("helm_mmlu:Abstract Algebra", "mmlu", {"subject": "abstract_algebra"}),
    ("helm_mmlu:MMLU All Subjects", "mmlu", {}),
    ("ds_mmlu_logistics", "ds-mmlu", {"subject": "logistics"}),
]

# They look like a benchmark that ships and ask something else, or in another way.
UNKNOWN = {
    "mmlu_pro": "mmlu_pro",
    "TIGER-Lab/MMLU-Pro": "mmlu-pro",
    "mmlu_anatomy_continuation": "mmlu_anatomy_continuation",
    "mmlu_flan_n_shot_generative_anatomy": "mmlu_flan_n_shot_generative_anatomy",
    "mmlu_stem": "mmlu_stem",
    "global_mmlu": "global_mmlu",
    "global_mmlu_full_en_anatomy": "global_mmlu_full_en_anatomy",
    "openai/MMMLU": "mmmlu",
    "mmlu_redux_spanish": "mmlu_redux_spanish",
    "hendrycks_math": "hendrycks_math",
    "hendrycks_math_algebra": "hendrycks_math_algebra",
    "minerva_math": "minerva_math",
    "math": "math",
    "aime90": "aime90",
    "aime24_gpassk": "aime24_gpassk",
    "gpqa_diamond": "gpqa_diamond",
    "aime24_nofigures": "aime24_nofigures",
    "beyondaime": "beyondaime",
    "math_prm800k_500-llmverify-run1": "math_prm800k_500-llmverify-run1",
    "hle_verified_llmjudge": "hle_verified_llmjudge",
    "cmmlu_anatomy": "cmmlu_anatomy",
    "tmmluplus_anatomy": "tmmluplus_anatomy",
    "helm_mmlu": "helm_mmlu",
}


@pytest.mark.parametrize(("name", "benchmark", "metadata"), KNOWN)
def test_names_of_harnesses_lead_to_what_ships(name: str, benchmark: str, metadata: dict[str, Any]) -> None:
    mapping = map_task([name], REGISTRY)
    assert (mapping.benchmark, mapping.registered, mapping.metadata) == (
        benchmark,
        benchmark in REGISTRY.benchmarks,
        metadata,
    )


@pytest.mark.parametrize("benchmark", ["mmlu", "mmlu-redux"])
def test_a_category_that_harnesses_spell_otherwise_is_the_same(benchmark: str) -> None:
    mapper = MetadataMapper(REGISTRY.benchmarks[benchmark])
    told = {"category": "Social Science", "subset": "econometrics"}
    assert mapper.read({}, {}, told) == {"category": "Social Sciences", "subject": "econometrics"}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_only_looks_alike_is_a_benchmark_of_its_own(name: str) -> None:
    mapping = map_task([name], REGISTRY)
    assert (mapping.benchmark, mapping.registered, mapping.metadata) == (UNKNOWN[name], False, {})


def test_all_57_subjects_of_mmlu_have_a_category() -> None:
    for benchmark in ("mmlu", "mmlu-redux"):
        subject, category = (REGISTRY.benchmarks[benchmark].by_name[name] for name in ("subject", "category"))
        assert len(subject.parent_values) == 57
        assert set(subject.parent_values.values()) == set(category.values)


@pytest.mark.parametrize(
    ("names", "benchmark"),
    [
        (["my_task", "cais/mmlu"], "mmlu"),
        (["my_task", "their_task", "cais/mmlu", "cais/hle"], "mmlu"),
        (["mmlu_anatomy", "cais/hle"], "mmlu"),
        (["mmlu_anatomy_continuation", "cais/mmlu"], "mmlu_anatomy_continuation"),
        (["ours/mmlu_anatomy_continuation", "cais/mmlu"], "mmlu_anatomy_continuation"),
        (["mmlu_hle", "cais/hle"], "hle"),
        (["aime25_default", "aime25"], "aime"),  # a subset, and the benchmark that it is one of
        (["math_500_level_1", "math_500"], "math500"),
    ],
)
def test_the_first_known_name_counts_and_variants_stay_apart(names: list[str], benchmark: str) -> None:
    assert map_task(names, REGISTRY).benchmark == benchmark


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("quiz", {}),
        ("quiz_hard", {}),
        ("quiz_botany", {"topic": "Plants"}),
        ("QUIZ-rocks-and-soil", {"topic": "Rocks & Soil"}),
        ("quiz_plants_2", {"topic": "Plants", "level": 2}),
        ("quiz_plants_easy", {"topic": "Plants", "level": 1}),
        ("life_quizzes", {"area": "Life"}),
        ("quiz_plants_of_life", {"area": "Life"}),
    ],
)
def test_patterns_say_what_they_hold(name: str, metadata: dict[str, Any], registry: Registry) -> None:
    mapping = map_task([f"ours/{name}"], registry)
    assert (mapping.benchmark, mapping.registered, mapping.metadata) == ("quiz", True, metadata)


@pytest.mark.parametrize(
    "name", ["quiz_plants_4", "quiz_plantsy", "quizzes", "quiz-stars", "some_quizzes", "my_quiz_plants"]
)
def test_patterns_take_known_values_only(name: str, registry: Registry) -> None:
    assert not map_task([name], registry).registered


def test_of_two_patterns_the_more_exact_one_counts(tmp_path: Path) -> None:
    head = 'title = { en = "x" }\ndescription = { en = "x" }\n'
    field = '[[fields]]\nname = "topic"\ntype = "category"\ndescription = { en = "x" }\n'
    for stem, pattern in {"one": "sci_{topic}", "two": "sci_hard_{topic}"}.items():
        text = f'name = "{stem}"\nharness_names = ["{pattern}"]\n{head}{field}'
        (tmp_path / f"{stem}.toml").write_text(text, encoding="utf-8")
    registry = load_registry(tmp_path)
    assert [map_task([name], registry).benchmark for name in ("sci_hard_x", "sci_easy_x", "sci_hard_")] == [
        "two",
        "one",
        "one",
    ]


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [
        ("Org/My Task (v2)", "my-task-v2"),
        ("arc:challenge|25", "arc-challenge-25"),
        ("_x_", "x"),
        ("t" * 60, "t" * 48),
        ("한국어", "unknown"),
        ("", "unknown"),
        # The shipped ones are not taken by what does not mean them.
        ("mmlu!", "mmlu-other"),
        ("mmlu.redux", "mmlu.redux-other"),
    ],
)
def test_an_unknown_name_is_made_fit(name: str, benchmark: str) -> None:
    mapping = map_task([name], REGISTRY)
    assert (mapping.benchmark, mapping.registered) == (benchmark, False)
    assert BENCHMARK_NAME.fullmatch(mapping.benchmark)


# Metadata of a registered benchmark: (field, what a harness wrote, the value; None is left out)

VALUES: list[tuple[str, Any, Any]] = [
    ("topic", "Plants", "Plants"),
    ("topic", " plants ", "Plants"),
    ("topic", "rocks_and-soil", "Rocks & Soil"),
    ("topic", "Botany", "Plants"),
    ("topic", "Stars", "Stars"),
    ("note", "some-thing", "some-thing"),
    ("note", " x ", "x"),
    ("note", 3, "3"),
    ("note", True, "true"),
    ("note", "x" * 301, None),
    ("note", "  ", None),
    ("level", 3, 3),
    ("level", 3.0, 3),
    ("level", "Level 3", 3),
    ("level", "-3", -3),
    ("level", "L-3", 3),
    ("level", "EASY", 1),
    ("level", "2024-I-1", None),
    ("level", "3.5", None),
    ("level", 3.5, None),
    ("level", True, None),
    ("level", "?", None),
    ("level", 2**63, None),
    ("level", "9" * 30, None),
    ("weight", "0.5", 0.5),
    ("weight", 2, 2),
    ("weight", "nan", None),
    ("weight", math.inf, None),
    ("weight", False, None),
    ("weight", "heavy", None),
    ("checked", True, True),
    ("checked", "Yes", True),
    ("checked", "FALSE", False),
    ("checked", 1, True),
    ("checked", 0.0, False),
    ("checked", "maybe", None),
    ("checked", 2, None),
]


@pytest.mark.parametrize(("field", "written", "value"), VALUES)
def test_values_become_the_fields_type(field: str, written: Any, value: Any, quiz: BenchmarkSpec) -> None:
    mapper = MetadataMapper(quiz)
    read = mapper.read({"doc": {field: written}}, {})
    assert read.get(field) == value
    assert type(read.get(field)) is type(value)
    assert sum(mapper.unmapped.values()) == (value is None)
    assert mapper.used == (set() if value is None else {f"doc.{field}"})


@pytest.mark.parametrize(
    ("origin", "task", "of_task", "metadata", "used"),
    [
        ({}, {}, {}, {}, set()),
        ({"doc": {"topic": None}, "metadata": {"topic": ""}}, {}, {}, {}, set()),
        ({"doc": {"note": "default"}}, {}, {}, {}, set()),  # what a data set without subsets calls its only one
        ({"doc": {"topic": ["Plants"], "level": {"a": 1}}, "metadata": 3}, {}, {}, {}, set()),
        ({"doc": {"note": "a"}, "metadata": {"note": "b"}, "note": "c"}, {}, {}, {"note": "a"}, {"doc.note"}),
        ({"metadata": {"note": "b"}, "note": "c"}, {}, {}, {"note": "b"}, {"metadata.note"}),
        ({"note": "c"}, {}, {}, {"note": "c"}, {"note"}),
        ({"doc": {"area": "a"}, "metadata": {"area": "b"}}, {}, {}, {"area": "a"}, {"doc.area"}),
        ({"metadata": {"area": "b"}}, {}, {}, {}, set()),  # places are named: no others count
        ({"doc": {"level": "?"}, "metadata": {"level": 2}}, {}, {}, {"level": 2}, {"metadata.level"}),
        ({"doc": {"level": 1}}, {"level": 2}, {"level": 3}, {"level": 1}, {"doc.level"}),
        ({"doc": {"level": "?"}}, {"level": 2}, {"level": 3}, {"level": 2}, set()),
        ({}, {}, {"doc": {"level": 3}}, {"level": 3}, {"doc.level"}),
        (
            {"deep": {"er": {"topic": "botany"}}},
            {},
            {},
            {"realm": "Nature", "area": "Life", "topic": "Plants"},
            {"deep.er.topic"},
        ),
        (
            {"topic": "Plants", "doc": {"area": "Earth"}},
            {},
            {},
            {"realm": "Nature", "area": "Earth", "topic": "Plants"},
            {"topic", "doc.area"},
        ),
        ({}, {"topic": "Plants"}, {}, {"realm": "Nature", "area": "Life", "topic": "Plants"}, set()),
        ({"topic": "Stars"}, {}, {}, {"topic": "Stars"}, {"topic"}),
    ],
)
def test_places_in_order(
    origin: Mapping[str, Any],
    task: Mapping[str, Any],
    of_task: Mapping[str, Any],
    metadata: dict[str, Any],
    used: set[str],
    quiz: BenchmarkSpec,
) -> None:
    mapper = MetadataMapper(quiz)
    assert mapper.read(origin, task, of_task) == metadata
    assert mapper.used == used


def test_equal_values_of_other_types_are_told_apart(quiz: BenchmarkSpec) -> None:
    mapper, task = MetadataMapper(quiz), dict[str, Any]()
    read = [mapper.read({"doc": {"level": value, "note": value}}, task) for value in (1, True, 1.0, "1", 1)]
    assert [item.get("level") for item in read] == [1, None, 1, 1, 1]
    assert [item["note"] for item in read] == ["1", "true", "1.0", "1", "1"]


def test_another_task_is_another_answer(quiz: BenchmarkSpec) -> None:
    mapper, origin = MetadataMapper(quiz), {"doc": {"note": "x"}}
    first, second = {"level": 1}, {"level": 2}
    read = [mapper.read(origin, task)["level"] for task in (first, second, second, first)]
    no_name: dict[str, Any] = {}
    read += [mapper.read(origin, no_name, of_task)["level"] for of_task in ({"level": 3}, {"level": 2})]
    assert read == [1, 2, 2, 1, 3, 2]


def test_what_cannot_be_converted_is_counted_by_row(quiz: BenchmarkSpec) -> None:
    mapper = MetadataMapper(quiz)
    for value in ("?", "?", 2, "none", "?"):
        mapper.read({"doc": {"level": value}}, {})
    assert mapper.unmapped == {"level: '?'": 3, "level: 'none'": 1}


def test_what_cannot_be_converted_stays_bounded(quiz: BenchmarkSpec) -> None:
    mapper = MetadataMapper(quiz)
    for number in range(CACHE_MAX + 5):
        mapper.read({"doc": {"level": f"?{number}-{number}"}}, {})
    assert len(mapper.unmapped) == UNMAPPED_MAX + 1
    assert mapper.unmapped["level"] == CACHE_MAX + 5 - UNMAPPED_MAX


def test_documents_of_what_ships_can_be_grouped() -> None:
    math500 = MetadataMapper(REGISTRY.benchmarks["math500"])
    doc: dict[str, Any] = {"level": "Level 3", "type": "counting_and_probability", "unique_id": "x"}
    assert math500.read({"doc": doc}, {}) == {"subject": "Counting & Probability", "level": 3}
    mmlu = MetadataMapper(REGISTRY.benchmarks["mmlu"])
    assert mmlu.read({"scenario": {"args": {"subject": "us_foreign_policy"}}}, {}) == {
        "category": "Social Sciences",
        "subject": "us_foreign_policy",
    }
    aime = MetadataMapper(REGISTRY.benchmarks["aime"])
    doc = {"Year": 1999, "Problem Number": 7, "Part": "II"}
    assert aime.read({"doc": doc}, {}) == {"year": 1999, "contest": "II", "problem_number": 7}
    assert aime.read({"subset": "AIME2025-I"}, {"year": 2025}) == {"year": 2025, "contest": "I"}
    assert aime.read({"subset": "default"}, {"year": 2025}) == {"year": 2025}


# Metadata of a benchmark that nobody registered


def test_every_short_scalar_is_kept_as_it_is() -> None:
    mapper = MetadataMapper(None)
    origin = {
        "doc": {"level": "Level 3", "Problem Number": 4, "value": 2, "hard": True, "weight": 0.5, "deep": {"er": "x"}},
        "subset": "a",
        "long": "x" * 201,
        "empty": "",
        "nothing": None,
        "list": ["x"],
        "nan": math.nan,
        "한국어": "x",
        "2024": "x",
    }
    assert mapper.read(origin, {}, {"subset": "b", "split": "test"}) == {
        "level": "Level 3",
        "problem_number": 4,
        "value_": 2,
        "hard": True,
        "weight": 0.5,
        "er": "x",
        "subset": "a",
        "split": "test",
    }
    assert mapper.used == {
        *("doc.level", "doc.Problem Number", "doc.value", "doc.hard", "doc.weight", "doc.deep.er", "subset", "split")
    }


def test_of_two_fields_with_one_name_the_first_counts() -> None:
    mapper = MetadataMapper(None)
    assert mapper.read({"doc": {"level": 1, "Level": 2}, "metadata": {"level": 3}}, {}) == {"level": 1}
    assert mapper.used == {"doc.level"}


@pytest.mark.parametrize("key", sorted(ROW_KEYS))
def test_no_name_hides_a_key_of_rows(key: str) -> None:
    assert field_name(key) == f"{key}_"
    FieldSpec.model_validate({"name": field_name(key), "type": "category", "description": {"en": "x"}})


@pytest.mark.parametrize(
    ("key", "name"),
    [("a.b", "a_b"), ("_id", "id"), ("x" * 40, "x" * 40), ("x" * 41, None), ("4", None), ("", None), ("é", None)],
)
def test_names_of_fields(key: str, name: str | None) -> None:
    assert field_name(key) == name

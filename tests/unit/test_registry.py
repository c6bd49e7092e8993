"""The registry: what ships is whole, a user's folder adds and overrides, a wrong file is named with the key."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import BaseModel

from shared.enums import Benchmark, Model
from shared.names import ROW_KEYS
from shared.registry.load import SHIPPED, RegistryError, load_registry
from shared.registry.specs import BenchmarkSpec, FieldSpec, FieldType, ModelSpec, Translated

ROOT = Path(__file__).parents[2]

# At least these fields, whatever else a benchmark's file describes.
FIELDS = {
    "aime": {"year", "contest", "problem_number", "solution_steps"},
    "mmlu": {"subject", "category", "knowledge_source"},
    "mmlu-redux": {"subject", "category", "cultural_context", "error_type"},
    "hle": {"category", "answer_type", "consensus_level", "reasoning_depth", "domain_knowledge", "ambiguity"},
    "ds-mmlu": {"subject", "category", "industry_relevance"},
    "math500": {"subject", "level", "proof_required", "theorem_dependency"},
}

BENCHMARK = """
name = "quiz"
title = { en = "Quiz" }
description = { en = "Questions." }
"""

FIELD = """
[[fields]]
name = "topic"
type = "category"
description = { en = "Topic." }
"""

MODEL = """
[[models]]
id = "our-model"
title = "Our model"
vendor = "Us"
family = "Ours"
open_weights = true
"""


def _write(folder: Path, **files: str) -> Path:
    for stem, text in files.items():
        (folder / f"{stem}.toml").write_text(text, encoding="utf-8")
    return folder


def _error(folder: Path) -> str:
    with pytest.raises(RegistryError) as caught:
        load_registry(folder)
    return str(caught.value)


# What ships


def test_the_enums_are_what_ships() -> None:
    registry = load_registry()
    assert set(Benchmark) == set(registry.benchmarks) == set(FIELDS)
    assert set(Model) == set(registry.models)
    assert len(Model) == 15
    for enum in (Benchmark, Model):
        assert all(member.name == re.sub(r"[^A-Z0-9]", "_", member.value.upper()) for member in enum)


@pytest.mark.parametrize("name", Benchmark)
def test_a_shipped_benchmark_is_described_in_both_languages(name: Benchmark) -> None:
    spec = load_registry().benchmarks[name]
    assert set(spec.by_name) >= FIELDS[name]
    for text in (spec.title, spec.description, *(field.description for field in spec.fields)):
        assert text.ko
    for text in (spec.description, *(field.description for field in spec.fields)):
        assert text.ko is not None
        assert re.search("[가-힣]", text.ko), text.ko
    assert (spec.score_min, spec.score_max) == (0.0, 1.0)
    assert spec.harness_names
    assert (SHIPPED / "benchmarks" / f"{name}.toml").is_file()


def test_question_counts_and_chance_levels() -> None:
    specs = load_registry().benchmarks
    assert {name: spec.question_count for name, spec in specs.items()} == {
        "aime": None, "mmlu": 14042, "mmlu-redux": 5700, "hle": 2500, "ds-mmlu": None, "math500": 500,
    }  # fmt: skip
    assert {name: spec.chance_level for name, spec in specs.items()} == {
        "aime": 0.001, "mmlu": 0.25, "mmlu-redux": 0.25, "hle": None, "ds-mmlu": 0.25, "math500": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["mmlu", "mmlu-redux", "ds-mmlu"])
def test_subject_refines_category(name: str) -> None:
    assert load_registry().benchmarks[name].by_name["subject"].parent == "category"


@pytest.mark.parametrize(
    ("benchmark", "field", "kind"),
    [
        ("aime", "year", FieldType.INTEGER),
        ("aime", "problem_number", FieldType.INTEGER),
        ("math500", "level", FieldType.INTEGER),
        ("math500", "proof_required", FieldType.BOOLEAN),
        ("mmlu-redux", "error_type", FieldType.CATEGORY),
    ],
)
def test_types_of_fields(benchmark: str, field: str, kind: FieldType) -> None:
    assert load_registry().benchmarks[benchmark].by_name[field].type is kind


def test_values_keep_their_order_and_type() -> None:
    specs = load_registry().benchmarks
    assert specs["math500"].by_name["level"].values == (1, 2, 3, 4, 5)
    assert [type(value) for value in specs["math500"].by_name["proof_required"].values] == [bool, bool]
    assert specs["mmlu"].by_name["category"].values == ("STEM", "Humanities", "Social Sciences", "Other")


@pytest.mark.parametrize(
    ("sent", "canonical"),
    [
        ("gpt-4o", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o"),
        ("openai_gpt-4o-2024-05-13", "gpt-4o"),
        ("openai_gpt-4-0613", "gpt-4"),
        ("anthropic_claude-3-5-sonnet-20240620", "claude-3.5-sonnet"),
        ("DeepSeek-R1", "deepseek-r1"),
        # Other snapshots, distilled, quantised, moving names and other spellings of the case are other models.
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-20241022"),
        ("DeepSeek-R1-0528", "DeepSeek-R1-0528"),
        ("DeepSeek-R1-Distill-Qwen-32B", "DeepSeek-R1-Distill-Qwen-32B"),
        ("deepseek-reasoner", "deepseek-reasoner"),
        ("meta_llama-3.1-70b-instruct-turbo", "meta_llama-3.1-70b-instruct-turbo"),
        ("GPT-4O", "GPT-4O"),
    ],
)
def test_aliases_lead_to_the_same_model_only(sent: str, canonical: str) -> None:
    registry = load_registry()
    assert registry.canonical_model(sent) == canonical
    assert (registry.model(sent) is not None) == (canonical in set(Model))


# A user's folder


def test_a_folder_adds_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    _write(tmp_path, quiz=BENCHMARK + FIELD, ours=MODEL)
    _write(
        tmp_path / "deeper",
        math=BENCHMARK.replace('"quiz"', '"math500"') + FIELD,
        gpt=MODEL.replace("our-model", "gpt-4o"),
    )
    shipped, registry = load_registry(), load_registry(tmp_path)
    assert set(registry.benchmarks) == set(shipped.benchmarks) | {"quiz"}
    assert set(registry.models) == set(shipped.models) | {"our-model"}
    assert set(registry.benchmarks["math500"].by_name) == {"topic"}
    assert registry.benchmarks["math500"].question_count is None
    assert registry.models["gpt-4o"].vendor == "Us"
    assert registry.canonical_model("openai/gpt-4o") == "openai/gpt-4o"
    assert registry.benchmarks["aime"] == shipped.benchmarks["aime"]
    assert registry.hash != shipped.hash


def test_an_empty_folder_changes_nothing(tmp_path: Path) -> None:
    assert load_registry(tmp_path).hash == load_registry().hash


def test_a_config_map_mount_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "..2025_01_01").mkdir()
    _write(tmp_path / "..2025_01_01", quiz=BENCHMARK)
    (tmp_path / "..data").symlink_to("..2025_01_01")
    (tmp_path / "quiz.toml").symlink_to("..data/quiz.toml")
    assert "quiz" in load_registry(tmp_path).benchmarks


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "quiz.toml").write_text(BENCHMARK, encoding="utf-8-sig")
    assert "quiz" in load_registry(tmp_path).benchmarks


def test_a_benchmark_and_a_model_may_share_a_name(tmp_path: Path) -> None:
    alone = load_registry(_write(tmp_path, model=MODEL.replace("our-model", "quiz")))
    registry = load_registry(_write(tmp_path, quiz=BENCHMARK))
    assert "quiz" in registry.benchmarks
    assert "quiz" in registry.models
    assert registry.hash != alone.hash


def test_the_fingerprint_changes_with_what_is_projected_only(tmp_path: Path) -> None:
    def fingerprint(text: str) -> str:
        return load_registry(_write(tmp_path, quiz=text)).benchmarks["quiz"].fingerprint

    first = fingerprint(BENCHMARK + FIELD)
    assert fingerprint(BENCHMARK.replace("Questions.", "Others.") + "chance_level = 0.5\n" + FIELD) == first
    assert fingerprint(BENCHMARK + FIELD.replace("category", "integer")) != first
    assert fingerprint(BENCHMARK + "score_max = 100.0\n" + FIELD) != first


# Wrong files: (file's text, what the message must say beside the file's name)

WRONG: dict[str, tuple[str, str]] = {
    "not TOML": ("name = ", "is not TOML: Invalid value (at end of document)"),
    "unknown key": (BENCHMARK + 'tittle = "x"\n', "tittle: no key 'tittle'; did you mean 'title'"),
    "unknown key lists the keys": (
        BENCHMARK + "x = 1\n",
        "x: no key 'x'; allowed: name, title, description, fields, score_min",
    ),
    "unknown key of a field": (BENCHMARK + FIELD + "typ = 1\n", "fields[0].typ: no key 'typ'; did you mean 'type'?"),
    "unknown language": (
        BENCHMARK.replace("Questions.", 'x", fr = "x'),
        "description.fr: no key 'fr'; allowed: en, ko",
    ),
    "unknown key beside models": (
        MODEL.replace("[[models]]", "x = 1\n[[models]]", 1),
        "x: no key 'x'; allowed: models",
    ),
    "unknown key of a model": (MODEL + 'licence = "MIT"\n', "models[0].licence: no key 'licence'; allowed: id, title"),
    "missing key": (BENCHMARK.replace('name = "quiz"', ""), "name: is required"),
    "missing key of a field": (BENCHMARK + FIELD.replace('type = "category"', ""), "fields[0].type: is required"),
    "missing key of a model": (MODEL.replace("open_weights = true", ""), "models[0].open_weights: is required"),
    "no models": ("models = []\n", "models: must have at least 1 item"),
    "empty file": ("", "name: is required; title: is required; description: is required"),
    "bad benchmark name": (BENCHMARK.replace("quiz", "My Quiz"), "name: 'My Quiz' must match"),
    "bad field name": (BENCHMARK + FIELD.replace('"topic"', '"Topic"'), "fields[0].name: 'Topic' must match"),
    "long field name": (BENCHMARK + FIELD.replace('"topic"', f'"{"t" * 41}"'), "fields[0].name: 'ttt"),
    "field twice": (BENCHMARK + FIELD + FIELD, "fields: 'topic' stands twice"),
    "too many fields": (
        BENCHMARK + "".join(FIELD.replace("topic", f"topic{number}") for number in range(33)),
        "fields: must have at most 32 items",
    ),
    "unknown type": (
        BENCHMARK + FIELD.replace('"category"', '"text"'),
        "fields[0].type: must be 'category', 'integer'",
    ),
    "text for a table": (BENCHMARK.replace('{ en = "Quiz" }', '"Quiz"'), "title: must be a table of en, ko"),
    "text for a number": (BENCHMARK + 'score_max = "1"\n', "score_max: must be a valid number"),
    "text for a truth": (MODEL.replace("= true", '= "yes"'), "models[0].open_weights: must be a valid boolean"),
    "text for a date": (MODEL + 'release_date = "May"\n', "models[0].release_date: must be a valid date"),
    "text for a list": (BENCHMARK + 'harness_names = "quiz"\n', "harness_names: must be a list"),
    "table for a list": (MODEL.replace("[[models]]", "[models]"), "models: must be a list"),
    "number for a text": (MODEL + "version = 3\n", "models[0].version: must be a valid string"),
    "no questions": (BENCHMARK + "question_count = 0\n", "question_count: must be greater than 0"),
    "endless scale": (BENCHMARK + "score_max = inf\n", "score_max: must be a finite number"),
    "scale of nothing": (BENCHMARK + "score_max = 1e-300\n", "score_min and score_max are too close"),
    "scale too far out": (BENCHMARK + "score_min = 1e16\nscore_max = 10000000000000002.0\n", "score_min and score_max"),
    "scale upside down": (BENCHMARK + "score_max = -1.0\n", "score_min must be less than score_max"),
    "chance beyond scale": (
        BENCHMARK + "chance_level = 25.0\n",
        "chance_level must lie between score_min and score_max",
    ),
    "value of another type": (BENCHMARK + FIELD + "values = ['a', 1]\n", "fields[0].values: 1 is not a string"),
    "true among numbers": (
        BENCHMARK + FIELD.replace('"category"', '"integer"') + "values = [1, true]\n",
        "fields[0].values: true is not a whole number, which the type 'integer' asks for",
    ),
    "value that is none": (BENCHMARK + FIELD + "values = [[]]\n", "fields[0].values[0]: must be a string, a number"),
    "value twice": (BENCHMARK + FIELD + "values = ['a', 'a']\n", "fields[0].values: 'a' stands twice"),
    "place that is no path": (
        BENCHMARK + FIELD + "places = ['doc..level']\n",
        "fields[0].places[0]: 'doc..level' must be",
    ),
    "parent's values without a parent": (
        BENCHMARK + FIELD + "parent_values = {a = 'b'}\n",
        "fields[0]: parent_values: needs a parent",
    ),
    "parent's value of another type": (
        BENCHMARK + FIELD + "parent = 'area'\nparent_values = {a = 1}\n" + FIELD.replace('"topic"', '"area"'),
        "fields.topic.parent_values: 1 is not a string",
    ),
    "parent's value of a value that is none": (
        BENCHMARK
        + FIELD.replace('"category"', '"integer"')
        + "parent = 'area'\nparent_values = {easy = 'x'}\n"
        + FIELD.replace('"topic"', '"area"'),
        "fields[0]: parent_values: 'easy' is not a whole number, which this field takes",
    ),
    "spelling of a value of another type": (
        BENCHMARK + FIELD + "spellings = {a = 1}\n",
        "fields[0].spellings: 1 is not a string, which the type 'category' asks for",
    ),
    "text for a table of values": (BENCHMARK + FIELD + "spellings = 'a'\n", "fields[0].spellings: must be a table"),
    "harness name with an unknown field": (
        BENCHMARK + "harness_names = ['quiz_{area}']\n" + FIELD,
        "harness_names: 'quiz_{area}': 'area' is no field of this benchmark",
    ),
    "harness name that is open": (
        BENCHMARK + "harness_names = ['quiz_{topic']\n" + FIELD,
        "'quiz_{topic': each '{' needs",
    ),
    "harness name with a field twice": (
        BENCHMARK + "harness_names = ['{topic}_{topic}_x']\n" + FIELD,
        "'{topic}_{topic}_x' names a field twice",
    ),
    "harness name that fits all": (
        BENCHMARK + "harness_names = ['_{topic}']\n" + FIELD,
        "'_{topic}' would fit every name",
    ),
    "unknown parent": (BENCHMARK + FIELD + "parent = 'area'\n", "fields.topic.parent: 'area' is not another field"),
    "its own parent": (BENCHMARK + FIELD + "parent = 'topic'\n", "fields.topic.parent: 'topic' is not another field"),
    "parents in a circle": (
        BENCHMARK + FIELD + "parent = 'area'\n" + FIELD.replace('"topic"', '"area"') + "parent = 'topic'\n",
        "fields.topic.parent: the parents lead back to 'topic'",
    ),
    "model twice": (MODEL + MODEL, "models.our-model.id: model 'our-model' is defined in "),
    "alias of a shipped model": (
        MODEL + "aliases = ['openai/gpt-4o']\n",
        "models.our-model.aliases: 'openai/gpt-4o' belongs to 'gpt-4o' (",
    ),
    "alias that is a model": (
        MODEL + "aliases = ['gpt-4']\n",
        "models.our-model.aliases: 'gpt-4' belongs to 'gpt-4' (",
    ),
    "control character": (MODEL + 'aliases = ["a\\tb"]\n', "models[0].aliases[0]: must not hold control characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_its_key(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    error = _error(_write(tmp_path, wrong=text))
    assert error.startswith(f"registry file {tmp_path / 'wrong.toml'}: {message}"), error


@pytest.mark.parametrize("name", sorted(ROW_KEYS))
def test_a_field_may_not_hide_a_key_of_rows(name: str, tmp_path: Path) -> None:
    error = _error(_write(tmp_path, wrong=BENCHMARK + FIELD.replace('"topic"', f'"{name}"')))
    assert error == (
        f"registry file {tmp_path / 'wrong.toml'}: fields[0].name: "
        f"{name!r} is a key of every answer's rows; choose another name"
    )


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    error = _error(_write(tmp_path, wrong='name = "A B"\ntitle = "x"\n'))
    assert [fault.partition(":")[0] for fault in error.removeprefix("registry file ").split("; ")[1:]] == [
        "title",
        "description",
    ]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_bytes(b"\xff\xfe")
    assert _error(tmp_path).startswith(f"registry file {tmp_path / 'wrong.toml'}: is not TOML: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").mkdir()
    assert _error(tmp_path) == f"registry file {tmp_path / 'wrong.toml'}: cannot be read: Is a directory"


def test_a_missing_folder(tmp_path: Path) -> None:
    error = _error(tmp_path / "none")
    assert str(tmp_path / "none") in error
    assert "SCOREHOUSE_REGISTRY_DIR" in error


@pytest.mark.parametrize(("left", "right"), [("a-b", "a_b"), ("a.b", "a-b"), ("mmlu_redux", "mmlu-redux")])
def test_benchmarks_that_would_share_tables(left: str, right: str, tmp_path: Path) -> None:
    files = {"one": BENCHMARK.replace("quiz", left)}
    if right not in set(Benchmark):
        files["two"] = BENCHMARK.replace("quiz", right)
    error = _error(_write(tmp_path, **files))
    assert f"{tmp_path}" in error
    assert f"{left!r}" in error
    assert f"{right!r}" in error
    assert "would share their tables" in error


def test_the_same_benchmark_in_two_files(tmp_path: Path) -> None:
    error = _error(_write(tmp_path, one=BENCHMARK, two=BENCHMARK))
    assert error == (
        f"registry file {tmp_path / 'two.toml'}: name: benchmark 'quiz' is defined in {tmp_path / 'one.toml'} already"
    )


@pytest.mark.parametrize(
    ("left", "right", "claimed"),
    [
        ("sci_quiz", "Sci-Quiz", "sci_quiz"),
        ("sci {topic}", "sci-{topic}", "sci_{}"),
        ("sci", "two", "two"),  # the other's own name
        ("sci", "MMLU no train", "mmlu_no_train"),
    ],
)
def test_a_harness_name_of_two_benchmarks(left: str, right: str, claimed: str, tmp_path: Path) -> None:
    one = BENCHMARK.replace("quiz", "one") + f"harness_names = [{left!r}, {right if claimed == 'two' else left!r}]\n"
    two = BENCHMARK.replace("quiz", "two") + f"harness_names = [{right!r}]\n"
    error = _error(_write(tmp_path, one=one.replace(", two]", ", 'two']") + FIELD, two=two + FIELD))
    other = SHIPPED / "benchmarks" / "mmlu.toml" if claimed == "mmlu_no_train" else tmp_path / "one.toml"
    owner = "mmlu" if claimed == "mmlu_no_train" else "one"
    assert error == (
        f"registry file {tmp_path / 'two.toml'}: harness_names: {claimed!r} means {owner!r} ({other}) already; "
        "take it from one of them (a file of your own with the name of a shipped benchmark replaces it)"
    )


def test_a_benchmark_that_is_replaced_claims_nothing(tmp_path: Path) -> None:
    ours = BENCHMARK.replace("quiz", "mmlu")
    theirs = BENCHMARK + "harness_names = ['mmlu_no_train']\n"
    assert load_registry(_write(tmp_path, mmlu=ours, quiz=theirs)).benchmarks["quiz"].harness_names == (
        "mmlu_no_train",
    )


def test_an_alias_of_two_models(tmp_path: Path) -> None:
    other = MODEL.replace("our-model", "other-model")
    error = _error(_write(tmp_path, one=MODEL + "aliases = ['x']\n", two=other + "aliases = ['x']\n"))
    assert error == (
        f"registry file {tmp_path / 'two.toml'}: models.other-model.aliases: "
        f"'x' belongs to 'our-model' ({tmp_path / 'one.toml'}) already"
    )


# The page that explains it

PAGE = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_load(tmp_path: Path) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    _write(tmp_path, **{f"example{number}": text for number, text in enumerate(examples)})
    registry, shipped = load_registry(tmp_path), load_registry()
    assert set(registry.benchmarks) - set(shipped.benchmarks) == {"mmlu-pro", "gsm8k", "science-quiz"}
    assert set(registry.models) - set(shipped.models) == {"example-7b"}
    pro, gsm8k = registry.benchmarks["mmlu-pro"], registry.benchmarks["gsm8k"]
    assert {name: field.type.value for name, field in pro.by_name.items()} == {
        "category": "category",
        "src": "category",
    }
    assert {name: field.type.value for name, field in gsm8k.by_name.items()} == {"answered": "boolean"}


def test_the_page_explains_every_key_and_no_other() -> None:
    explained = [
        re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`[^|]*) \| (?:yes|no) \|", PAGE, re.MULTILINE)
    ]
    specs: Iterable[type[BaseModel]] = (BenchmarkSpec, FieldSpec, ModelSpec)
    assert [key for row in explained for key in row] == [key for spec in specs for key in spec.model_fields]
    assert all(f"`{key}`" in PAGE for key in Translated.model_fields)


def test_the_page_says_which_keys_are_needed() -> None:
    for row in re.findall(r"^\| (`[^|]*) \| (yes|no) \|", PAGE, re.MULTILINE):
        for key in re.findall(r"`(\w+)`", row[0]):
            owners = [spec for spec in (BenchmarkSpec, FieldSpec, ModelSpec) if key in spec.model_fields]
            assert {spec.model_fields[key].is_required() for spec in owners} == {row[1] == "yes"}, key

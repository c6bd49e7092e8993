"""`scorehouse registry suggest`: drafts that load, say what has to be checked, and make what was imported groupable."""

import gzip
import json
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from scorehouse.cli import app
from scorehouse.registry_draft import Survey, draft
from shared.formats.mapping import MetadataMapper, map_task
from shared.registry.load import load_registry
from shared.registry.specs import BenchmarkSpec, FieldType
from shared.submission import Question, check_against, unknown_metadata
from tests.real_data import REAL_DATA, needs_real_data

RUNNER = CliRunner()


def _question(number: int, score: float = 1.0, **metadata: Any) -> dict[str, Any]:
    return {"question_id": f"q{number}", "score": score, "metadata": metadata}


def _document(questions: Sequence[Mapping[str, Any]], benchmark: str = "quiz", run: str = "r1") -> dict[str, Any]:
    return {
        "run_id": run,
        "benchmark_name": benchmark,
        "timestamp": "2025-01-01T00:00:00Z",
        "model_id": "m",
        "source": "us",
        "data": {"questions": list(questions)},
    }


def _plants(count: int = 40) -> list[dict[str, Any]]:
    topics = {"moss": "Plants", "fern": "Plants", "ant": "Animals", "bee": "Animals"}
    names = list(topics)
    return [
        _question(
            number,
            number / count,
            topic=names[number % 4],
            area=topics[names[number % 4]],
            level=number % 3 + 1,
            weight=number % 2 + 0.5 * (number % 4 == 0),
            checked=number % 2 == 0,
            uid=f"id-{number}",
            split="test",
            mixed=number if number % 2 else str(number),
            grade=str(number % 3),
            Odd="x",
            n=4,
            nothing=None,
        )
        for number in range(count)
    ]


def _suggest(*arguments: str | Path, registry: Path | None = None) -> tuple[int, str, str]:
    environment = {"SCOREHOUSE_REGISTRY_DIR": str(registry) if registry else None}
    result = RUNNER.invoke(app, ["registry", "suggest", *map(str, arguments)], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def _draft_of(documents: Sequence[Mapping[str, Any]], folder: Path) -> tuple[str, BenchmarkSpec]:
    """The only draft, as text and as it loads."""
    (folder / "runs.ndjson").write_text("".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8")
    code, told, complaints = _suggest(folder / "runs.ndjson", "--out", folder / "registry")
    assert code == 0, complaints
    (file,) = (folder / "registry").iterdir()
    assert told == f"{file} written; check it\n"
    text = file.read_text(encoding="utf-8")
    registry = load_registry(folder / "registry")
    return text, registry.benchmarks[tomllib.loads(text)["name"]]


def _fields(spec: BenchmarkSpec) -> dict[str, tuple[FieldType, tuple[Any, ...], str | None, tuple[str, ...]]]:
    return {field.name: (field.type, field.values, field.parent, field.places) for field in spec.fields}


def test_fields_types_values_parents_and_places(tmp_path: Path) -> None:
    text, spec = _draft_of([_document(_plants())], tmp_path)
    category = FieldType.CATEGORY
    assert _fields(spec) == {
        "area": (category, ("Animals", "Plants"), None, ("metadata.area",)),
        "checked": (FieldType.BOOLEAN, (), None, ("metadata.checked",)),
        "grade": (category, ("0", "1", "2"), None, ("metadata.grade",)),
        "level": (FieldType.INTEGER, (), None, ("metadata.level",)),
        "topic": (category, ("ant", "bee", "fern", "moss"), "area", ("metadata.topic",)),
        "weight": (FieldType.NUMBER, (), None, ("metadata.weight",)),
    }
    assert (spec.question_count, spec.score_min, spec.score_max, spec.harness_names) == (40, 0.0, 1.0, ())
    left = dict(line.removeprefix("#   ").split(": ", 1) for line in text.split("# Left out:\n")[1].splitlines())
    assert left == {
        "uid": 'each of 40 questions has another one: "id-0"',
        "split": 'it is the same for all: "test"',
        "mixed": "its values are of several types",
        "Odd": "no field can be called that; name it otherwise in what you push",
        "n": "no field can be called that; name it otherwise in what you push",
    }
    assert text.count("# check") >= 10
    assert "as an integer field it would not fit" in text.split('name = "grade"')[1].split("[[fields]]")[0]
    assert "as an integer field it would not fit" not in text.split('name = "level"')[1].split("[[fields]]")[0]


def test_what_was_pushed_before_fits_the_draft(tmp_path: Path) -> None:
    questions = _plants()
    _, spec = _draft_of([_document(questions)], tmp_path)
    stored = msgspec.convert(questions, list[Question])
    check_against(spec, stored)
    assert unknown_metadata(spec, stored) == {"uid", "split", "mixed", "Odd", "n", "nothing"}


def test_an_import_before_and_one_after_the_draft_have_the_same_metadata(tmp_path: Path) -> None:
    rows = [
        {
            "doc": {
                "query": f"What is {number}?",
                "choices": ["yes", "no"],
                "gold_index": 0,
                "specific": {
                    "Field Of Study": ["art", "law"][number % 2],
                    "level": f"Level {number % 3}",
                    "n": number % 2,
                },
                "id": str(number),
                "task_name": "Org/My_Quiz:hard|0",
            },
            "metric": {"points": float(number % 11)},
            "model_response": {"text": ["yes"], "input_tokens": [1], "output_tokens": [[1]]},
        }
        for number in range(30)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "details.parquet")
    results = {
        "config_general": {"lighteval_sha": "x", "model_name": "m"},
        "results": {"Org/My_Quiz:hard|0": {"points": 5}},
    }
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    code, told, _ = _suggest(tmp_path, "--out", tmp_path / "registry")
    assert (code, told) == (0, f"{tmp_path / 'registry' / 'my_quiz-hard.toml'} written; check it\n")

    before, after = load_registry(), load_registry(tmp_path / "registry")
    names = ["Org/My_Quiz:hard", "Org/My_Quiz"]
    assert map_task(names, before).benchmark == map_task(names, after).benchmark == "my_quiz-hard"
    assert map_task(names, after).registered
    spec = after.benchmarks["my_quiz-hard"]
    assert _fields(spec) == {
        "field_of_study": (FieldType.CATEGORY, ("art", "law"), None, ("doc.Field Of Study",)),
        "n_": (FieldType.INTEGER, (), None, ("doc.n",)),
        "level": (FieldType.CATEGORY, ("Level 0", "Level 1", "Level 2"), None, ("doc.level",)),
    }
    assert (spec.score_min, spec.score_max, spec.question_count) == (0.0, 10.0, 30)
    assert spec.harness_names == ("Org/My_Quiz:hard",)
    assert f"{json.dumps('Org/My_Quiz')}" in (tmp_path / "registry" / "my_quiz-hard.toml").read_text(encoding="utf-8")
    unregistered, registered = MetadataMapper(None), MetadataMapper(spec)
    for row in rows:
        origin = {"doc": row["doc"]["specific"]}  # type: ignore[index]
        read = unregistered.read(origin, {})
        assert registered.read(origin, {}) == read
        check_against(spec, [Question("q", score=1.0, metadata=read)])


def test_the_subsets_of_a_data_set_are_one_draft_as_they_are_one_benchmark(tmp_path: Path) -> None:
    reviews = tmp_path / "out" / "reviews" / "gull"
    reviews.mkdir(parents=True)
    for subset in ("ebb", "flood"):
        score = {"value": {"acc": 1.0}, "prediction": "yes"}
        rows = [
            {"index": number, "target": "yes", "sample_score": {"score": score, "sample_id": number}}
            for number in range(2)
        ]
        (reviews / f"tides_{subset}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = {"dataset_name": "tides", "model_name": "gull", "metrics": [{"name": "mean_acc", "categories": []}]}
    (tmp_path / "out" / "reports" / "gull").mkdir(parents=True)
    (tmp_path / "out" / "reports" / "gull" / "tides.json").write_text(json.dumps(report))
    code, told, _ = _suggest(tmp_path / "out", "--out", tmp_path / "registry")
    assert (code, told) == (0, f"{tmp_path / 'registry' / 'tides.toml'} written; check it\n")
    spec = load_registry(tmp_path / "registry").benchmarks["tides"]
    assert _fields(spec) == {"subset": (FieldType.CATEGORY, ("ebb", "flood"), None, ("subset",))}


def test_the_question_count_is_only_told_where_runs_agree(tmp_path: Path) -> None:
    text, spec = _draft_of([_document(_plants(40)), _document(_plants(30), run="r2")], tmp_path)
    assert spec.question_count is None
    assert "# question_count = 40  # check: runs had from 30 to 40 questions" in text
    assert text.startswith("# Drafted by 'scorehouse registry suggest' from 40 questions: 2 runs of documents")


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ((0.0, 1.0), (0.0, 1.0)),
        ((0.3, 7.5), (0.0, 10.0)),
        ((0.0, 61.0), (0.0, 100.0)),
        ((0.0, 1234.5), (0.0, 1235.0)),
        ((-0.5, 0.5), (-1.0, 1.0)),
    ],
)
def test_the_scale_holds_what_was_seen(scores: tuple[float, float], scale: tuple[float, float], tmp_path: Path) -> None:
    _, spec = _draft_of([_document([_question(number, score) for number, score in enumerate(scores)])], tmp_path)
    assert (spec.score_min, spec.score_max) == scale


def test_several_benchmarks_from_files_of_several_kinds(tmp_path: Path) -> None:
    documents = [_document(_plants(), "quiz"), _document(_plants(), "quiz_two")]
    (tmp_path / "a.json").write_text(json.dumps(documents), encoding="utf-8")
    as_text = _document([])
    as_text |= {"benchmark_name": "three", "data": json.dumps({"questions": _plants()})}
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(as_text).encode()))
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    code, told, complaints = _suggest(tmp_path)
    assert (code, complaints) == (0, "")
    names = [line.split()[2] for line in told.splitlines() if line.startswith("# ----")]
    assert names == ["quiz.toml", "quiz_two.toml", "three.toml"]
    for part in told.split("# ---- ")[1:]:
        assert len(tomllib.loads(part.partition("\n")[2])["fields"]) == 6


def test_spellings_of_one_name_are_one_benchmark(tmp_path: Path) -> None:
    text, spec = _draft_of([_document(_plants(8), "sci_quiz"), _document(_plants(), "sci-quiz", "r2")], tmp_path)
    assert spec.name == "sci-quiz"
    assert '# check: results were stored as "sci_quiz", too; those stay by themselves' in text


def test_what_is_registered_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_document(_plants(), "mmlu")), encoding="utf-8")
    assert _suggest(tmp_path / "a.json") == (0, "", "mmlu is registered already (1 run)\n")
    (tmp_path / "b.json").write_text(json.dumps(_document(_plants())), encoding="utf-8")
    code, _, _ = _suggest(tmp_path / "b.json", "--out", tmp_path / "registry")
    assert code == 0
    assert _suggest(tmp_path / "b.json", registry=tmp_path / "registry") == (
        0,
        "",
        "quiz is registered already (1 run)\n",
    )


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_document(_plants())), encoding="utf-8")
    (tmp_path / "quiz.toml").write_text("mine", encoding="utf-8")
    code, told, complaints = _suggest(tmp_path / "a.json", "--out", tmp_path)
    assert (code, told) == (1, "")
    assert "quiz.toml is there already and stays as it is" in complaints
    assert (tmp_path / "quiz.toml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (_document(_plants(), "My Quiz"), "no registered benchmark can be called 'My Quiz'"),
        (_document(_plants(), "mmlu_redux"), "'mmlu_redux' cannot be registered beside 'mmlu-redux': rename it"),
        ({**_document([]), "data": {"accuracy": 0.5}}, "no benchmark with questions was found"),
        ({**_document([]), "data": {"questions": [{"score": 1}]}}, "is no document: "),
        ({"benchmark_name": 3, "run_id": "r"}, "is no document: "),
    ],
)
def test_what_nothing_can_be_drafted_from(document: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    code, told, complaints = _suggest(tmp_path / "a.json")
    assert (code, told) == (1, "")
    assert complaint in complaints


def test_an_archive_is_not_looked_into_and_that_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        archive.writestr("a.json", json.dumps(_document(_plants())))
    code, _, complaints = _suggest(tmp_path / "runs.zip")
    assert code == 1
    assert "runs.zip is an archive: unpack it, and name the folder" in complaints


def test_the_rest_is_drafted_where_one_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_document(_plants())), encoding="utf-8")
    (tmp_path / "b.json").write_text('{"benchmark_name": "x", "run_id": "r", "data": ', encoding="utf-8")
    code, told, complaints = _suggest(tmp_path)
    assert code == 1
    assert "# ---- quiz.toml ----" in told
    assert "b.json" in complaints


def test_a_wrong_registry_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(_document(_plants())), encoding="utf-8")
    (tmp_path / "wrong.toml").write_text("x =", encoding="utf-8")
    code, told, complaints = _suggest(tmp_path / "a.json", "--registry-dir", tmp_path)
    assert (code, told) == (1, "")
    assert "wrong.toml: is not TOML" in complaints


def _survey(values: Sequence[Mapping[str, Any]], **options: Any) -> Survey:
    survey = Survey()
    survey.begin_run("Us", "quiz")
    survey.name(options.get("names", ()))
    for number, metadata in enumerate(values):
        survey.add(str(number), [(f"doc.{name}", name, value) for name, value in metadata.items()], None)
    return survey


def test_odd_texts_are_written_so_that_they_load(tmp_path: Path) -> None:
    texts = ['a "b"', "c\\d", "e\nf", "\x7f\x01", "한국어", "😀", "# g"]
    survey = _survey([{"note": text} for text in texts * 2], names=["a\nname = 1", "other\nname = 2", "{x}"])
    (tmp_path / "quiz.toml").write_text(draft(survey), encoding="utf-8")
    spec = load_registry(tmp_path).benchmarks["quiz"]
    assert set(spec.by_name["note"].values) == set(texts)
    assert spec.harness_names == ("a\nname = 1",)


@pytest.mark.parametrize("name", ["quiz", "QUIZ", "org/Quiz"])
def test_names_that_mean_it_anyway_are_not_repeated(name: str) -> None:
    text = draft(_survey([{"level": 1}], names=[name, "org/other"]))
    assert "harness_names" not in tomllib.loads(text)
    assert '# Also told, add those that mean nothing else: "org/other"' in text


def test_values_stand_in_their_natural_order() -> None:
    survey = _survey([{"level": f"Level {number}"} for number in (10, 9, 1, 2, 10)] + [{"level": "none"}])
    assert tomllib.loads(draft(survey))["fields"][0]["values"] == ["Level 1", "Level 2", "Level 9", "Level 10", "none"]


def test_no_parent_is_guessed_from_a_few_questions() -> None:
    few = _survey([{"topic": f"t{number}", "area": f"a{number % 2}"} for number in range(4)])
    assert [field.get("parent") for field in tomllib.loads(draft(few))["fields"]] == [None, None]
    # and none that one question speaks against
    many = [{"topic": f"t{number % 4}", "area": f"a{number % 2}"} for number in range(40)]
    assert [field.get("parent") for field in tomllib.loads(draft(_survey(many)))["fields"]] == [None, "area"]
    against = [*many, {"topic": "t0", "area": "a1"}]
    assert [field.get("parent") for field in tomllib.loads(draft(_survey(against)))["fields"]] == [None, None]


def test_the_nearest_of_several_parents() -> None:
    values = [{"topic": f"t{n % 8}", "area": f"a{n % 4}", "realm": f"r{n % 2}"} for n in range(48)]
    fields = tomllib.loads(draft(_survey(values)))["fields"]
    assert [(field["name"], field.get("parent")) for field in fields] == [
        ("realm", None),
        ("area", "realm"),
        ("topic", "area"),
    ]


def test_too_many_fields(tmp_path: Path) -> None:
    survey = _survey([{f"f{index}": number % 2 for index in range(40)} for number in range(10)])
    text = draft(survey)
    (tmp_path / "quiz.toml").write_text(text, encoding="utf-8")
    assert len(load_registry(tmp_path).benchmarks["quiz"].fields) == 32
    assert text.count("a benchmark has at most 32 fields") == 8


def test_the_same_question_with_another_type_from_elsewhere() -> None:
    survey = _survey([{"level": number % 2} for number in range(10)])
    survey.begin_run("Them", "quiz")
    survey.add("0", [("metadata.level", "level", "0")], 1.0)
    assert "level: its values are of several types" in draft(survey)


@needs_real_data
def test_real_files(tmp_path: Path) -> None:
    runs = [REAL_DATA / "runs" / f"{name}.ndjson.gz" for name in ("mmlu-pro", "gsm8k")]
    code, told, _ = _suggest(*runs, "--out", tmp_path)
    assert (code, told.count("written; check it")) == (0, 2)
    registry = load_registry(tmp_path)
    pro, gsm8k = registry.benchmarks["mmlu-pro"], registry.benchmarks["gsm8k"]
    assert {name: (field.type, field.parent) for name, field in pro.by_name.items()} == {
        "category": (FieldType.CATEGORY, None),
        "src": (FieldType.CATEGORY, "category"),
    }
    assert {name: field.type for name, field in gsm8k.by_name.items()} == {"answered": FieldType.BOOLEAN}
    assert (len(pro.by_name["category"].values), gsm8k.question_count) == (14, 1319)
    for file, spec in zip(runs, (pro, gsm8k), strict=True):
        with gzip.open(file) as lines:
            for line in lines:
                check_against(spec, msgspec.convert(json.loads(line)["data"]["questions"], list[Question]))


@needs_real_data
def test_real_output_of_harnesses(tmp_path: Path) -> None:
    _, told, complaints = _suggest(REAL_DATA / "native", "--out", tmp_path)
    drafted = {Path(line.removesuffix(" written; check it")).stem for line in told.splitlines()}
    assert drafted >= {"hellaswag", "narrative_qa", "math", "ifeval", "asdiv", "negotiationtom_belief"}
    assert "mmlu is registered already" in complaints
    registry = load_registry(tmp_path)
    assert drafted <= registry.benchmarks.keys()
    assert registry.benchmarks["asdiv"].by_name["solution_type"].places == ("doc.solution_type",)
    # What was drafted is known from then on.
    _, told, _ = _suggest(REAL_DATA / "native", registry=tmp_path)
    assert told == ""

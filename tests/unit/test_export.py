"""Files of an export: whatever is in a result is read from them again, and what was taken away is noticed."""

import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from scorehouse.calls import ScorehouseError
from scorehouse.export import EveryEvalEverWriter, NotExported, ParquetWriter
from scorehouse.result_download import FetchedResult, read_fetched, temporary_file
from shared.formats.harness import NotReadable
from shared.formats.json_reading import Unreadable
from shared.formats.leftovers import leftover, restore
from shared.formats.scorehouse_parquet import SCOREHOUSE_PARQUET
from shared.formats.tree import read_tree
from shared.results import ResultState, ResultSummary
from shared.strict_json import same_content
from tests.exports import READERS, exported, files_in


def summary(data: bytes) -> ResultSummary:
    """That of a result with this data."""
    fields: dict[str, Any] = {
        "result_name": "2024-01-01T12:00:00Z-tides-r", "run_id": "r", "benchmark_name": "tides", "model_id": "gull",
        "source": "tests", "timestamp": "2024-01-01T12:00:00Z", "received_at": "2024-01-01T12:00:01Z", "questions": 1,
        "summary": {}, "bytes": len(data), "sha256": sha256(data).hexdigest(), "state": ResultState.VALID,
    }  # fmt: skip
    return ResultSummary(**fields)


def test_what_did_not_arrive_as_it_is_stored_is_not_exported() -> None:
    with temporary_file() as file:
        file.write(b'{"data":{"x":1}}')
        file.flush()
        good = summary(b'{"x":1}')
        assert bytes(read_fetched(good, file).data) == b'{"x":1}'
        with pytest.raises(ScorehouseError, match="digest"):
            read_fetched(good.model_copy(update={"sha256": "0" * 64}), file)
        with pytest.raises(ScorehouseError, match="digest"):
            read_fetched(good.model_copy(update={"bytes": 10_000}), file)


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}:{value}" for key, value in members.items()) + "}"


NUMBERS = st.sampled_from(
    ["0", "1", "-1", "1.0", "0.5", "0.50", "1e3", "1E-2", "-0", "-0.0", "9" * 25, "5e-324", "1e16"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(json.dumps)
SCALARS = st.one_of(NUMBERS, TEXTS, st.sampled_from(["null", "true", "false"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + " , ".join(items) + "]")
        | st.dictionaries(TEXTS, inner, max_size=3).map(_object)
    ),
    max_leaves=6,
)
POSITIVE = st.sampled_from(["0", "1", "0.5", "1.0", "7.10", "1e2"])
QUESTION = st.fixed_dictionaries(
    {'"score"': st.sampled_from(["0", "1", "1.0", "0.25", "1e0", "0.10"])},
    optional={
        '"answer"': VALUES, '"target"': VALUES, '"attempt"': st.sampled_from(["0", "3"]),
        '"status"': st.sampled_from(['"scored"', '"refused"', '"error"', '"unscored"']),
        '"metadata"': st.dictionaries(TEXTS, VALUES, max_size=4).map(_object),
        '"latency_ms"': POSITIVE, '"cost_usd"': POSITIVE, '"input_tokens"': st.sampled_from(["0", "12"]),
        '"output_tokens"': st.sampled_from(["5", "null"]), '"question"': VALUES, '"own"': VALUES,
    },
)  # fmt: skip


@pytest.mark.parametrize("file_format", READERS)
@given(questions=st.lists(QUESTION, max_size=4), besides=st.dictionaries(TEXTS, VALUES, max_size=2))
@settings(max_examples=80, deadline=None)
def test_whatever_is_in_a_question_comes_back(
    file_format: str, questions: list[dict[str, str]], besides: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [_object({'"question_id"': f'"q{number}"'} | question) for number, question in enumerate(questions)]
    members = {key: value for key, value in besides.items() if json.loads(key) != "questions"}
    data = _object(members | {'"questions"': "[" + ",".join(rows) + "]"}).encode()
    out = tmp_path_factory.mktemp("out")
    writer = EveryEvalEverWriter(out) if file_format == "every_eval_ever" else ParquetWriter(out)
    writer.add(FetchedResult(summary(data), memoryview(data)))
    [document] = exported(file_format, out)
    assert same_content(document.partition(b',"data":')[2].removesuffix(b"}"), data)


@pytest.mark.parametrize("file_format", READERS)
def test_a_row_that_is_gone_is_noticed(file_format: str, tmp_path: Path) -> None:
    data = b'{"questions":[{"question_id":"a","score":1.0},{"question_id":"b","score":1.0}]}'
    if file_format == "every_eval_ever":
        EveryEvalEverWriter(tmp_path).add(FetchedResult(summary(data), memoryview(data)))
        [file] = files_in(tmp_path, "*.jsonl")
        file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    else:
        ParquetWriter(tmp_path).add(FetchedResult(summary(data), memoryview(data)))
        [file] = files_in(tmp_path, "*.parquet")
        parquet.write_table(parquet.read_table(file).slice(0, 1), file)
    with pytest.raises(Unreadable, match="1 rows, and was written with 2"):
        list(exported(file_format, tmp_path))
    if file_format == "every_eval_ever":
        file.unlink()
        with pytest.raises(NotReadable, match="import both together"):
            list(exported(file_format, tmp_path))


def test_other_parquet_files_are_not_ours(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"score": [1.0]}), tmp_path / "details.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1" + random.Random(1).randbytes(100))
    assert list(SCOREHOUSE_PARQUET.find(read_tree(tmp_path))) == []


def test_data_that_no_footer_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorehouse.export_parquet.HEADER_MAX_BYTES", 1000)
    data = b'{"x":"%b"}' % (b"y" * 1000)
    with pytest.raises(NotExported, match="as ndjson or every_eval_ever"):
        ParquetWriter(tmp_path).add(FetchedResult(summary(data), memoryview(data)))
    assert files_in(tmp_path, "*") == []


@pytest.mark.parametrize(
    ("members", "told", "left"),
    [
        ({"a": b"1"}, {"a": b"1"}, None),
        ({"a": b"1"}, {"a": b"1.0"}, '{"set":{"a":1}}'),
        ({"a": b'"\\u00e9"'}, {"a": '"é"'.encode()}, None),
        ({"a": b'{"x":1,"y":2}'}, {"a": b'{"y": 2, "x": 1}'}, None),
        ({}, {"a": b"null"}, '{"drop":["a"]}'),
        ({"b": b"null"}, {"a": b"0"}, '{"set":{"b":null},"drop":["a"]}'),
    ],
)
def test_a_leftover_is_what_differs(members: dict[str, bytes], told: dict[str, bytes], left: str | None) -> None:
    assert leftover(members, told) == left
    restored = restore(told, left)
    assert restored.keys() == members.keys()
    assert all(same_content(restored[key], value) for key, value in members.items())

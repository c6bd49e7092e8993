"""What is kept of how a result was measured."""

from typing import Any

import pytest

from analysis_service.projection.prepare import prepare_run
from analysis_service.projection.provenance import StoredProvenance, hash_config
from shared.registry.load import load_registry
from tests.documents import document, make_answer

REGISTRY = load_registry()


def stored(provenance: dict[str, Any] | None) -> StoredProvenance:
    return prepare_run(document([make_answer("q1")], provenance=provenance), REGISTRY).provenance


def test_the_words_are_kept_as_they_are_and_the_settings_as_a_digest() -> None:
    config = {"temperature": 0.5, "num_fewshot": 5}
    kept = stored(
        {"harness": "own", "harness_version": "1.2", "task_version": "3", "grader": "exact", "config": config}
    )
    assert kept == StoredProvenance("own", "1.2", "3", "exact", hash_config(config))
    assert len(kept.config_hash or "") == 32


@pytest.mark.parametrize("sent", [None, {}, {"raw_input": "x"}, {"config": {}}, {"config": None}])
def test_what_is_not_told_is_none(sent: dict[str, Any] | None) -> None:
    assert stored(sent) == StoredProvenance()


SAME = [
    ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}),
    ({"temperature": 0}, {"temperature": 0.0}),
    ({"shots": 5, "model_args": {"pretrained": "x"}}, {"shots": 5, "model": "y"}),
    ({"shots": 5, "seed": 1, "run_id": "a"}, {"shots": 5, "fewshot_seed": 2}),
    ({"generation": {"seed": 2**80, "top_p": 1}}, {"generation": {"top_p": 1.0}}),
]
OTHER = [
    ({"temperature": 0}, {"temperature": 0.7}),
    ({"temperature": 0}, {"temperature": "0"}),
    ({"stop": ["a", "b"]}, {"stop": ["b", "a"]}),
    ({"prompt": "é"}, {"prompt": "e"}),
    ({"generation": {"top_p": 1}}, {"top_p": 1}),
    ({"limit": 2**80}, {"limit": 2**80 + 1}),
    ({"cot": True}, {"cot": 1}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_settings_that_ask_alike_have_one_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert hash_config(one) == hash_config(other) is not None


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_settings_that_ask_in_another_way_have_another(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert hash_config(one) != hash_config(other)


def test_settings_that_say_nothing_of_how_it_was_asked_have_none() -> None:
    assert hash_config({"model": "x", "run_id": "a", "random_seed": 0}) is None

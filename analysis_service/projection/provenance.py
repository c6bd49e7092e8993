"""What of a result's provenance the projection keeps: by it runs are told to be measured in another way. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from shared.submission import learn


class SentProvenance(msgspec.Struct, frozen=True):
    """The part of `shared.submission.Provenance` that is read here."""

    harness: str | None = None
    harness_version: str | None = None
    task_version: str | None = None
    grader: str | None = None
    config: msgspec.Raw = msgspec.Raw(b"null")


learn(SentProvenance)


@dataclass(frozen=True, slots=True)
class StoredProvenance:
    """How a result was measured; the fields are columns of `runs`."""

    harness: str | None = None
    harness_version: str | None = None
    task_version: str | None = None
    grader: str | None = None
    config_hash: str | None = None
    """Of the settings that say how the questions were asked: prompt, shots, sampling."""


def read_provenance(sent: SentProvenance | None) -> StoredProvenance:
    """What is kept of `sent`."""
    if sent is None:
        return StoredProvenance()
    config = json.loads(bytes(sent.config))
    return StoredProvenance(
        sent.harness, sent.harness_version, sent.task_version, sent.grader, hash_config(config) if config else None
    )


_APART = frozenset(
    {
        *("run_id", "task_id", "eval_set_id", "evaluation_id", "commit", "git_hash", "date", "timestamp", "seed"),
        *("run_spec", "sampler", "pretrained", "tokenizer", "chat_template_sha", "path", "abbr", "source_metadata"),
        *("device", "batch_size", "batch_sizes", "max_batch_size", "use_cache", "cache_requests", "bootstrap_iters"),
    }
)
"""Settings that name the model, the run or the machine. They differ where nothing was asked in another way; a seed
makes another draw of the same."""


def hash_config(config: Mapping[str, Any]) -> str | None:
    """A digest of 32 hexadecimal digits, equal for equal settings in any order; None where none is left to tell.

    Left out is what is in `_APART`, and what begins with `model` or ends with `_seed`.
    """
    asked = _without_apart(config)
    if not asked:
        return None
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _without_apart(value: Any) -> Any:  # noqa: ANN401 - JSON as somebody sent it
    if isinstance(value, dict):
        return {
            name: _without_apart(inner)
            for name, inner in value.items()
            if name not in _APART and not name.startswith("model") and not name.endswith("_seed")
        }
    if isinstance(value, list):
        return [_without_apart(inner) for inner in value]
    # 0 and 0.0 are the same temperature.
    return int(value) if isinstance(value, float) and value.is_integer() else value

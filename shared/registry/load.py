"""Reads the registry: the TOML files that ship in this folder, then a folder of the user's that adds or overrides.

A file with a `models` list holds models; any other file is one benchmark. Errors name file and key.
"""

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from shared.names import table_suffix
from shared.problems import Fault, error_faults, unknown_value
from shared.registry.specs import BenchmarkSpec, FieldSpec, ModelSpec, Registry, Translated

SHIPPED = Path(__file__).parent


class RegistryError(ValueError):
    """A registry file that cannot be used. The message names the file and the key."""

    def __init__(self, file: Path, message: str) -> None:
        super().__init__(f"registry file {file}: {message}")


class _ModelFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: tuple[ModelSpec, ...] = Field(min_length=1)


def load_registry(folder: Path | None = None) -> Registry:
    """The shipped registry, with the files of `folder` (and folders in it) added or overriding by name.

    RegistryError names the file and the key that are wrong.
    """
    benchmarks: dict[str, tuple[BenchmarkSpec, Path]] = {}
    models: dict[str, tuple[ModelSpec, Path]] = {}
    for root in (SHIPPED, folder) if folder is not None else (SHIPPED,):
        in_this_folder: dict[str, Path] = {}
        for file in _files(root):
            for item in _read(file):
                kind = "benchmark" if isinstance(item, BenchmarkSpec) else "model"
                name = item.name if isinstance(item, BenchmarkSpec) else item.id
                key = f"{kind} {name}"
                if key in in_this_folder:
                    place = "name" if kind == "benchmark" else f"models.{name}.id"
                    raise RegistryError(file, f"{place}: {kind} {name!r} is defined in {in_this_folder[key]} already")
                in_this_folder[key] = file
                if isinstance(item, BenchmarkSpec):
                    benchmarks[name] = (item, file)
                else:
                    models[name] = (item, file)
    _check_tables(benchmarks)
    _check_harness_names(benchmarks)
    _check_aliases(models)
    return Registry(
        {name: spec for name, (spec, _) in benchmarks.items()}, {name: spec for name, (spec, _) in models.items()}
    )


def _files(root: Path) -> list[Path]:
    if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
        raise RegistryError(root, "is not a folder that can be read (SCOREHOUSE_REGISTRY_DIR)")
    # Kubernetes mounts a ConfigMap as links into a hidden folder, where each file would be found a second time.
    return sorted(
        file for file in root.rglob("*.toml") if not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def _read(file: Path) -> tuple[BenchmarkSpec | ModelSpec, ...]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegistryError(file, f"is not TOML: {error}") from None
    except OSError as error:
        raise RegistryError(file, f"cannot be read: {error.strerror}") from None
    top = _ModelFile if "models" in document else BenchmarkSpec
    try:
        item = top.model_validate(document)
    except ValidationError as error:
        items = error.errors(include_url=False, include_context=False)
        faults = (_in_words(item, fault, top) for item, fault in zip(items, error_faults(items), strict=True))
        raise RegistryError(file, "; ".join(faults)) from None
    return item.models if isinstance(item, _ModelFile) else (item,)


_TABLES: dict[str, type[BaseModel]] = {
    "models": ModelSpec,
    "fields": FieldSpec,
    "title": Translated,
    "description": Translated,
}


def _in_words(item: ErrorDetails, fault: Fault, top: type[BaseModel]) -> str:
    """One fault in the words of TOML: where a key is unknown or a table expected, with the keys there are."""
    names = [step for step in item["loc"] if isinstance(step, str)]
    match item["type"]:
        case "extra_forbidden":
            keys = _TABLES[names[-2]].model_fields if len(names) > 1 else top.model_fields
            unknown = unknown_value(fault.place, names[-1], keys, what="key")
            detail = f"{unknown.detail}; allowed: {', '.join(keys)}"
        case "model_type":
            detail = f"must be a table of {', '.join(_TABLES[names[-1]].model_fields)}"
        case "dict_type" | "mapping_type":
            detail = "must be a table"
        case "tuple_type":
            detail = "must be a list"
        case _:
            detail = fault.detail.replace("input should be", "must be").replace("tuple should have", "must have")
    return detail if fault.place == "body" else f"{fault.place}: {detail}"


def _check_tables(benchmarks: dict[str, tuple[BenchmarkSpec, Path]]) -> None:
    owners: dict[str, str] = {}
    for name, (_, file) in benchmarks.items():
        owner = owners.setdefault(table_suffix(name), name)
        if owner != name:
            other = benchmarks[owner][1]
            raise RegistryError(
                file, f"name: {name!r} and {owner!r} ({other}) would share their tables; rename one of them"
            )


def _check_harness_names(benchmarks: dict[str, tuple[BenchmarkSpec, Path]]) -> None:
    owners: dict[str, str] = {}
    for name, (spec, file) in benchmarks.items():
        for claimed in sorted(spec.claimed_names):
            owner = owners.setdefault(claimed, name)
            if owner != name:
                other = benchmarks[owner][1]
                raise RegistryError(
                    file,
                    f"harness_names: {claimed!r} means {owner!r} ({other}) already; take it from one of them (a file"
                    " of your own with the name of a shipped benchmark replaces it)",
                )


def _check_aliases(models: dict[str, tuple[ModelSpec, Path]]) -> None:
    owners = {name: name for name in models}
    for name, (model, file) in models.items():
        for alias in model.aliases:
            owner = owners.setdefault(alias, name)
            if owner != name:
                other = models[owner][1]
                raise RegistryError(file, f"models.{name}.aliases: {alias!r} belongs to {owner!r} ({other}) already")

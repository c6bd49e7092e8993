"""Reads the registry: the TOML files that ship in this folder, then a folder of the user's that adds or overrides.

A file with a `models` list holds models; any other file is one benchmark. Errors name file and key.
"""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.names import table_suffix
from shared.problems import validation_faults
from shared.registry.specs import BenchmarkSpec, ModelSpec, Registry

SHIPPED = Path(__file__).parent


class RegistryError(ValueError):
    """A registry file that cannot be used. The message names the file and the key."""

    def __init__(self, file: Path, message: str) -> None:
        super().__init__(f"registry file {file}: {message}")


class _ModelFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: tuple[ModelSpec, ...]


def load_registry(folder: Path | None = None) -> Registry:
    """The shipped registry, with the files of `folder` (and folders in it) added or overriding by name."""
    benchmarks: dict[str, tuple[BenchmarkSpec, Path]] = {}
    models: dict[str, tuple[ModelSpec, Path]] = {}
    for root in (SHIPPED, folder) if folder is not None else (SHIPPED,):
        if not root.is_dir():
            raise RegistryError(root, "is not a folder (SCOREHOUSE_REGISTRY_DIR)")
        in_this_folder: dict[str, Path] = {}
        for file in sorted(root.rglob("*.toml")):
            for item in _read(file):
                kind = "benchmark" if isinstance(item, BenchmarkSpec) else "model"
                name = item.name if isinstance(item, BenchmarkSpec) else item.id
                other = in_this_folder.setdefault(f"{kind} {name}", file)
                if other is not file:
                    raise RegistryError(file, f"{kind} {name!r} is defined in {other} as well")
                if isinstance(item, BenchmarkSpec):
                    benchmarks[name] = (item, file)
                else:
                    models[name] = (item, file)
    _check_tables(benchmarks)
    _check_aliases(models)
    return Registry(
        {name: spec for name, (spec, _) in benchmarks.items()}, {name: spec for name, (spec, _) in models.items()}
    )


def _read(file: Path) -> tuple[BenchmarkSpec | ModelSpec, ...]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RegistryError(file, f"is not TOML: {error}") from None
    except OSError as error:
        raise RegistryError(file, f"cannot be read: {error.strerror}") from None
    try:
        if "models" in document:
            return _ModelFile.model_validate(document).models
        return (BenchmarkSpec.model_validate(document),)
    except ValidationError as error:
        faults = "; ".join(f"{fault.place}: {fault.detail}" for fault in validation_faults(error))
        raise RegistryError(file, faults.removeprefix("body: ")) from None


def _check_tables(benchmarks: dict[str, tuple[BenchmarkSpec, Path]]) -> None:
    owners: dict[str, str] = {}
    for name, (_, file) in benchmarks.items():
        owner = owners.setdefault(table_suffix(name), name)
        if owner != name:
            raise RegistryError(file, f"name: {name!r} and {owner!r} would share their tables; rename one of them")


def _check_aliases(models: dict[str, tuple[ModelSpec, Path]]) -> None:
    owners = {name: name for name in models}
    for name, (model, file) in models.items():
        for alias in model.aliases:
            owner = owners.setdefault(alias, name)
            if owner != name:
                raise RegistryError(file, f"models.{name}.aliases: {alias!r} belongs to {owner!r} already")

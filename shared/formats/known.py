"""The formats that can be read, and what of them is among some files."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from shared.formats.evalscope import EVALSCOPE
from shared.formats.every_eval_ever import EVERY_EVAL_EVER
from shared.formats.harness import Finding, Format
from shared.formats.helm import HELM
from shared.formats.inspect_log import INSPECT
from shared.formats.lighteval import LIGHTEVAL
from shared.formats.lm_eval import LM_EVAL
from shared.formats.opencompass import OPENCOMPASS
from shared.formats.scorehouse_parquet import SCOREHOUSE_PARQUET
from shared.formats.simple_evals import SIMPLE_EVALS
from shared.formats.tree import File, Tree

_ALL: Sequence[Format] = (
    *(LM_EVAL, INSPECT, HELM, OPENCOMPASS, EVALSCOPE, LIGHTEVAL, SIMPLE_EVALS, EVERY_EVAL_EVER),
    SCOREHOUSE_PARQUET,
)
FORMATS: Mapping[str, Format] = MappingProxyType({form.name: form for form in _ALL})
"""By name. Where two could take a file for theirs, the first has it."""


def find_all(tree: Tree, only: str | None = None) -> list[Finding]:
    """What is among the files, in the order of their paths; with `only`, of one format. Each file is in one at most."""
    taken: set[str] = set()
    findings: list[Finding] = []
    for form in FORMATS.values():
        if only is not None and form.name != only:
            continue
        for finding in form.find(tree):
            paths = {file.path for file in finding.files}
            if not paths & taken:
                taken |= paths
                findings.append(finding)
    return sorted(findings, key=lambda finding: finding.place)


def reader_of(finding: Finding) -> Format:
    """What can read it."""
    return FORMATS[finding.format]


def unrecognised(tree: Tree, findings: Sequence[Finding]) -> list[File]:
    """The files that are in none of the findings."""
    taken = {file.path for finding in findings for file in finding.files}
    return [file for path, file in tree.items() if path not in taken]

"""What a builder says of its own cells, asked again where the release is signed: nothing of it is taken on trust.

The files themselves are judged; what only their builder can have seen is held to what the configuration asks for.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from builders.errors import CellError, SmokeNotRun
from builders.model import SmokeHow
from builders.output_rules import FoundFile, choose
from orchestrator import gate
from orchestrator.errors import ShardTampered
from orchestrator.model import BuildReport, Built, CellResult, Finding, PolicyRules, Verdict
from orchestrator.provenance.buildkit import DOCUMENT

_BUILDKIT = "buildx"
_RAN = (SmokeHow.NATIVE, SmokeHow.EMULATED)
_OWN_FOLDERS = "build_paths"
"""The rule whose needles are the builder's own folders: only that machine can look for them."""


def judged_again(report: BuildReport, rules: PolicyRules, needles: Sequence[bytes]) -> BuildReport:
    """Judge the files of every cell as a run would have. Raises what the truth gate raises, ShardTampered, SmokeNotRun.

    `needles` are folders of this machine.
    """

    def again(result: CellResult) -> CellResult:
        return _judged(result, rules, needles) if isinstance(result, Built) else result

    return dataclasses.replace(report, results=tuple(again(result) for result in report.results))


def _judged(built: Built, rules: PolicyRules, needles: Sequence[bytes]) -> Built:
    for problem in _problems(built):
        raise ShardTampered(f"{built.cell.id}: {problem}", next_step="build it again on a machine that you trust")
    if built.smoke.how is SmokeHow.NOT_RUN and rules.smoke_not_run is Verdict.ERROR:
        raise SmokeNotRun(
            f"{built.cell.id}: its smoke tests could not run where it was built: {built.smoke.note}",
            next_step="build it where they can, or set smoke_not_run = 'warn' in [policy]",
        )
    cell = built.cell
    found = gate.judge(built.folder, built.files, cell.target, cell.libc, rules.gate, needles)
    return dataclasses.replace(built, findings=_joined(found, built.findings))


def _joined(found: Sequence[Finding], claimed: Sequence[Finding]) -> tuple[Finding, ...]:
    told = [each for each in claimed if each.rule == _OWN_FOLDERS and each not in found]
    return tuple(sorted([*found, *told], key=lambda each: (str(each.path), each.rule))) if told else tuple(found)


def _problems(built: Built) -> Iterator[str]:
    cell, smoke = built.cell, built.smoke
    names = [str(file.path) for file in built.files]
    try:
        taken = {each.path for each in choose([FoundFile(path=name) for name in names], cell.outputs, cell.id)}
    except CellError as error:
        yield error.what
        return
    if extra := sorted(set(names) - taken):
        yield f"it holds {extra[0]}, which no pattern of `outputs` takes"
    if foreign := sorted(set(built.documents) - ({DOCUMENT} if cell.builder == _BUILDKIT else set())):
        yield f"it holds the document {foreign[0]}, which the {cell.builder} builder does not write"
    if (smoke.how is SmokeHow.NONE) != (not cell.smoke) or smoke.tests not in {0, len(cell.smoke)}:
        yield f"it tells of {smoke.tests} smoke tests ({smoke.how}), and the configuration has {len(cell.smoke)}"
    asked = {each.run for each in cell.smoke}
    ran = {each.run for each in smoke.runs}
    if ran - asked or (smoke.how in _RAN and ran != asked):
        yield "it tells of other smoke tests than the configuration has"

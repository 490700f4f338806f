"""Plant cases in copies of a tiny release: `make golden` rewrites every folder, arguments name single rules.

A case is `tests/cases/<schema version>/<code>/<name>/` with `release/` (and `checkpoints/` where it needs them) and
`report.json`, the findings that `saereg validate` must give: all of the one code, or none for a case that passes.
Cases of SR7 have a registry of SAELens' kind, `pretrained_saes.yaml`, in place of a release.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from saereg.registry.federation.directory import read_directory  # noqa: E402
from saereg.registry.federation.places import FILE  # noqa: E402
from saereg.registry.federation.report import lint  # noqa: E402
from saereg.registry.validators.runner import validate  # noqa: E402
from saereg.schemas.report import Level, Report  # noqa: E402
from tests.cases.planted import (  # noqa: E402
    across,
    cards,
    documents,
    evidence,
    hub,
    layout,
    numbers,
    privacy,
    semantics,
    snippets,
    tensors,
    withdrawal,
)
from tests.cases.planted.federation import REGISTRY_CASES  # noqa: E402
from tests.cases.tools import Case  # noqa: E402
from tests.releases import tiny_release  # noqa: E402

FOLDER = HERE / "1"

CASES: dict[str, Case] = (
    layout.CASES
    | documents.CASES
    | tensors.CASES
    | semantics.CASES
    | numbers.CASES
    | evidence.CASES
    | privacy.CASES
    | snippets.CASES
    | across.CASES
    | withdrawal.CASES
    | cards.CASES
    | hub.CASES
)
"""Name of the folder → what is planted, the code it is about, and whether that code must be found or must not."""


def folder_of(name: str) -> Path:
    """Return the folder of a case."""
    return FOLDER / CASES[name].code / name


def registry_folder_of(name: str) -> Path:
    """Return the folder of a case of a registry."""
    return FOLDER / REGISTRY_CASES[name].code / name


def write(name: str) -> str | None:
    """Write one case folder anew; return what is wrong with it, if anything."""
    case, place = CASES[name], folder_of(name)
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = tiny_release(Path(scratch), checkpoints=case.checkpoints)
        case.plant(root)
        report = validate(root, case.level, options=case.options, settings=case.settings)
        shutil.copytree(scratch, place, symlinks=True)
    _record(place, case.code, case.level, report)
    codes, wanted = {finding.code for finding in report.findings}, set() if case.passes else {case.code}
    return None if codes == wanted else f"{name}: planted {case.code}, found {sorted(codes)}"


def write_registry(name: str) -> str | None:
    """Write one case folder of a registry anew; return what is wrong with it, if anything."""
    case, place = REGISTRY_CASES[name], registry_folder_of(name)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / FILE).write_text(case.text)
    report = lint(read_directory(place / FILE))
    _record(place, case.code, "layout", report)
    codes, wanted = (
        {finding.code for finding in report.findings},
        {*case.beside, *(() if case.passes else (case.code,))},
    )
    return None if codes == wanted else f"{name}: planted {case.code}, found {sorted(codes)}"


def _record(place: Path, code: str, level: Level, report: Report) -> None:
    findings = [finding.model_dump(exclude={"origin", "fingerprint"}, exclude_none=True) for finding in report.findings]
    record = {"code": code, "level": level, "findings": findings}
    (place / "report.json").write_text(json.dumps(record, indent=2) + "\n")


def main(codes: set[str]) -> int:
    """Write every case, or those of some rules; return how many went wrong."""
    if not codes:
        shutil.rmtree(FOLDER, ignore_errors=True)
    problems = [write(name) for name, case in CASES.items() if not codes or case.code in codes]
    registries = REGISTRY_CASES.items()
    problems += [write_registry(name) for name, case in registries if not codes or case.code in codes]
    for problem in filter(None, problems):
        sys.stderr.write(problem + "\n")
    return sum(problem is not None for problem in problems)


if __name__ == "__main__":
    sys.exit(main(set(sys.argv[1:])) > 0)

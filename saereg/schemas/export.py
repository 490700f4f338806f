"""Write (or check) the JSON Schemas of every document: `python -m saereg.schemas.export [--check]`."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from saereg.errors import UnknownNameError
from saereg.schemas.artifact_config import CONFIG
from saereg.schemas.collection import Collection
from saereg.schemas.conversion import Conversion
from saereg.schemas.coverage import Coverage
from saereg.schemas.difference import Difference
from saereg.schemas.facts import Facts
from saereg.schemas.features import FeatureView
from saereg.schemas.index import Index
from saereg.schemas.lock import Lock
from saereg.schemas.manifest import Manifest
from saereg.schemas.parameters import StoredParameter
from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import REPORT_LINE, Report
from saereg.schemas.sweep import SweepConfig
from saereg.schemas.training import TrainConfig
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.schemas.transfer import TransferMatrix

FOLDER = Path(__file__).parent / "json"

DOCUMENTS: dict[str, TypeAdapter[Any]] = {
    "manifest": TypeAdapter(Manifest),
    "index": TypeAdapter(Index),
    "cfg": CONFIG,
    "report": TypeAdapter(Report),
    "report-line": REPORT_LINE,
    "plan": TypeAdapter(Plan),
    "receipt": TypeAdapter(Receipt),
    "lock": TypeAdapter(Lock),
    "collection": TypeAdapter(Collection),
    "parameters": TypeAdapter(StoredParameter),
    "train": TypeAdapter(TrainConfig),
    "train-crosscoder": TypeAdapter(CrosscoderTrainConfig),
    "train-sweep": TypeAdapter(SweepConfig),
    "conversion": TypeAdapter(Conversion),
    "features": TypeAdapter(FeatureView),
    "transfer": TypeAdapter(TransferMatrix),
    "difference": TypeAdapter(Difference),
    "facts": TypeAdapter(Facts),
    "coverage": TypeAdapter(Coverage),
}
"""Every document with a schema; the major version is part of the file name."""


def schema(name: str) -> str:
    """Return the committed JSON Schema (draft 2020-12) of a document.

    Raises:
        UnknownNameError: when there is no such document.
    """
    if name not in DOCUMENTS:
        raise UnknownNameError("document", name, DOCUMENTS)
    return _committed(name)


def _committed(name: str) -> str:
    path = path_of(name)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def path_of(name: str) -> Path:
    """Return where the schema of a document is kept."""
    return FOLDER / f"{name}-1.schema.json"


def generate(name: str) -> str:
    """Return the JSON Schema of a document as the models define it now."""
    body = DOCUMENTS[name].json_schema(by_alias=True, mode="validation")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:saereg:schema:{name}:1",
        "title": f"saereg {name}",
    }
    return json.dumps(head | {k: v for k, v in body.items() if k != "title"}, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the schemas, or with `--check` only compare; return the exit status."""
    stale = [name for name in DOCUMENTS if _committed(name) != generate(name)]
    if "--check" in arguments:
        if stale:
            sys.stderr.write(f"schemas out of date: {', '.join(stale)}; run `make schemas`\n")
        return 1 if stale else 0
    for name in stale:
        path_of(name).write_text(generate(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""An inventory of another make as a manifest of ours, with an account of every value."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.files.natural import natural_key
from saereg.registry.foreign.document import Inventory, Leaf
from saereg.registry.foreign.placing import Beside, PlacedRow, Placement, place
from saereg.registry.upgrading.account import Account, Upgraded
from saereg.registry.upgrading.artifacts import Filling, Making
from saereg.registry.upgrading.given import Given
from saereg.schemas.document import SCHEMA_VERSION, canonical
from saereg.schemas.manifest import SCHEMA_URL, Manifest
from saereg.schemas.names import path_problem
from saereg.schemas.withdrawal import VERSION

FIRST = "0.1.0"
"""Version of a release whose source names none, as `saereg init` gives it."""

SAY: Mapping[str, str] = {
    "license": "--license LICENSE",
    "model": "--model ORG/NAME",
    "site": "--site 'blocks.{layer}.hook_resid_post' or --module 'model.layers.{layer}'",
    "site_out": "--set hook_out=NAME",
    "stream": "--stream residual|mlp|attention|embedding",
    "kind": "--set kind=sae|transcoder|crosscoder",
    "axis": "--set axis=snapshot",
    "steps": "--set steps=0,1,2 (as many as it has sources)",
    "sources": "sources over layers or models: write them into manifest.json by hand",
}
"""What a manifest needs → how to say it; other fields are said with `--set FIELD=VALUE`."""


def manifest_of(inventory: Inventory, given: Given, name: str, beside: Beside = lambda path: None) -> Upgraded:
    """Return the manifest of an inventory.

    Args:
        inventory: rows of another make.
        given: what the user says of them.
        name: name of the release where neither says one.
        beside: what reads the configuration beside the weights of a row.

    Raises:
        UsageError: naming at once everything that is not known, or a setting that is of no use.
        DocumentError: when a value does not fit the manifest.
    """
    placement, account = place(inventory, beside), Account()
    making = Making(given, account)
    leaves_of = {row.pointer: row.leaves for row in inventory.rows}
    release = _release(placement, given, name, account)
    rows = sorted(placement.rows, key=lambda row: natural_key(row.id))
    artifacts: list[dict[str, Any]] = []
    for row in rows:
        if problem := path_problem(row.id) or path_problem(row.path):
            _leave_out(row.pointer, leaves_of, problem, account)
            continue
        artifacts.append(Filling(making, row, f"/artifacts/{len(artifacts)}").artifact())
    if rows and not artifacts:
        raise UsageError(f"a release can have none of the {len(rows)} rows, e.g. because of {problem}")
    _require(account, release, len(rows))
    _require_use(making, rows)
    document = {
        "$schema": SCHEMA_URL,
        "schema_version": SCHEMA_VERSION,
        "release": release,
        "base_models": making.base_models,
        "sites": making.sites,
        "artifacts": artifacts,
    }
    if given.tokens:
        document["tokens"] = dict(given.tokens)
        account.suppose("/tokens", document["tokens"], "--tokens")
    Manifest.from_text(canonical(document), "the manifest that would be written")
    return account.closed(document, inventory, placement)


def _leave_out(pointer: str, leaves_of: Mapping[str, tuple[Leaf, ...]], problem: str, account: Account) -> None:
    for leaf in leaves_of[pointer]:
        account.refuse(leaf, f"a release cannot have this row: {problem}")


def _require_use(making: Making, rows: Iterable[PlacedRow]) -> None:
    """Refuse what was said of nothing: it is a slip of the pen, and the manifest would lack what was meant.

    Raises:
        UsageError: naming the first such option.
    """
    unused = [setting.word for setting in making.given.settings if setting.word not in making.used]
    if unused:
        raise UsageError(f"--set {unused[0]}: no dictionary of that name lacks it; what the inventory states is kept")
    rows = list(rows)
    models = {str(row.get("model")) for row in rows}
    if strange := [word for word in making.given.models if word not in models]:
        raise UnknownNameError("base model of --model", strange[0], models - {"None"})
    numbers = {number.name for row in rows for number in row.metrics}
    if strange := [name for name in making.given.metrics if name not in numbers]:
        raise UnknownNameError("number of --metric", strange[0], numbers)


def _release(placement: Placement, given: Given, name: str, account: Account) -> dict[str, Any]:
    """Return the record of the release: what the inventory says, what the user says, what neither does."""
    fields: dict[str, Any] = {}
    for key in ("name", "title", "license", "version", "description", "citation", "authors", "sister_releases", "code"):
        said, pointer = placement.release.get(key), f"/release/{key}"
        if key in given.release:
            fields[key] = given.release[key]
            account.suppose(pointer, fields[key], f"--{key}")
            if said is not None and said.value == fields[key]:
                account.move(said.leaf, pointer, fields[key])
            elif said is not None:
                account.refuse(said.leaf, f"--{key} says otherwise")
        elif said is not None and (problem := _misfit(key, said.value)):
            account.refuse(said.leaf, problem)
        elif said is not None:
            fields[key] = _as_here(key, said.value)
            pointer = f"{pointer}/repository" if key == "code" else pointer
            account.move(said.leaf, pointer, fields[key]["repository"] if key == "code" else fields[key])
            if fields[key] != said.value and key == "license":
                account.suppose(pointer, fields[key], "licences are written small")
    for key, value, because in (
        ("name", re.sub(r"[^A-Za-z0-9_.\-]+", "-", name).strip("-._") or "release", "the name of the folder"),
        ("title", fields.get("name") or name, "the name"),
        ("version", FIRST, "the inventory has none"),
    ):
        if key not in fields:
            fields[key] = value
            account.suppose(f"/release/{key}", value, because)
    return fields


def _misfit(key: str, value: object) -> str | None:
    """Return why a value of the release cannot be taken over, or None."""
    if key == "name" and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,119}", str(value)):
        return "no name that a release can have; --name says one"
    if key == "version" and not re.fullmatch(VERSION, str(value)):
        return "no semantic version"
    return None


def _as_here(key: str, value: Any) -> Any:  # noqa: ANN401 - a value of JSON
    if key == "license":
        return value.lower()
    if key == "code":
        return {"repository": value}
    return list(value) if isinstance(value, tuple) else value


def _require(account: Account, release: Mapping[str, Any], rows: int) -> None:
    """Refuse a manifest that lacks something, naming all of it.

    Raises:
        UsageError: with one option for each.
    """
    if rows == 0:
        raise UsageError("no row is one dictionary: each needs an id or a path of its own")
    needs = [] if "license" in release else [SAY["license"]]
    for name, ids in account.lacking.items():
        ids = list(dict.fromkeys(ids))
        of = f"of all {rows}" if len(ids) == rows else f"of {len(ids)} of {rows}, e.g. {ids[0]!r}"
        needs.append(f"{SAY.get(name, f'--set {name}=VALUE')} ({name} {of})")
    if needs:
        raise UsageError(f"the inventory does not say everything; add {'; '.join(needs)}")

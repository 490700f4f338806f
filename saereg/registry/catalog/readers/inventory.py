"""An inventory of another make, as rows: what it states, what was inferred from its names, what found no field."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saereg import __version__
from saereg.errors import UsageError
from saereg.registry import hub
from saereg.registry.catalog.headline import UNDEFINED
from saereg.registry.catalog.rows import Assumed, Edge, Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.foreign.files import NAMES, InventoryFile, is_inventory, open_inventory
from saereg.registry.foreign.placing import PlacedRow, Placement, place
from saereg.registry.foreign.words import plain
from saereg.registry.naming import Fact, tokens_of
from saereg.schemas.report import Finding

__all__ = ["is_inventory", "snapshot"]

TOOL = f"saereg {__version__}"

SAME = (
    "architecture", "model", "model_step", "model_revision", "layer", "stream", "parameter", "d_in", "d_out", "d_sae",
    "k", "l1_coefficient", "l0_coefficient", "target_l0", "seed", "snapshot", "variant", "canonical", "tokens", "dtype",
    "weights_sha256", "size", "neuronpedia_id", "axis", "n_sources",
)  # fmt: skip
"""Fields of a placed row that are fields of an entry by the same name."""

ELSEWHERE = ("id", "path", "kind", "hook", "steps", "rows", "source_checkpoint", "source_sha256")
"""Fields of a placed row that stand in an entry, its metrics or its edges under another name."""

NAMED: Mapping[Fact, str] = {"width": "d_sae", "k": "k", "layer": "layer", "seed": "seed", "l1": "l1_coefficient"}
"""What a name states → the field that it must not contradict."""

_LOCATOR = re.compile(r"^hf://(?P<repo>[^/@:\s]+/[^/@:\s]+)(?:/(?P<path>[^\s@]+))?$")

_REPOSITORY = re.compile(r"(?:hf://|https://huggingface\.co/)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)/?", re.ASCII)
"""A repository as documents name it: its id, or its address."""

_SHOWN = 60
"""Characters of a value in a message."""


def snapshot(source: Source) -> Snapshot:
    """Return an inventory as rows.

    Args:
        source: a file or folder of this machine, or `hf://org/repo[/path]`, of which only JSON is fetched.

    Raises:
        UsageError: when it is no inventory, or cannot be read.
        NothingToValidateError: when there is nothing.
        PublishError: when the repository, revision or network is not there.
    """
    match = _LOCATOR.match(source.locator)
    if match is None:
        if source.locator.startswith("hf://"):
            raise UsageError(f"{source.locator!r} is no inventory; write hf://org/repo or hf://org/repo/index.json")
        file = open_inventory(Path(source.locator))
        rows = release_rows(file, folder=str(file.path.parent.absolute()))
        return Snapshot(source, file.sha256, TOOL, (rows,))
    folder = hub.fetch_documents(match["repo"], source.revision or None)
    file = open_inventory(folder / (match["path"] or ""))
    rows = release_rows(file, repo=match["repo"], revision=folder.name)
    return Snapshot(source, folder.name, TOOL, (rows,))


def release_rows(
    file: InventoryFile, *, folder: str | None = None, repo: str | None = None, revision: str | None = None
) -> ReleaseRows:
    """Return the one release of an inventory.

    Args:
        file: the open inventory.
        folder: folder of its weights, where it is on this machine.
        repo: repository that it was read from; else the one that it names itself.
        revision: commit that it was read at.
    """
    placement = place(file.inventory, file.beside)
    said = {name: fact.value for name, fact in placement.release.items()}
    entries = tuple(entry(row) for row in placement.rows)
    of_file = file.path.parent.absolute().name if file.path.name in NAMES else file.path.stem
    return ReleaseRows(
        name=said.get("name") or (repo.rpartition("/")[2] if repo else of_file),
        version=said.get("version"),
        title=said.get("title"),
        license=said.get("license"),
        repo=repo or _repository(said.get("repo")),
        revision=revision,
        folder=folder,
        standing="foreign",
        entries=entries,
        edges=tuple(_edges(placement)),
        aliases=tuple(("canonical", one.id) for one in entries if one.canonical),
        findings=(
            *_contradicted(placement.rows, file.path.name),
            *_alike(placement.rows, file.path.name),
            *_left_over(placement, file.path.name),
        ),
    )


def _repository(said: str | None) -> str | None:
    """Return the id of the repository that a document names; None where it is no id: nothing could be asked for."""
    match = _REPOSITORY.fullmatch(said or "")
    return match["repo"] if match else None


def entry(row: PlacedRow) -> Entry:
    """Return one row of an inventory as an artifact: stated fields, and inferred ones beside the list of them."""
    known: dict[str, Any] = {name: row.get(name) for name in SAME}
    hook, steps = row.get("hook"), row.get("steps") or ()
    if row.kind != "crosscoder":
        known["axis"], known["n_sources"], steps = None, None, ()
    hook_field = _hook_field(hook)
    return Entry(
        **known | {hook_field: hook} | {"n_sources": len(steps) or known["n_sources"]},
        id=row.id,
        path=row.path if row.path != row.id else None,
        kind=row.kind,
        steps=steps,
        metrics=tuple(_metrics(row)),
        assumptions=tuple(_assumptions(row, hook_field)),
    )


def _hook_field(hook: str | None) -> str:
    """Return the field of a hook: names of TransformerLens start with `blocks.` or `hook_`, paths of modules do not."""
    return "module" if hook and not hook.startswith(("blocks.", "hook_")) else "hook_name"


def _metrics(row: PlacedRow) -> Iterator[Metric]:
    for number in row.metrics:
        yield Metric("stated", number.metric, _spelt(number.name), number.value, kind=number.kind, rows=row.get("rows"))


def _spelt(name: str) -> str:
    """Return what a source calls a number; `Mean L0` as `mean_l0`, where only so it can be found as an L0."""
    known = {word for words in UNDEFINED.values() for word in words}
    return plain(name) if name not in known and plain(name) in known else name


def _assumptions(row: PlacedRow, hook_field: str) -> Iterator[Assumed]:
    shown = {*SAME, "kind", "steps", "hook"} - (set() if row.kind == "crosscoder" else {"axis", "n_sources", "steps"})
    for name, one in row.inferred.items():
        stated = row.said.get(name)
        if name in shown and (stated is None or stated.value != one.value):
            value = ",".join(map(str, one.value)) if isinstance(one.value, tuple) else str(one.value)
            yield Assumed(hook_field if name == "hook" else name, value, one.because)


def _edges(placement: Placement) -> Iterator[Edge]:
    sisters = placement.release.get("sister_releases")
    yield from (Edge("sister", target) for target in (sisters.value if sisters else ()))
    for row in placement.rows:
        if target := row.get("source_checkpoint"):
            yield Edge("source_checkpoint", target, row.id, row.get("source_sha256"))


def _contradicted(rows: Iterable[PlacedRow], path: str) -> Iterator[Finding]:
    """Yield what a field says and the name of its row says otherwise."""
    for row in rows:
        for fact, tokens in tokens_of(row.path).items():
            said = row.said.get(NAMED.get(fact, ""))
            if said is not None and not any(token.fits(said.value) for token in tokens):
                texts = ", ".join(token.text for token in tokens)
                yield Finding(
                    code="SR112",
                    severity="warning",
                    message=f"{row.id}: the name says {texts}, and {said.leaf.key} is {said.value}",
                    artifact=row.id,
                    path=path,
                    pointer=said.leaf.pointer,
                )


def _alike(rows: Iterable[PlacedRow], path: str) -> Iterator[Finding]:
    """Yield groups of rows with the same numbers; those that differ in the seed alone agree in few digits by nature."""
    groups: dict[tuple[tuple[str, float], ...], list[PlacedRow]] = defaultdict(list)
    for row in rows:
        if len(row.metrics) > 1 and any(abs(number.value) >= 100 for number in row.metrics):
            groups[tuple((number.name, number.value) for number in row.metrics)].append(row)
    for numbers, group in groups.items():
        if len({re.sub(r"seed[_\-=]?[0-9]+", "", row.id) for row in group}) > 1:
            shown = ", ".join(f"{name} {value:g}" for name, value in numbers)
            yield Finding(
                code="SR403",
                severity="warning",
                message=f"{len(group)} different dictionaries have the same numbers ({shown}): "
                + ", ".join(row.id for row in group[:3])
                + (" …" if len(group) > 3 else ""),
                artifact=group[0].id,
                path=path,
                pointer=group[0].pointer,
            )


def _left_over(placement: Placement, path: str) -> Iterator[Finding]:
    """Yield one note for each key that found no field: the values stay in the document, which the catalogue names."""
    found: dict[tuple[str, str], list[tuple[str, object]]] = defaultdict(list)
    for one in placement.unplaced:
        found[one.leaf.key, one.why].append((one.leaf.pointer, one.leaf.value))
    for row in placement.rows:
        for name, said in row.said.items():
            known = name in SAME or name in ELSEWHERE or (name == "status" and "canonical" in row.inferred)
            if not known and said.leaf.pointer.startswith(row.pointer):
                found[said.leaf.key, "a catalogue has no such field"].append((said.leaf.pointer, said.value))
    for (key, why), places in found.items():
        pointer, value = places[0]
        text = str(value)
        yield Finding(
            code="SR103",
            severity="note",
            message=f"{key}: {why} ({len(places)} value{'s' if len(places) > 1 else ''})",
            found=text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…",
            path=path,
            pointer=pointer,
        )

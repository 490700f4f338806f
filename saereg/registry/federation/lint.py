"""What is wrong with a registry that lists the releases of others: SR7, except what only the Hub can say (SR702)."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from saereg.errors import did_you_mean
from saereg.registry.federation.directory import Defect, Directory, ListedRelease, Row, nested_releases, rows_of
from saereg.registry.federation.loaders import NATIVE, known_loaders
from saereg.registry.federation.names import Said, layer_of, said_by, same_model, source_of
from saereg.registry.naming import Fact
from saereg.registry.validators.findings import finding
from saereg.schemas.report import Finding

DEFECTS = {"malformed": "SR714", "twice": "SR709", "unknown_key": "SR713", "nested": "SR704"}
"""Kind of defect of the file → rule."""

ANSWERED = {"variance_explained": "1.00", "l0": "0.00"}
"""Number → what `get_pretrained_saes_directory()` of SAELens 6.54.12 answers where a row has none."""

_CANONICAL = re.compile(r"(?:^|[/_\-])canonical$")

_WIDTH = re.compile(r"(?<![A-Za-z0-9])(?:width|d_?sae)[_\-=]?(?:2pow[0-9]{1,2}|[0-9]+[kKmM]?)(?![A-Za-z0-9])")
_VARIANT = re.compile(r"[_\-]affine(?![A-Za-z0-9])")
"""What tells siblings apart: their width, and whether they are affine."""

_NAMED_L0 = re.compile(r"l0[_\-=]?[0-9]")
"""An id that states its L0 as a number."""

COMPARED: dict[Fact, str] = {"layer": "layer", "width": "width", "k": "k", "seed": "seed"}
"""What an id and a path must agree on."""


def findings(directory: Directory) -> Iterator[Finding]:
    """Yield everything that is wrong with a registry and can be told from the file."""
    for check in CHECKS:
        yield from check(directory)


def _owner(release: ListedRelease, row: Row) -> str:
    return f"{release.name}:{row.id}"


def _at(directory: Directory, code: str, message: str, line: int, artifact: str | None, **more: str) -> Finding:
    return finding(code, message, path=directory.path.name, line=line or None, artifact=artifact, **more)


def _defects(directory: Directory) -> Iterator[Finding]:
    """SR709, SR713, SR714: the shape of the file."""
    yield from _of_defects(directory, directory.defects)


def _nested(directory: Directory) -> Iterator[Finding]:
    """SR704: a whole release inside a row."""
    yield from _of_defects(directory, nested_releases(directory).values())


def _of_defects(directory: Directory, defects: Iterable[Defect]) -> Iterator[Finding]:
    for defect in defects:
        known = {"expected": defect.expected, "found": defect.found}
        more = {key: value for key, value in known.items() if value is not None}
        yield _at(directory, DEFECTS[defect.kind], defect.sentence, defect.line, defect.artifact, **more)


def _ids(directory: Directory) -> Iterator[Finding]:
    """SR709: the last of two rows of one id wins."""
    for release in directory.releases:
        first: dict[str, Row] = {}
        for row in release.rows:
            if row.id in first:
                message = f"the id {row.id} of {release.name} stands twice; SAELens loads {row.path}, the last one"
                other = first[row.id]
                found = f"{other.path} in line {other.line}, {row.path} in line {row.line}"
                yield _at(directory, "SR709", message, row.line, _owner(release, row), found=found)
            first[row.id] = row


def _aliases(directory: Directory) -> Iterator[Finding]:
    """SR701: a canonical row whose file no other row lists."""
    listed: set[tuple[str, str]] = set()
    canonical: list[tuple[ListedRelease, Row]] = []
    for release in directory.seen:
        for row in release.rows:
            if _CANONICAL.search(row.id):
                canonical.append((release, row))
            else:
                listed.add((release.repo_id, row.path))
    for release, row in canonical:
        if (release.repo_id, row.path) not in listed:
            message = f"{_owner(release, row)} picks {row.path}, which no other row lists"
            yield _at(
                directory, "SR701", message, row.lines.get("path", row.line), _owner(release, row), found=row.path
            )


def _invented(directory: Directory) -> Iterator[Finding]:
    """SR703: what SAELens answers where a row says nothing."""
    for release in directory.seen:
        missing = {name: sum(name not in row.lines for row in release.rows) for name in ANSWERED}
        if not any(missing.values()):
            continue
        whole = len(release.rows)
        parts = [f"{name} is missing in {count} of {rows_of(whole)}" for name, count in missing.items() if count]
        answers = " and ".join(f"{name} {ANSWERED[name]}" for name, count in missing.items() if count)
        message = f"{release.name}: {' and '.join(parts)}; SAELens answers {answers}"
        yield _at(directory, "SR703", message, release.line, release.name)


def _neuronpedia(directory: Directory) -> Iterator[Finding]:
    """SR705: an id on Neuronpedia that is of another model, layer, site or width."""
    for release in directory.releases:
        for row in release.rows:
            if row.neuronpedia is None:
                continue
            wrong = [f"{what} {theirs}, not {ours}" for what, ours, theirs in _differing(release, row, row.neuronpedia)]
            if wrong:
                message = f"{row.neuronpedia} is no id of {_owner(release, row)}: {'; '.join(wrong)}"
                line = row.lines.get("neuronpedia", row.line)
                yield _at(directory, "SR705", message, line, _owner(release, row), found=row.neuronpedia)


def _differing(release: ListedRelease, row: Row, neuronpedia: str) -> Iterator[tuple[str, str, str]]:
    """Yield what a row and its id on Neuronpedia say differently: what, ours, theirs."""
    source = source_of(neuronpedia)
    if source is None:
        return
    if release.model and not same_model(release.model, source.model):
        yield "model", release.model, source.model
    for name in (row.id, row.path):
        said = said_by(name)
        layer, width = layer_of(said), said.one("width")
        if layer is not None and source.layer is not None and source.layer not in (layer, _input_of(release, said)):
            yield "layer", f"{layer} ({name})", str(source.layer)
        if said.stream is not None and source.stream is not None and said.stream != source.stream:
            yield "site", f"{said.stream} ({name})", source.stream
        if width is not None and source.width is not None and not width.meets(source.width):
            yield "width", f"{width.text} ({name})", source.width.text.removeprefix("width_")
        if layer is not None:
            return  # id and path saying the same is no second contradiction; where they differ, SR710 says so


def _input_of(release: ListedRelease, said: Said) -> int | None:
    """Return the layer of which the output of a row is the input, where the release counts by inputs otherwise.

    The last row of such a release is the output of the last layer, 11, and Neuronpedia counts on: 12.
    """
    layer = layer_of(said)
    if layer is None or not (said.hook_name or "").endswith("hook_resid_post"):
        return None
    return layer + 1 if any("hook_resid_pre" in row.id for row in release.rows) else None


def _impossible(directory: Directory) -> Iterator[Finding]:
    """SR706: an explained variance outside 0 to 1, an L0 or scale that is not positive."""
    for release in directory.releases:
        for row in release.rows:
            for name, most in (("variance_explained", 1.0), ("l0", None), ("norm_scaling_factor", None)):
                value = getattr(row, name)
                if value is None or (value > 0 and (most is None or value <= most)):
                    continue
                expected = f"above 0{f', at most {most:g}' if most else ''}"
                message = f"{name} of {_owner(release, row)} is {value:g}"
                line = row.lines.get(name, row.line)
                yield _at(
                    directory, "SR706", message, line, _owner(release, row), expected=expected, found=f"{value:g}"
                )


def _twice(directory: Directory) -> Iterator[Finding]:
    """SR707, SR715: one file under two names, or of two models."""
    first: dict[tuple[str, str], tuple[ListedRelease, Row]] = {}
    models: dict[tuple[str, str], list[tuple[ListedRelease, Row]]] = defaultdict(list)
    for release in directory.seen:
        for row in release.rows:
            other, before = first.setdefault((release.repo_id, row.path), (release, row))
            if before is row:
                continue
            message = f"{_owner(release, row)} and {_owner(other, before)} are the same file, {row.path}"
            line = row.lines.get("path", row.line)
            yield _at(directory, "SR707", message, line, _owner(release, row), found=f"also in line {before.line}")
            if release.model and other.model and not same_model(release.model, other.model):
                models[other.name, release.name].append((release, row))
    models_of = {release.name: release for release in directory.seen}
    for (one, two), rows in models.items():
        release, other = rows[0][0], models_of[one]
        what = f"{rows_of(len(rows))} of {release.repo_id}"
        message = f"{what}: of {other.model} in {one}, of {release.model} in {two}"
        yield _at(directory, "SR715", message, other.line, one, expected=release.model, found=other.model)


def _targets(directory: Directory) -> Iterator[Finding]:
    """SR708: one L0 for all widths."""
    for release in directory.seen:
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in release.rows:
            if row.l0 is not None:
                groups[_WIDTH.sub("width_*", _VARIANT.sub("", row.id))].append(row)
        for name, rows in groups.items():
            if len({row.id for row in rows}) < 2 or len({row.l0 for row in rows}) > 1 or _names_l0(rows[0]):
                continue
            message = f"{len(rows)} rows {name} of {release.name} share l0 {rows[0].l0:g}: a target, not a measurement"
            found = ", ".join(row.id for row in rows[:6]) + (", …" if len(rows) > 6 else "")
            line = rows[0].lines.get("l0", rows[0].line)
            yield _at(directory, "SR708", message, line, f"{release.name}:{name}", found=found)


def _names_l0(row: Row) -> bool:
    return bool(_NAMED_L0.search(row.id)) or bool(said_by(row.id).tokens.get("k"))


def _contradictions(directory: Directory) -> Iterator[Finding]:
    """SR710: id and path of a row."""
    for release in directory.releases:
        for row in release.rows:
            if row.id == row.path:
                continue
            ours, theirs = said_by(row.id), said_by(row.path)
            wrong = []
            for fact, what in COMPARED.items():
                one, two = ours.one(fact), theirs.one(fact)
                if one is not None and two is not None and not one.meets(two):
                    wrong.append(f"{what}: {one.text} in the id, {two.text} in the path")
            if ours.stream and theirs.stream and ours.stream != theirs.stream:
                wrong.append(f"site: {ours.stream} in the id, {theirs.stream} in the path")
            if wrong:
                message = f"id and path of {_owner(release, row)} contradict each other: {'; '.join(wrong)}"
                line = row.lines.get("path", row.line)
                yield _at(directory, "SR710", message, line, _owner(release, row), found=row.path)


def _loaders(directory: Directory) -> Iterator[Finding]:
    """SR711: a conversion function that SAELens has not."""
    known = known_loaders()
    for release in directory.seen:
        name = release.conversion_func
        if name is None or name in known:
            continue
        guess = did_you_mean(name, known)
        message = f"{release.name} has the conversion function {name}, which SAELens does not know"
        expected = guess or ", ".join(sorted(known - {NATIVE}))
        yield _at(directory, "SR711", message, release.line, release.name, expected=expected, found=name)


def _models(directory: Directory) -> Iterator[Finding]:
    """SR712: repositories and names of TransformerLens side by side."""
    counts = Counter(release.model for release in directory.seen if release.model)
    owned = sorted(name for name in counts if "/" in name)
    plain = sorted(name for name in counts if "/" not in name)
    if owned and plain:
        message = (
            f"{len(owned)} of {len(counts)} models are named by repository ({owned[0]}), "
            f"{len(plain)} by a name of TransformerLens ({plain[0]})"
        )
        first = next(release for release in directory.seen if release.model == plain[0])
        yield _at(directory, "SR712", message, first.line, None, found=", ".join(plain))


CHECKS: tuple[Callable[[Directory], Iterator[Finding]], ...] = (
    _defects,
    _ids,
    _aliases,
    _invented,
    _nested,
    _neuronpedia,
    _impossible,
    _twice,
    _targets,
    _contradictions,
    _loaders,
    _models,
)
"""All of them."""

"""`citation`, `sisters` and `licences`: whose this is, what belongs to it, and what may be done with it."""

import re

from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.licenses import hub_license
from saereg.registry.cards.marking import ABSENT, code, fenced, joined, link, text
from saereg.registry.cards.view import Values, View, is_address

MOST_ROWS = 200
"""Rows of a table, and references that are listed."""

OPEN = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "odc-by", "pddl", "unlicense", "isc"}
)
"""Licences that ask for no more than to be named."""

_HUB = re.compile(r"hf://([\w][\w.-]*/[\w][\w.-]*)(?:@([^:/\s]+))?(?:[:/].*)?$")
_KEY = re.compile(r"[^A-Za-z0-9]+")


def citation(view: View) -> Values | None:
    """Return what to cite: the author's BibTeX, or an entry of what the manifest says; None where it names nobody."""
    release = view.manifest.release
    if release.citation and release.citation.strip():
        return {"bibtex": fenced(release.citation.strip(), "bibtex"), "own": True}
    if not release.authors:
        return None
    names = " and ".join(_braced(name) for name in release.authors)
    entry = [
        f"@misc{{{_KEY.sub('-', release.name).strip('-').lower()},",
        f"  title = {{{_braced(release.title)}}},",
        f"  author = {{{names}}},",
        f"  note = {{Version {release.version}}},",
        "}",
    ]
    return {"bibtex": fenced("\n".join(entry), "bibtex"), "own": False}


def _braced(value: str) -> str:
    """Return a text that closes no brace of BibTeX and opens none."""
    return re.sub(r"[{}\\]", "", " ".join(value.split()))


def reference(name: str) -> str:
    """Return a reference as a link where it leads somewhere, in Markdown."""
    if found := _HUB.match(name):
        tree = f"/tree/{found[2]}" if found[2] else ""
        return link(code(name), f"https://huggingface.co/{found[1]}{tree}")
    return link(text(name), name) if is_address(name) else code(name)


def sisters(view: View) -> Values | None:
    """Return releases of the family and those that this one came from; None where there are none."""
    release = view.manifest.release
    sources = dict.fromkeys(name for claim in view.claims for name in claim.derived_from)
    if not (release.sister_releases or release.derived_from or sources):
        return None
    return {
        "sisters": [reference(name) for name in release.sister_releases[:MOST_ROWS]],
        "derived_from": [reference(name) for name in release.derived_from[:MOST_ROWS]],
        "dictionaries": [reference(name) for name in list(sources)[:MOST_ROWS]],
    }


def licences(view: View) -> Values:
    """Return the chain of licences."""
    manifest = view.manifest
    rows = [["this release", code(manifest.release.name), text(manifest.release.license)]]
    for model in _once(manifest.base_models.values()):
        rows.append(["base model", _model(model[0]), text(model[1]) if model[1] else "not said"])
    for data in _once(manifest.datasets.values()):
        rows.append(["data set", code(data[0]), text(data[1]) if data[1] else "not said"])
    binding = [m for m in _once(manifest.base_models.values()) if m[1] and hub_license(m[1]) not in OPEN]
    unsaid = [m for m in _once(manifest.base_models.values()) if not m[1]]
    return {
        "chain": {"header": ["what", "name", "licence"], "rows": rows[:MOST_ROWS]},
        "licence": text(manifest.release.license),
        "binding": [{"model": code(name), "licence": text(licence)} for name, licence in binding],
        "unsaid": joined([code(name) for name, _ in unsaid[:5]]) or None,
        "texts": [
            reference_or_absent(name)
            for name, licence in _once(manifest.datasets.values())
            if licence and hub_license(licence) not in OPEN
        ],
    }


def reference_or_absent(name: str) -> str:
    """Return a name as code, or the mark of what is absent."""
    return code(name) if name else ABSENT


def _once(found: object) -> list[tuple[str, str | None]]:
    """Return (id, licence) of each, those of several snapshots of one model once."""
    return list(dict.fromkeys((one.id, one.license) for one in found))  # type: ignore[attr-defined]


def _model(name: str) -> str:
    return link(code(name), f"https://huggingface.co/{name}") if is_hub_id(name) else code(name)

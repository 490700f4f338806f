"""A first card for a release that has none: the author adds to it, saereg keeps its generated parts up to date."""

import json
from pathlib import Path

from saereg.registry.cards.blocks import BLOCKS, replaced, tidy
from saereg.registry.cards.card import Card
from saereg.registry.cards.front_fence import with_fence
from saereg.registry.cards.front_matter import expected
from saereg.registry.cards.marking import prose, text
from saereg.registry.cards.parts.inventory import content_of
from saereg.registry.cards.templating import has_own, rendered
from saereg.registry.cards.view import View
from saereg.registry.cards.withdrawn import PART as WITHDRAWN
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

MARKER_FILE = "config.json"
"""File at the root whose downloads the Hub counts."""

QUERY_FILES = frozenset({"config.json", "config.yaml", "hyperparams.yaml", "params.json", "meta.yaml"})
"""Files at the root by whose downloads the Hub counts those of a repository whose library has no rule of its own."""

TEMPLATE = "card.md.j2"
"""File of the template of a first card."""


def first_card(manifest: Manifest, index: Index, templates: Path | None = None) -> str:
    """Return a card that says what the manifest and the index say.

    Args:
        manifest: the claims.
        index: the evidence.
        templates: folder of the user's own templates.

    Raises:
        UsageError: when a template of the user fails.
    """
    return replaced(skeleton(View(manifest, index), templates), manifest, index, templates=templates)


def skeleton(view: View, templates: Path | None = None) -> str:
    """Return a card whose generated parts are still empty; its front matter is complete.

    A template of a user that writes a front matter of its own keeps it; keys that it lacks are added beside.
    """
    manifest = view.manifest
    release = manifest.release
    values: dict[str, object] = {
        "title": text(release.title),
        "description": prose(release.description) if release.description else None,
        "sentence": content_of(manifest),
        "version": release.version,
        "authors": [text(name) for name in release.authors],
        "parts": [name for name in BLOCKS if name != WITHDRAWN],
    }
    if not has_own(TEMPLATE, templates):
        return with_fence(tidy(rendered(TEMPLATE, **values)) + "\n", view)
    body = tidy(rendered(TEMPLATE, templates, manifest=manifest, index=view.index, **values)) + "\n"
    return body if Card(body).front_matter.present else with_fence(body, view)


def marker(manifest: Manifest) -> str:
    """Return the text of the file by which downloads are counted."""
    values = {"library_name": expected(manifest).library_name or "saereg", "manifest": "manifest.json"}
    return json.dumps(values) + "\n"

"""Every kind of change: which version it demands, and why; in which part of a changelog it stands."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from saereg.schemas.difference import Change, ChangeKind, Level, Value
from saereg.schemas.index import Role

LEVELS: tuple[Level, ...] = ("none", "patch", "minor", "major")
"""The least first."""

Group = Literal["Added", "Changed", "Deprecated", "Removed", "Fixed"]
"""Parts of a section, as keepachangelog.com (1.1.0) has them."""

GROUPS: tuple[Group, ...] = ("Added", "Changed", "Deprecated", "Removed", "Fixed")
"""In the order in which they are printed."""


@dataclass(frozen=True)
class Rule:
    """What is to say of a kind of change.

    Attributes:
        level: what it demands of the version.
        words: what it is, in a few words.
        why: why it demands this.
        group: part of the changelog that it stands in; None: in none.
        grave: whether a reader should see it before all others.
    """

    level: Level
    words: str
    why: str
    group: Group | None = "Changed"
    grave: bool = False


_WORDS = "words about dictionaries that are what they were"
_SOUGHT = "a query by it finds other artifacts"
_DOCUMENT = "it is read by people; no dictionary depends on it"
_EVIDENCE = "it says how well the same is known, not what it is"

RULES: dict[ChangeKind, Rule] = {
    "artifact_added": Rule("minor", "added", "everything that was there is there", "Added"),
    "artifact_removed": Rule("major", "removed", "references to it lead nowhere", "Removed"),
    "artifact_renamed": Rule("major", "renamed", "references to its old id lead nowhere"),
    "artifact_moved": Rule("major", "moved to another folder", "loaders that name its folder do not find it"),
    "weights_changed": Rule("major", "weights changed", "the same id gives another dictionary", grave=True),
    "tensor_changed": Rule("major", "tensor changed", "the same id gives another dictionary"),
    "semantics_changed": Rule("major", "semantics changed", "the same tensors mean another function", grave=True),
    "identity_changed": Rule("major", "identity changed", "the same id gives another kind of dictionary", grave=True),
    "site_changed": Rule("major", "site changed", "it is to be used at another place of the model", grave=True),
    "loaded_file_moved": Rule("major", "file moved", "loaders that name the file do not find it"),
    "config_changed": Rule("minor", "configuration changed", "readers of cfg.json see other values"),
    "file_added": Rule("minor", "file added", "everything that was there is there", "Added"),
    "file_removed": Rule("minor", "file removed", "no dictionary needs it, but somebody may read it", "Removed"),
    "file_changed": Rule("minor", "file changed", "no dictionary needs it, but somebody may read it"),
    "file_moved": Rule("minor", "file moved", "no dictionary needs it, but somebody may read it"),
    "document_added": Rule("patch", "file added", _DOCUMENT, "Added"),
    "document_removed": Rule("patch", "file removed", _DOCUMENT, "Removed"),
    "document_changed": Rule("patch", "file changed", _DOCUMENT),
    "document_moved": Rule("patch", "file moved", _DOCUMENT),
    "role_changed": Rule("patch", "role of a file changed", "its bytes are the same"),
    "label_changed": Rule("minor", "description changed", _SOUGHT),
    "canonical_set": Rule("minor", "became canonical", "what `canonical` gives is another artifact; no id changed"),
    "canonical_unset": Rule(
        "minor", "is canonical no more", "what `canonical` gives is another artifact; no id changed"
    ),
    "facts_changed": Rule("patch", "facts changed", _WORDS),
    "assumption_added": Rule("patch", "assumption added", _EVIDENCE),
    "assumption_removed": Rule("patch", "assumption gone", _EVIDENCE, "Fixed"),
    "assumption_changed": Rule("patch", "assumption changed", _EVIDENCE),
    "claim_added": Rule("patch", "claim added", _WORDS, "Added"),
    "claim_removed": Rule("patch", "claim removed", _WORDS, "Removed"),
    "claim_changed": Rule("patch", "claim changed", _WORDS),
    "verdict_worse": Rule("patch", "claim borne out no more", _EVIDENCE, grave=True),
    "verdict_better": Rule("patch", "claim borne out better", _EVIDENCE, "Fixed"),
    "verdict_changed": Rule("patch", "verdict changed", _EVIDENCE),
    "metric_added": Rule("minor", "measured", "everything that was there is there", "Added"),
    "metric_removed": Rule("minor", "measured no more", _SOUGHT, "Removed"),
    "metric_drift": Rule("minor", "metric drifted", _SOUGHT, grave=True),
    "metric_repeated": Rule("patch", "measured again, within tolerance", _EVIDENCE, None),
    "metric_other_rows": Rule("minor", "not comparable: measured on other rows", _SOUGHT),
    "proof_added": Rule("patch", "proof added", _EVIDENCE, "Added"),
    "proof_removed": Rule("patch", "proof removed", _EVIDENCE, "Removed"),
    "proof_worse": Rule("patch", "proof fails", _EVIDENCE, grave=True),
    "proof_better": Rule("patch", "proof holds now", _EVIDENCE, "Fixed"),
    "proof_changed": Rule("patch", "proof changed", _EVIDENCE, None),
    "evidence_added": Rule("patch", "evidence added", _EVIDENCE, "Added"),
    "evidence_removed": Rule("patch", "evidence removed", _EVIDENCE, "Removed"),
    "evidence_rebuilt": Rule("patch", "evidence rebuilt by other software", _EVIDENCE, None),
    "release_renamed": Rule("major", "release renamed", "references to its old name lead nowhere"),
    "release_changed": Rule("patch", "release described otherwise", _WORDS),
    "license_narrowed": Rule("major", "licence narrowed", "what was allowed is not any more", grave=True),
    "license_eased": Rule("minor", "licence eased", "all that was allowed is allowed"),
    "license_replaced": Rule(
        "minor", "licence replaced by one that forbids as much", "all that was allowed is allowed, by other words"
    ),
    "license_changed": Rule(
        "major", "licence changed", "nobody knows whether all that was allowed still is", grave=True
    ),
    "definition_added": Rule("minor", "definition added", "everything that was there is there", "Added"),
    "definition_removed": Rule("minor", "definition removed", _SOUGHT, "Removed"),
    "definition_changed": Rule("minor", "definition changed", _SOUGHT),
    "withdrawal_added": Rule("patch", "withdrawn", "a mark; nothing is deleted", "Deprecated", grave=True),
    "withdrawal_removed": Rule("patch", "withdrawn no more", "a mark; nothing is deleted"),
    "withdrawal_changed": Rule("patch", "withdrawn otherwise", "a mark; nothing is deleted", "Deprecated"),
}
"""Kind of change → what is to say of it; `docs/differences.md` holds the same table, and a test compares the two."""

Class = Literal["weights", "config", "data", "document"]
"""What depends on a file: loaders, readers of configurations, somebody perhaps, nobody."""

CLASSES: tuple[Class, ...] = ("document", "data", "config", "weights")
"""The gravest last."""

ROLES: dict[Role, Class] = {
    "weights": "weights",
    "config": "config",
    "evaluation": "data",
    "other": "data",
    "golden": "document",
    "card": "document",
    "log": "document",
    "sparsity": "document",
    "conversion": "document",
    "analysis": "document",
    "figure": "document",
    "features": "document",
}
"""Role of a file → what depends on it."""

Event = Literal["added", "removed", "changed", "moved"]
"""What can happen to a file."""

FILES: dict[tuple[Class, Event], ChangeKind] = {
    ("weights", "added"): "weights_changed",
    ("weights", "removed"): "weights_changed",
    ("weights", "changed"): "weights_changed",
    ("weights", "moved"): "loaded_file_moved",
    ("config", "added"): "config_changed",
    ("config", "removed"): "config_changed",
    ("config", "changed"): "config_changed",
    ("config", "moved"): "loaded_file_moved",
    ("data", "added"): "file_added",
    ("data", "removed"): "file_removed",
    ("data", "changed"): "file_changed",
    ("data", "moved"): "file_moved",
    ("document", "added"): "document_added",
    ("document", "removed"): "document_removed",
    ("document", "changed"): "document_changed",
    ("document", "moved"): "document_moved",
}
"""What depends on a file, and what happened to it → kind of change."""

IDENTITY = frozenset(
    {"kind", "architecture", "format", "d_in", "d_out", "d_sae", "tied", "sources.axis", "sources.steps"}
)
"""Fields of an artifact that say what kind of dictionary it is."""

LABELS = ("sparsity", "seed", "snapshot", "variant", "decoder_norm", "neuronpedia_id")
"""Fields of an artifact by which it is looked for, and what stands below them; all others are facts about it."""

IN_WORDS = frozenset({"reason", "license", "n_layers", "context_size", "schedule"})
"""Fields of definitions that change no row of data and no place in a model."""

_NAME, _CLOSED, _COMMERCE = "leaving out the name", "closed derivatives", "commerce"

_FORBIDS: dict[str, frozenset[str]] = {
    name: frozenset(forbidden)
    for names, forbidden in (
        (("cc0-1.0", "unlicense", "pddl", "pddl-1.0", "wtfpl", "0bsd"), ()),
        (("mit", "isc", "bsd-2-clause", "bsd-3-clause", "bsd", "zlib", "ncsa", "postgresql", "bsl-1.0"), (_NAME,)),
        (("apache-2.0", "cc-by-4.0", "cc-by-3.0", "odc-by", "odc-by-1.0", "cdla-permissive-2.0"), (_NAME,)),
        (("cc-by-sa-4.0", "cc-by-sa-3.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"), (_NAME, _CLOSED)),
        (("mpl-2.0", "odbl", "odbl-1.0", "cdla-sharing-1.0", "lgpl-2.1", "eupl-1.2", "epl-2.0"), (_NAME, _CLOSED)),
        (("cc-by-nc-4.0", "cc-by-nc-3.0", "cc-by-nc-2.0"), (_NAME, _COMMERCE)),
        (("cc-by-nc-sa-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-2.0"), (_NAME, _CLOSED, _COMMERCE)),
        (("cc-by-nc-nd-4.0", "cc-by-nc-nd-3.0"), (_NAME, _CLOSED, _COMMERCE, "derivatives")),
    )
    for name in names
}
"""Licence → what it forbids."""


def license_change(old: str, new: str) -> ChangeKind:
    """Return which kind of change a change of the licence is.

    Share-alike licences that forbid the same still exclude each other: what was built together with a work under the
    one may not be under the other, so nobody can judge that change.
    """
    if old.strip().lower() == new.strip().lower():
        return "release_changed"
    before, after = (_FORBIDS.get(_plain(name)) for name in (old, new))
    if before is None or after is None:
        return "license_changed"
    if before == after:
        return "license_changed" if _CLOSED in before else "license_replaced"
    return "license_eased" if after < before else "license_narrowed"


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix("-only").removesuffix("-or-later")


def change(kind: ChangeKind, where: str, old: Value = None, new: Value = None, note: str | None = None) -> Change:
    """Return a change with the level of its kind."""
    return Change(kind=kind, level=RULES[kind].level, where=where, old=old, new=new, note=note)


def highest(kinds: Collection[ChangeKind]) -> Level:
    """Return the highest level of some kinds; of more kinds it is never lower."""
    return max((RULES[kind].level for kind in kinds), key=LEVELS.index, default="none")

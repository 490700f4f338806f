"""Fixes inside manifest.json and cfg.json: the text around the change stays as its author wrote it."""

from collections.abc import Iterator

from saereg.registry.files.natural import natural_key
from saereg.registry.fixing.draft import Draft, Edit
from saereg.registry.release import MANIFEST_FILE
from saereg.registry.validators.checks.naming import misordered
from saereg.schemas import jsontext
from saereg.schemas.jsonedit import inserted, renamed, reordered, replaced, sorted_keys
from saereg.schemas.report import Finding

PRINTED_DIGITS = 4
"""Significant digits of a measured number that takes the place of a wrong claim."""


def misspelt_key(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR103: a key gets the name that was meant."""
    text = draft.text(finding.path or "")
    if text is not None and finding.path and finding.pointer and finding.expected:
        yield Edit(finding.path, renamed(text, finding.pointer, finding.expected))


def schema_url(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR105: `$schema` names the schema of this version."""
    text, value = draft.text(MANIFEST_FILE), draft.value(MANIFEST_FILE)
    if text is not None and isinstance(value, dict) and finding.expected:
        change = replaced if "$schema" in value else inserted
        yield Edit(MANIFEST_FILE, change(text, "/$schema", finding.expected))


def key_order(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR106: the keys of every object stand in order."""
    text = draft.text(finding.path or "")
    if text is not None and finding.path and draft.value(finding.path) is not None:
        yield Edit(finding.path, sorted_keys(text))


def artifact_order(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR114: artifacts stand in natural order."""
    text, value = draft.text(MANIFEST_FILE), draft.value(MANIFEST_FILE)
    artifacts = value.get("artifacts") if isinstance(value, dict) else None
    if text is None or not isinstance(artifacts, list) or not all(isinstance(a, dict) and "id" in a for a in artifacts):
        return
    names, order = [str(artifact["id"]) for artifact in artifacts], list(range(len(artifacts)))
    for run, _ in misordered(names):
        order[run.start : run.stop] = sorted(run, key=lambda i: natural_key(names[i]))
    yield Edit(MANIFEST_FILE, reordered(text, "/artifacts", order))


def declared_type(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR204: cfg.json declares the type that the tensors have."""
    path = f"{(finding.path or '').rpartition('/')[0]}/cfg.json"
    text, value = draft.text(path), draft.value(path)
    if text is not None and isinstance(value, dict) and "dtype" in value and finding.found:
        yield Edit(path, replaced(text, "/dtype", finding.found))


def stated_as_configured(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR215: the manifest says what cfg.json says, for a name or a number."""
    text = draft.text(MANIFEST_FILE)
    if text is None or not finding.pointer or not finding.expected:
        return
    old = _at(draft.value(MANIFEST_FILE), finding.pointer)
    if isinstance(old, str):
        yield Edit(MANIFEST_FILE, replaced(text, finding.pointer, finding.expected))
    elif isinstance(old, int | float) and not isinstance(old, bool):
        number = float(finding.expected)
        yield Edit(MANIFEST_FILE, replaced(text, finding.pointer, number if isinstance(old, float) else int(number)))


def measured_claim(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR411, SR412, SR414: the claim states the measured number."""
    text = draft.text(MANIFEST_FILE)
    if text is None or not finding.pointer or not finding.expected:
        return
    if isinstance(_at(draft.value(MANIFEST_FILE), finding.pointer), int | float):
        number = float(f"{float(finding.expected):.{PRINTED_DIGITS}g}")
        yield Edit(MANIFEST_FILE, replaced(text, finding.pointer, number))


def followed_definition(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR418: the claim names the definition, batch size and units that give its number."""
    text = draft.text(MANIFEST_FILE)
    if text is None or not finding.pointer or not finding.expected:
        return
    claim = _at(draft.value(MANIFEST_FILE), finding.pointer)
    change = jsontext.parse(finding.expected)
    if isinstance(claim, dict) and isinstance(change, dict):
        for key, value in change.items():
            text = (replaced if key in claim else inserted)(text, f"{finding.pointer}/{key}", value)
        yield Edit(MANIFEST_FILE, text)


def _at(value: jsontext.JsonValue, pointer: str) -> jsontext.JsonValue:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value

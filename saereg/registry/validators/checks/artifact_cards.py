"""SR5: the cards of single artifacts against the manifest and the index."""

from collections.abc import Iterator

from saereg import __version__
from saereg.registry.cards.artifact_card import (
    ARTIFACT,
    generated,
    parts_of,
    withdrawn_text,
)
from saereg.registry.cards.blocks import Part
from saereg.registry.cards.card import MAX_CARD_BYTES, Card
from saereg.registry.cards.withdrawn import PART as WITHDRAWN
from saereg.registry.features.shipped import view_in
from saereg.registry.files.names import ARTIFACT_CARD_FILE, FEATURES_FILE
from saereg.registry.validators.subject import ArtifactSubject
from saereg.schemas.report import Finding

HINT = "run saereg validate --fix"


def artifact_card_current(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR514: the generated part of an artifact's card is up to date, and what is withdrawn has its warning."""
    path, release = f"{artifact.claim.path}/{ARTIFACT_CARD_FILE}", artifact.release
    text = release.read_text(path, MAX_CARD_BYTES)[0]
    if text is None or "saereg:" not in text:
        return
    card = Card(text)
    parts, problems = parts_of(card)
    for problem in problems:
        yield artifact.finding("SR514", problem.sentence, path=path, line=problem.line)
    if release.manifest is None or not parts:
        return
    told = withdrawn_text(artifact.claim, release.manifest)
    warned = [part for part in parts if part.name == WITHDRAWN]
    if (told and not warned) or any(part.text != told for part in warned):
        message = "the card does not say that the artifact is withdrawn, as the manifest has it"
        message = message if told else "the card says that the artifact is withdrawn, and the manifest does not"
        line = warned[0].line if warned else 1
        yield artifact.finding("SR514", message, path=path, line=line, fixable="safe", hint=HINT)
    for part in parts:
        if part.name == ARTIFACT and not part.custom and (wrong := _stale(part, artifact)) is not None:
            message = "the generated part is not what manifest and index say now"
            yield artifact.finding("SR514", message, path=path, line=wrong, fixable="safe", hint=HINT)


def _stale(part: Part, artifact: ArtifactSubject) -> int | None:
    """Return the first line of the card that is out of date; None where none is, or nobody here can tell."""
    release, evidence = artifact.release, artifact.evidence
    index = release.index
    if release.manifest is None or index is None or evidence is None:
        return None
    if index.generated_by.get("saereg") != __version__:  # whose templates may say the same in other words
        return None
    features = f"{artifact.claim.path}/{FEATURES_FILE}"
    if features in release.indexed and features not in release.files:
        return None  # it is not at hand
    view = view_in(release.read_text(features)[0], artifact.claim.id, evidence)
    fresh = generated(artifact.claim, release.manifest, evidence, view)
    if part.text == fresh:
        return None
    pairs = enumerate(zip(part.text.split("\n"), fresh.split("\n"), strict=False), part.line + 2)
    return next((line for line, (one, other) in pairs if one != other), part.line)

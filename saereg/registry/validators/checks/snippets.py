"""SR5: the Python blocks of a card, parsed by every run and run only where the user asks for it."""

from collections.abc import Iterator

from saereg.registry.cards.card import CARD_FILE
from saereg.registry.cards.snippets import snippets_of
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.report import Finding, Skipped


def snippets_parse(release: ReleaseSubject) -> Iterator[Finding]:
    """SR506: every Python block of the card can be compiled."""
    for snippet in snippets_of(release.card) if release.card else ():
        if snippet.problem is not None:
            message = f"Python block {snippet.number} of the card is not Python: {snippet.problem}"
            yield finding("SR506", message, path=CARD_FILE, line=snippet.problem_line, found=snippet.problem)


def snippets_run(release: ReleaseSubject) -> Iterator[Finding]:
    """SR506: every Python block of the card runs against the release."""
    from saereg.registry.cards.snippet_run import run_snippets
    from saereg.registry.cards.snippet_stage import Known

    if not release.options.run_snippets or release.card is None or release.manifest is None:
        return
    snippets = snippets_of(release.card)
    manifest = release.manifest
    foreign = {model.id for model in manifest.base_models.values()} | {d.id for d in manifest.datasets.values()}
    inner = [name for artifact in manifest.artifacts for name in (artifact.id, artifact.path)]
    known = Known(manifest.release.name, frozenset(foreign), frozenset(inner))
    outcome = run_snippets(release.root, snippets, known)
    lines = {snippet.number: snippet.line + 1 for snippet in snippets}
    for number, why in sorted(outcome.skipped.items()):
        reason = f"Python block {number} of {CARD_FILE} (line {lines[number]}): {why}"
        release.skipped.append(Skipped(check="snippets_run", reason=reason))
    for failure in outcome.failures:
        message = f"Python block {failure.number} of the card does not run: {failure.what}"
        yield finding("SR506", message, path=CARD_FILE, line=failure.line, found=failure.what)
    for path in outcome.changed:
        message = f"the Python blocks of the card change {path} of the release"
        yield finding("SR506", message, path=CARD_FILE, found=path)

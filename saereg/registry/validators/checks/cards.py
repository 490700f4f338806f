"""SR5: the front matter of the card, by which the Hub files a release, and whether its downloads are counted."""

from collections.abc import Iterator

from saereg.registry.cards.card import CARD_FILE, MAX_CARD_BYTES, Card
from saereg.registry.cards.front_matter import RELATION, Expected, expected, is_hub_id
from saereg.registry.cards.licenses import HUB_LICENSES, hub_license
from saereg.registry.cards.skeleton import QUERY_FILES
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.report import Finding

_LIBRARIES = """
adapter-transformers diffusers fastai flair keras open_clip peft pyannote-audio sentence-transformers setfit
sklearn spacy stable-baselines3 tf-keras timm transformers transformers.js ultralytics
"""

FOREIGN_LIBRARIES = frozenset(_LIBRARIES.split())
"""Libraries for which the Hub shows a snippet of code that cannot open a dictionary."""


def card_present(release: ReleaseSubject) -> Iterator[Finding]:
    """SR500: there is a README.md at the root."""
    if CARD_FILE in release.files or CARD_FILE in release.indexed:
        return
    other = next((path for path in release.files if path.casefold() == CARD_FILE.casefold()), None)
    more = f"; {other} is not read by the Hub" if other else ""
    yield finding("SR500", f"there is no {CARD_FILE}{more}", path=CARD_FILE, fixable=None if other else "safe")


def downloads_counted(release: ReleaseSubject) -> Iterator[Finding]:
    """SR505: there is a file at the root by whose downloads the Hub counts."""
    if not QUERY_FILES & release.files.keys() and not QUERY_FILES & release.indexed:
        message = "the Hub will count no downloads: there is no config.json at the root"
        yield finding("SR505", message, path="config.json", expected="config.json")


def front_matter_read(release: ReleaseSubject) -> Iterator[Finding]:
    """SR512: the front matter of the card can be read."""
    for problem in release.read_text(CARD_FILE, MAX_CARD_BYTES)[1]:
        if "byte order mark" in problem.sentence:
            yield finding("SR512", f"{CARD_FILE} starts with a UTF-8 byte order mark", path=CARD_FILE, line=1)
        elif "UTF-8" not in problem.sentence:  # which SR507 tells of; a card that nobody reads has no other finding
            hint = problem.hint or "Shorten the card, or move parts of it to files that it links to."
            yield finding("SR512", f"{CARD_FILE}: {problem.sentence}", path=CARD_FILE, hint=hint)
    for wrong in release.card.front_matter.problems if release.card else ():
        yield finding("SR512", wrong.sentence, path=CARD_FILE, line=wrong.line)


def front_matter_fits(release: ReleaseSubject) -> Iterator[Finding]:
    """SR501 to SR504: library, licence, base models and data sets on the card are those of the manifest."""
    card, manifest = release.card, release.manifest
    if card is None or manifest is None or card.front_matter.problems:
        return
    wanted = expected(manifest)
    yield from _library(card, wanted)
    yield from _license(card, wanted)
    yield from _base_models(card, wanted)
    yield from _datasets(card, wanted)


def _at(code: str, card: Card, key: str, message: str, **more: object) -> Finding:
    return finding(code, message, path=CARD_FILE, line=card.front_matter.line(key), **more)


def _library(card: Card, wanted: Expected) -> Iterator[Finding]:
    found, name = card.front_matter.texts("library_name"), wanted.library_name
    wrong = FOREIGN_LIBRARIES | {"saelens"}
    if name is None:
        return
    if not found:
        message = f"`library_name` is missing; {name} opens every artifact of this release"
        yield _at("SR501", card, "library_name", message, expected=name, fixable="safe")
    elif found[0] not in (name, "saereg") and (name == "saelens" or found[0].lower() in wrong):
        why = "SAELens opens all of them" if name == "saelens" else f"{found[0]} cannot open all"
        message = f"`library_name` is {found[0]!r}, but of these artifacts {why}"
        yield _at("SR501", card, "library_name", message, expected=name, found=found[0], fixable="unsafe")


def _license(card: Card, wanted: Expected) -> Iterator[Finding]:
    head = card.front_matter
    found = head.texts("license")
    if not found:
        message = f"`license` is missing; the manifest says {wanted.license_name}"
        yield _at("SR502", card, "license", message, expected=wanted.license or "other", fixable="safe")
        return
    unknown = [name for name in found if name not in HUB_LICENSES]
    if unknown and hub_license(unknown[0]) is None:
        message = f"`license` is {unknown[0]!r}, which is not on the Hub's list"
        yield _at("SR502", card, "license", message, expected="other, with license_name", found=unknown[0])
        return
    if unknown:
        small = hub_license(unknown[0])
        message = f"`license` is {unknown[0]!r}; the Hub writes it {small}"
        yield _at("SR502", card, "license", message, expected=small, found=unknown[0], fixable="unsafe")
    if not _same_license(card, wanted):
        stated = ", ".join([*found, *head.texts("license_name")])
        message = f"the card says {stated}, the manifest {wanted.license_name}"
        raw = _at("SR502", card, "license", message, expected=wanted.license_name, found=stated)
        yield raw.model_copy(update={"severity": "error"})
    missing = [key for key in ("license_name", "license_link") if not head.texts(key)]
    if "other" in found and missing:
        message = f"`license` is other, and {' and '.join(f'`{key}`' for key in missing)} missing"
        yield _at("SR502", card, "license", message.replace("` missing", "` is missing"), expected=", ".join(missing))


def _same_license(card: Card, wanted: Expected) -> bool:
    """Whether one of the card's licences is that of the manifest; those not on the Hub's list go by their names."""
    found = card.front_matter.texts("license")
    if wanted.license and wanted.license != "other":
        return wanted.license in {hub_license(name) for name in found}
    names = {name.casefold() for name in (*found, *card.front_matter.texts("license_name"))}
    unnamed = "other" in names and not card.front_matter.texts("license_name")
    return wanted.license_name.casefold() in names or unnamed


def _base_models(card: Card, wanted: Expected) -> Iterator[Finding]:
    head = card.front_matter
    found, relation = head.texts("base_model"), head.texts("base_model_relation")
    both = {"expected": ", ".join(wanted.base_model), "found": ", ".join(found) or None}
    lacking = [name for name in wanted.base_model if name.casefold() not in {f.casefold() for f in found}]
    known = {name.casefold() for name in wanted.base_model}
    others = [name for name in found if wanted.base_model and is_hub_id(name) and name.casefold() not in known]
    if wanted.base_model and not found:
        message = f"`base_model` is missing; the manifest says {both['expected']}"
        yield _at("SR503", card, "base_model", message, fixable="safe", **both)
        return
    # Old ids have no organization (gpt2 is openai-community/gpt2 today): they say nothing that could be compared.
    if others or (lacking and all(map(is_hub_id, found))):
        message = f"`base_model` is {', '.join(found)}, the manifest says {both['expected']}"
        yield _at("SR503", card, "base_model", message, fixable="unsafe", **both)
    if found and not relation:
        message = "`base_model_relation` is missing, so the Hub will file the release as a finetune of it"
        yield _at("SR503", card, "base_model", message, expected=RELATION, fixable="safe")
    elif found and relation[0] != RELATION:
        message = f"`base_model_relation` is {relation[0]!r}, but this is no model made from the base model"
        more = {"expected": RELATION, "found": relation[0], "fixable": "unsafe"}
        yield _at("SR503", card, "base_model_relation", message, **more)


def _datasets(card: Card, wanted: Expected) -> Iterator[Finding]:
    found = card.front_matter.texts("datasets")
    lacking = [name for name in wanted.datasets if name.casefold() not in {f.casefold() for f in found}]
    if not lacking:
        return
    if not found:
        message = f"`datasets` is missing; the manifest says {', '.join(wanted.datasets)}"
        yield _at("SR504", card, "datasets", message, expected=", ".join(wanted.datasets), fixable="safe")
    elif all(map(is_hub_id, found)):
        message = f"`datasets` lacks {', '.join(lacking)}, which the manifest names"
        yield _at("SR504", card, "datasets", message, expected=", ".join(wanted.datasets), found=", ".join(found))

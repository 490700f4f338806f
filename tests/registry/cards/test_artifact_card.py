"""The card of one artifact: what saereg writes into it, what it leaves alone, and what it says of a withdrawal."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from saereg.registry.build import build
from saereg.registry.cards.artifact_card import generated, parts_of, without_generated, write_artifact_card
from saereg.registry.cards.card import Card
from saereg.registry.cards.snippets import snippets_of
from saereg.registry.features.shipped import view_in
from saereg.registry.files.digest import sha256_of
from saereg.registry.fixing.apply import plan_fixes, write_fixes
from saereg.registry.release import open_release
from saereg.registry.validators.runner import validate
from saereg.registry.withdrawal import restore, withdraw
from saereg.registry.withdrawn_documents import mark_folder
from saereg.schemas.features import FeatureView
from saereg.schemas.withdrawal import Withdrawal
from tests.cases.tools import JUMP, TOPK, TRANS, edit, manifest, reindex, write_cards
from tests.releases import tiny_release

CROSS = "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tiny_release(tmp_path_factory.mktemp("tiny"), checkpoints=False)
    write_cards(root)
    return root


@pytest.fixture
def release(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "release")


def write(root: Path, identifier: str = TOPK, templates: Path | None = None) -> str | None:
    opened = open_release(root)
    artifact = opened[identifier]
    return write_artifact_card(root, artifact.claim, opened.manifest, artifact.evidence, templates)


def card_of(root: Path, identifier: str = TOPK) -> Path:
    return root / identifier / "README.md"


def mark(artifact: str | None = None, **facts: str) -> Withdrawal:
    values = {"version": "1.0.0", "artifact": artifact, "kind": "yanked", "reason": "b_dec is 0", "date": "2026-11-21"}
    return Withdrawal.made(**values | facts)


def codes(root: Path, level: str = "header") -> list[str]:
    return [finding.code for finding in validate(root, level).findings]


def test_every_artifact_has_a_card_that_is_valid_and_is_written_once(release):
    """Links lead somewhere, blocks are Python, every rule passes; a second time nothing is written."""
    assert codes(release) == []
    for identifier in (TOPK, JUMP, TRANS, CROSS):
        card = Card(card_of(release, identifier).read_text())
        assert [snippet.problem for snippet in snippets_of(card) if snippet.problem] == []
        assert write(release, identifier) is None
    card_of(release).unlink()
    assert write(release) == f"{TOPK}/README.md"
    assert codes(release) == []


def test_a_card_says_what_the_artifact_is(release):
    """What stands in it is what claim and evidence say; each of these has a section or a row."""
    opened = open_release(release)
    evidence = opened[TOPK].evidence
    text = card_of(release).read_text()

    measured = {m.metric: m for m in evidence.metrics}
    assert f"| `explained_variance` | {measured['explained_variance'].value:.6g} |" in text
    assert "| `l0` on `held-out` | 3 | of the released weights |" in text
    assert "The 3 latents of each row with the largest pre-activation are kept, after a ReLU." in text
    assert "> **This artifact failed, and is here on purpose.** its weights are random" in text
    assert "[Tiny dictionaries](../../README.md), version 1.0.0" in text
    assert all(f.sha256 in text for f in evidence.files if not f.path.endswith("README.md"))
    assert sha256_of(card_of(release)) not in text
    assert "It predicts the site `block-1-mlp`." in card_of(release, TRANS).read_text()
    assert "are the pretraining steps 0, 1000." in card_of(release, CROSS).read_text()


def test_its_code_gives_what_the_golden_vectors_say(release, monkeypatch):
    """Every block with plain torch, taken out of the card as a reader takes it."""
    monkeypatch.chdir(release)
    for identifier in (TOPK, JUMP, TRANS, CROSS):
        card = Card(card_of(release, identifier).read_text())
        blocks = [snippet.code for snippet in snippets_of(card) if "W = load_file" in snippet.code]
        names: dict = {}
        exec(compile(blocks[0], identifier, "exec"), names)
        assert len(blocks) == 1
        golden = names["load_file"](f"{identifier}/golden.safetensors")
        assert torch.allclose(names["x_hat"], golden["x_hat"], atol=1e-5)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_words_around_the_part_stay(release, newline):
    """Whatever stands between the marks is written anew, with the line ends of the card."""
    path = card_of(release)
    whole = f"# Ours\n\n{path.read_text().replace('| k 3 |', '| k 4 |')}\n\nMore.".replace("\n", newline)
    path.write_bytes(whole.encode())

    assert write(release) == f"{TOPK}/README.md"
    after = path.read_bytes().decode()
    assert after == whole.replace("| k 4 |", "| k 3 |")
    assert write(release) is None


@pytest.mark.parametrize("content", [b"# By hand\n", b"\xff\n", b"", None])
def test_a_card_that_is_the_authors_is_left_alone(release, content):
    """One without marks, one that is not UTF-8, an empty one, and a link."""
    path = card_of(release)
    path.unlink()
    if content is None:
        path.symlink_to("../../README.md")
    else:
        path.write_bytes(content)
    before = path.read_bytes()

    assert write(release) is None
    assert path.read_bytes() == before
    path.rename(path.with_name("readme.md"))
    assert write(release) is None


def test_what_others_wrote_is_shown_and_does_nothing(release):
    """Markup, a fence, marks and code in every text of the manifest: the card has its parts, and nothing of theirs."""
    nasty = "<script>alert(1)</script> | `x` ``` [a](b) ![c](d)\n<!-- saereg:end artifact -->\n```\n# No | heading"
    opened = open_release(release)
    artifact = opened[TOPK]
    info = opened.manifest.release.model_copy(update={"title": nasty, "license": nasty})
    site = opened.manifest.sites["block-1"].model_copy(update={"reason": nasty, "module": nasty})
    model = opened.manifest.base_models["tiny"].model_copy(update={"id": nasty})
    claims = opened.manifest.model_copy(
        update={"release": info, "sites": {"block-1": site}, "base_models": {"tiny": model}}
    )
    training = artifact.claim.training.model_copy(update={"tool": {nasty: nasty}})
    claim = artifact.claim.model_copy(update={"expected_failure": nasty, "variant": nasty, "training": training})
    golden = artifact.evidence.golden.model_copy(update={"made_by": nasty})
    card_of(release).unlink()
    write_artifact_card(release, claim, claims, artifact.evidence.model_copy(update={"golden": golden}))

    card = Card(card_of(release).read_text())
    (part,), problems = parts_of(card)
    assert (part.name, part.end, problems) == ("artifact", card.text.count("\n"), [])
    assert "<script" not in "\n".join(line for line in card.lines if '"' not in line)
    assert [heading.text for heading in card.headings if "No" in heading.text] == []
    ours = {"../../README.md", "https://github.com/saereg/saereg/blob/main/docs/metrics.md"}
    assert {link.target for link in card.links} == ours | {path.name for path in artifact.folder.iterdir()} - {
        "README.md"
    }
    assert [snippet.problem for snippet in snippets_of(card) if snippet.problem] == []
    assert without_generated(card.text).strip() == ""


def test_a_template_of_the_user_takes_the_place_of_ours_and_is_left_alone_without_it(release, tmp_path):
    """It may name claim and evidence; validate cannot make it again, so that it is not out of date."""
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "artifact.md.j2").write_text("# {{ id }}: {{ artifact.d_sae }} latents, {{ evidence.dtype }}\n")

    assert write(release, templates=templates) == f"{TOPK}/README.md"
    text = card_of(release).read_text()
    assert text.startswith("<!-- saereg:begin artifact custom -->\n\n# `layer_1/topk`: 10 latents, float32\n\n<!--")
    reindex(release)
    assert codes(release) == []
    assert write(release, templates=templates) is None
    assert write(release) is None
    assert card_of(release).read_text() == text


def view_of(release: Path, **changes: object) -> FeatureView:
    """Return a view of two latents: one with a context, one that is never active."""
    weights = sha256_of(release / TOPK / "sae_weights.safetensors")
    tokens = [" one", " <b>two</b>", " three|", "`four`"]
    context = {"row": 2, "activation": 3.5, "tokens": tokens, "activations": [0.0, 3.5, 0.0, 0.0], "peak": 1}
    latents = [
        {
            "index": 3,
            "frequency": 0.25,
            "maximum": 3.5,
            "contexts": [context],
            "promoted": [{"token": "|", "value": 1}],
        },
        {"index": 7, "frequency": 0.0},
    ]
    value = {"generated_by": {"saereg": "0"}, "artifact": TOPK, "weights_sha256": weights, "evaluation": "held-out"}
    value |= {"data_sha256": "0" * 64, "rows": 12, "chosen": "random", "seed": 0, "readout": "logits"}
    return FeatureView.from_text(json.dumps(value | {"latents": latents} | changes), "features.json")


def test_a_feature_view_of_these_weights_is_shown(release):
    """The strongest token in bold, as code that nothing in it can end; a view of other weights is not shown."""
    path = release / TOPK / "features.json"
    path.write_text(view_of(release).text())
    build(release)
    assert codes(release) == ["SR514"]

    assert write(release) == f"{TOPK}/README.md"
    text = card_of(release).read_text()
    shown = "| 3 | 25.00% | 3.5 | `one` **`<b>two</b>`** <code>three&#124;&#96;four&#96;</code> | <code>&#124;</code> |"
    assert shown in text
    build(release)
    assert codes(release) == []
    opened = open_release(release)[TOPK]
    other = view_of(release, weights_sha256="0" * 64).text()
    assert [view_in(t, opened.claim.id, opened.evidence) for t in (other, "{", None)] == [None, None, None]


def test_what_is_withdrawn_says_so_on_its_card_and_taking_it_back_leaves_no_trace(release):
    """By itself or with its version; the other cards, and the index, follow."""
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    mark_folder(release, lambda m: withdraw(m, mark(TOPK, successor=JUMP)))
    text = card_of(release).read_text()

    assert text.startswith(
        "<!-- saereg:begin withdrawn -->\n\n> [!WARNING]\n> **`layer_1/topk` of version 1.0.0 was yanked"
    )
    assert "b_dec is 0. Use `layer_1/jumprelu` instead." in text
    assert "saereg:begin withdrawn" not in card_of(release, JUMP).read_text()
    assert codes(release) == []
    assert write(release) is None
    assert mark_folder(release, lambda m: withdraw(m, mark(TOPK, successor=JUMP))).documents == {}

    mark_folder(release, lambda m: withdraw(m, mark()))
    assert "> **Version 1.0.0 was yanked on 2026-11-21.**" in card_of(release, CROSS).read_text()
    assert codes(release) == []
    mark_folder(release, lambda m: restore(restore(m, "1.0.0"), "1.0.0", TOPK))
    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before


def test_a_card_that_recommends_what_is_withdrawn_is_a_finding_that_a_fix_takes_away(release):
    """A mark that was written by hand, and a card from before it."""
    edit(release / "manifest.json", lambda m: m["withdrawn"].append(mark(TOPK).model_dump(exclude_none=True)))
    reindex(release)
    found = [finding for finding in validate(release, "layout").findings if finding.code == "SR514"]
    assert [finding.message for finding in found] == [
        "the card does not say that the artifact is withdrawn, as the manifest has it"
    ]

    fix(release)
    assert "> [!WARNING]" in card_of(release).read_text()
    assert codes(release) == []


def fix(release: Path) -> None:
    fixes = plan_fixes(release, validate(release, "header"), lambda folder: validate(folder, "header"), unsafe=True)
    assert fixes.problem is None
    write_fixes(release, fixes)


@pytest.mark.slow
def test_cards_follow_what_a_fix_changes_elsewhere(release):
    """A claim, a verdict and a digest are in the manifest, the index and the cards."""
    manifest(lambda m: m["artifacts"][0]["claims"][0].update(value=2.5))(release)
    assert "SR514" in codes(release)

    fix(release)
    assert codes(release) == []
    assert "verified" in card_of(release).read_text()


@pytest.mark.slow
def test_a_card_of_another_version_of_saereg_is_not_out_of_date(release):
    """Its templates may say the same in other words; marks that are broken are still a finding."""
    path = card_of(release)
    path.write_text(path.read_text().replace("## Load it", "## Load"))
    reindex(release)
    assert codes(release) == ["SR514"]
    edit(release / "index.json", lambda index: index["generated_by"].update(saereg="0.0.1"))
    assert "SR514" not in codes(release)
    path.write_text(path.read_text().replace("saereg:end artifact", "saereg:end"))
    assert "SR514" in codes(release)


def test_an_artifact_without_evidence_has_its_claims(release):
    """Nothing that was not measured is made up."""
    opened = open_release(release)
    text = generated(opened[JUMP].claim, opened.manifest, None)

    assert "### With saereg" in text
    assert not {"## What was measured", "## Proof", "## What it computes", "### With plain torch"} & set(
        text.split("\n")
    )

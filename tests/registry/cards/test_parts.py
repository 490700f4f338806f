"""What saereg writes into a card: the missing keys, the generated parts, a first card; all else stays as it was."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.registry.build import build
from saereg.registry.cards.blocks import parts_of, replaced
from saereg.registry.cards.card import Card
from saereg.registry.cards.front_matter import completed, expected
from saereg.registry.cards.licenses import HUB_LICENSES, hub_license
from saereg.registry.cards.mojibake import garbled_in
from saereg.registry.cards.quantities import labelled, printed, quantity_of
from saereg.registry.cards.skeleton import first_card
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from tests.releases import tiny_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def manifest(release) -> Manifest:
    return Manifest.read(release / "manifest.json")


@pytest.fixture(scope="module")
def index(release) -> Index:
    return Index.read(release / "index.json")


def test_missing_keys_are_added_and_nothing_else_is_touched(manifest):
    """Order, comments and line ends of what stands there stay; a second time nothing happens."""
    before = "---\r\nlicense: mit  # ours\r\nextra: [1, 2]\r\n---\r\n# T\r\n"

    after = completed(before, manifest)

    assert after.startswith("---\r\nlicense: mit  # ours\r\nextra: [1, 2]\r\nlibrary_name: saereg\r\n")
    assert after.endswith("- saereg\r\n---\r\n# T\r\n")
    assert Card(after).front_matter.values["base_model_relation"] == "adapter"
    assert completed(after, manifest) == after


@pytest.mark.parametrize("text", ["---\nlicense: mit\n", "---\na: b: c\n---\n", "---\n{license: mit}\n---\n# T\n"])
def test_a_front_matter_that_lines_cannot_be_added_to_is_left_alone(manifest, text):
    """Unclosed, not YAML, or written in one line."""
    assert completed(text, manifest) == text


@settings(max_examples=100)
@given(st.text(alphabet=st.sampled_from("ab: -\n\r#`|\u00e9"), max_size=80))
def test_completing_any_text_keeps_it(manifest, text):
    """What stood there is still there, as a whole, and what was readable still is."""
    after = completed(text, manifest)

    assert after.endswith(text) or Card(text).front_matter.present
    assert completed(after, manifest) == after


def test_a_card_of_saelens_dictionaries_names_saelens_and_texts_that_are_not_on_the_hub_are_not_listed(manifest):
    """The library by the format of every artifact, data sets by whether they have a repository."""
    parts = {"artifacts": tuple(a for a in manifest.artifacts if a.format == "saelens")}
    digest = {"text": manifest.datasets["text"].model_copy(update={"sha256": "0" * 64})}

    found = expected(manifest.model_copy(update=parts | {"datasets": digest}))

    assert (found.library_name, found.datasets) == ("saelens", ())
    assert expected(manifest).library_name == "saereg"


def test_generated_parts_are_written_and_written_again_alike(manifest, index):
    """Whatever stands between the marks; outside nothing changes."""
    card = "# T\n<!-- saereg:begin inventory -->\nold | table\n<!-- saereg:end inventory -->\ntail"

    once = replaced(card, manifest, index)

    assert once.startswith("# T\n<!-- saereg:begin inventory -->\n\n")
    assert "old | table" not in once
    assert once.endswith("<!-- saereg:end inventory -->\ntail")
    assert replaced(once, manifest, index) == once
    rows = Card(once).tables[0].rows
    assert sorted(row.cells[0] for row in rows) == sorted(artifact.id for artifact in manifest.artifacts)


def test_marks_that_begin_or_end_nothing_are_said(manifest, index):
    """With their lines; marks in code are none."""
    text = "<!-- saereg:end files -->\n```\n<!-- saereg:begin files -->\n```\n<!-- saereg:begin files -->\n"

    parts, problems = parts_of(Card(text))

    assert parts == []
    assert [(problem.line, "no beginning" in problem.sentence) for problem in problems] == [(1, True), (5, False)]
    assert replaced(text, manifest, index) == text


def test_files_are_listed_without_the_card(manifest, index):
    """Its own digest cannot stand in it."""
    text = replaced("<!-- saereg:begin files -->\n<!-- saereg:end files -->\n", manifest, index)

    paths = {row.cells[0] for row in Card(text).tables[0].rows}
    assert paths == {file.path for file in index.all_files()} - {"README.md"}


def test_build_writes_a_first_card_and_keeps_its_parts_up_to_date(release, tmp_path):
    """It is indexed, has no finding, and what the author adds stays."""
    root = tmp_path / "release"
    shutil.copytree(release, root)
    (root / "README.md").unlink()
    (root / "config.json").unlink()

    index = build(root)

    card = (root / "README.md").read_text()
    assert card == first_card(Manifest.read(root / "manifest.json"), index)
    assert {"README.md", "config.json"} <= {file.path for file in index.all_files()}
    assert validate(root).findings == ()
    (root / "README.md").write_text(card.replace("| k 3 |", "| k 9 |") + "\nMy words.\n")
    build(root)
    assert (root / "README.md").read_text() == card + "\nMy words.\n"
    assert validate(root).findings == ()


def test_build_leaves_a_card_without_parts_alone(release, tmp_path):
    """Also one in another spelling, and one that is not UTF-8."""
    root = tmp_path / "release"
    shutil.copytree(release, root)
    before = (root / "README.md").read_bytes() + "Modèle\n".encode("latin-1")
    (root / "README.md").write_bytes(before)
    build(root)
    assert (root / "README.md").read_bytes() == before
    (root / "README.md").rename(root / "readme.md")
    build(root)
    assert not (root / "README.md").exists()


@pytest.mark.parametrize(("name", "found"), [("MIT", "mit"), ("GPL-3.0-or-later", "gpl-3.0"), ("gemma", "gemma")])
def test_licences_are_known_as_spdx_writes_them(name, found):
    """In small letters, without endings that the Hub has not."""
    assert hub_license(name) == found
    assert found in HUB_LICENSES


@pytest.mark.parametrize(
    ("cell", "value", "agrees"),
    [
        ("163k", 163840, True), ("16k", 16384, True), ("164k", 163840, True), ("163k", 131072, False),
        ("163,840", 163840, True), ("1M", 1048576, True), ("0.748", 0.7484, True), ("0.748", 0.7489, True),
        ("0.748", 0.7491, False), ("160", 160.4, True), ("160", 161.2, False), ("94.2%", 0.9421, True),
        ("29 %", 0.2884, True), ("~160", 163, True), ("−11.08", -11.0879, True), ("0.776 ± 0.001", 0.7762, True),
        ("3e-4", 0.0003, True), ("8", 7, False),
    ],
)  # fmt: skip
def test_a_number_agrees_at_the_digits_that_are_printed(cell, value, agrees):
    """Rounded or cut, in thousands, in per cent."""
    number = printed(cell)

    assert number is not None
    assert number.agrees(value) is agrees


@pytest.mark.parametrize("cell", ["", "–", "n/a", "40-60", "step1", "1.2.3", "k", "%", "1e9999", "yes"])
def test_what_is_no_number_is_left_alone(cell):
    """Also what only looks like one."""
    assert printed(cell) is None


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_any_cell_is_read(cell):
    """No exception, whatever stands in it."""
    assert printed(cell) is None or printed(cell).step >= 0
    assert isinstance(labelled(cell), list)
    assert isinstance(quantity_of(cell), tuple)


def test_headers_are_known_with_and_without_a_definition():
    """A named definition counts alone."""
    assert quantity_of("EV (`explained_variance_legacy_rowmean`)") == ("explained_variance_legacy_rowmean",)
    assert "explained_variance" in quantity_of("Explained variance ↑")
    assert quantity_of("L0") == quantity_of("L0 (`l0`)")
    assert quantity_of("Status") == ()


HONEST = [
    "Le modèle «fatigué»… est né à Nîmes, où l’œuvre coûte 5 €", "“café”—naïve façade, jalapeño, Ångström",
    "São Paulo, AMANHÃ, NÃO, coração — “AÇÃO”", "MENÜ“, Straße, 10 °C, HYVÄ”, SEÑOR", "Łódź, čeština, ŘÍČNÍ, ışık",
    "Модель обучена; Ελληνικά λ → ∞ ≤ 0.3 ± 0.1 µ", "模型的每一层，32位浮点", "日本語のカード、層ごとに 한국어 카드",
    "├── cfg.json │ ╔═╗╬╗", "token 的 fires, and 位 too", "Việt Nam: Đây là mô hình", "🙋 café",
]  # fmt: skip


@pytest.mark.parametrize("line", HONEST)
def test_honest_words_are_not_reported(line):
    """In any language, with the quotes and dashes that stand behind them."""
    assert garbled_in([line]) == []


@pytest.mark.parametrize("codec", ["cp1252", "latin-1", "cp437", "cp850"])
@pytest.mark.parametrize("word", ["café", "Übermaß", "naïve", "a — b", "x → y"])
def test_words_read_in_another_encoding_are_found_and_told(codec, word):
    """With what was meant."""
    try:
        broken = word.encode().decode(codec)
    except UnicodeDecodeError:
        pytest.skip("this encoding cannot read these bytes at all")

    places = garbled_in(["fine", broken])

    assert places
    assert {place.line for place in places} == {2}
    assert {place.meant for place in places} <= set(word)


GREEK = ["a fixed run β€” of 24 layers", "32 β†’ 32,768", "target L0 β‰ˆ 150", "24 Γ— 6", "πŸ™‹ Ask"]


def test_a_card_that_a_greek_machine_read_is_found_in_every_line():
    """As the page of one published release has it, with the letters of a western machine where the Greek has none."""
    assert [place.meant for place in garbled_in(GREEK)] == ["—", "→", "≈", "×", "🙋"]


@pytest.mark.parametrize("codec", ["cp1253", "cp1251", "cp1250", "cp1257", "mac_roman"])
def test_dashes_of_other_machines_are_found(codec):
    """With the letters that they gave them."""
    assert [place.meant for place in garbled_in(["a — b".encode().decode(codec)])] == ["—"]


OTHERS = [
    "Η τιμή είναι 5€ — Γ—Α, το β” και «Ξ»", "α, β€ και γ”", "Цена в €— рублях «в»: вЂ нет", "в “кавычках” р—п",
    "‚Ärger‘ und ‚Äpfel‘, √2 – 3", "cena ā € –", "ceník „â€ “", "β → β′, Γ × Γ", "‚Äußerung‘, ‚Älteste’",
]  # fmt: skip


@pytest.mark.parametrize("line", OTHERS)
def test_honest_words_of_other_machines_are_not_reported(line):
    """Greek, Russian, Czech, Latvian, and German quotes."""
    assert garbled_in([line]) == []


@pytest.mark.parametrize("text", ["位=0.3", "a 位-transfer failure"])
def test_a_greek_letter_that_became_chinese_is_found(text):
    """λ read as GBK, as one published card has it."""
    assert [place.meant for place in garbled_in([text])] == ["λ"]


@settings(max_examples=300)
@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_text_is_looked_through(lines):
    """No exception, and places are where they are said to be."""
    for place in garbled_in(lines):
        assert lines[place.line - 1][place.column - 1 :].startswith(place.found)

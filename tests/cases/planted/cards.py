"""Cases of the rules in `rules/cards.py`, and of SR401, which reads the card too."""

from collections.abc import Callable
from pathlib import Path

from saereg.registry.build import build
from tests.cases.tools import JUMP, TOPK, TRANS, Case, reindex, text, write_cards


def _card(old: str, new: str) -> Callable[[Path], None]:
    """Return a change of the card."""
    return text("README.md", old, new)


def _added(more: str) -> Callable[[Path], None]:
    """Return a change that adds to the card."""
    return text("README.md", "MIT.\n", f"{more}\nMIT.\n")


def _bytes(raw: bytes) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        card = root / "README.md"
        card.write_bytes(card.read_bytes() + raw)
        reindex(root)

    return plant


def _no_card(root: Path) -> None:
    (root / "README.md").unlink()
    _unlisted(root, "README.md")


def _no_marker(root: Path) -> None:
    (root / "config.json").unlink()
    _unlisted(root, "config.json")


def _other_marker(root: Path) -> None:
    (root / "config.json").unlink()
    (root / "config.yaml").write_text("library_name: saereg\n")
    build(root)


def _unlisted(root: Path, path: str) -> None:
    """Take a file out of the index."""
    from tests.cases.tools import edit

    edit(root / "index.json", lambda index: index.update(files=[f for f in index["files"] if f["path"] != path]))


def _first_card(root: Path) -> None:
    """Let saereg write the card, with an inventory of every artifact."""
    (root / "README.md").unlink()
    build(root)


def _inventory(change: Callable[[str], str] = lambda card: card) -> Callable[[Path], None]:
    """Return a card with both generated parts, changed by hand."""

    def plant(root: Path) -> None:
        card = root / "README.md"
        parts = [f"<!-- saereg:begin {name} -->\n<!-- saereg:end {name} -->\n" for name in ("inventory", "files")]
        card.write_text(card.read_text() + "\n" + "\n".join(parts))
        build(root)
        card.write_text(change(card.read_text()))
        reindex(root)

    return plant


def _beside(content: str) -> Callable[[Path], None]:
    """Return a card beside the weights of an artifact."""

    def plant(root: Path) -> None:
        (root / TOPK / "topk.md").write_text(content)
        build(root)

    return plant


RELATION = "base_model_relation: adapter\n"
CROSS = "W_U/cross-snapshot-2"

FRONT_MATTER: dict[str, Case] = {
    "no_card": Case("SR500", _no_card),
    "first_card": Case("SR500", _first_card, "data", passes=True),
    "library_missing": Case("SR501", _card("library_name: saereg\n", "")),
    "library_of_others": Case("SR501", _card("library_name: saereg", "library_name: transformers")),
    "saelens_for_a_crosscoder": Case("SR501", _card("library_name: saereg", "library_name: saelens")),
    "library_of_ones_own": Case("SR501", _card("library_name: saereg", "library_name: my-crosscoders"), passes=True),
    "license_missing": Case("SR502", _card("license: mit\n", "")),
    "license_unknown_to_the_hub": Case("SR502", _card("license: mit", "license: MIT License")),
    "license_of_another": Case("SR502", _card("license: mit", "license: apache-2.0")),
    "other_license_without_a_link": Case(
        "SR502", _card("license: mit", "license: [mit, other]\nlicense_name: openmdw-draft")
    ),
    "license_in_quotes": Case("SR502", _card("license: mit", 'license: ["mit"]'), passes=True),
    "base_model_missing": Case("SR503", _card(f"base_model: tiny/model\n{RELATION}", "")),
    "base_model_of_another": Case("SR503", _card("base_model: tiny/model", "base_model: tiny/model-2")),
    "relation_missing": Case("SR503", _card(RELATION, "")),
    "relation_finetune": Case("SR503", _card("relation: adapter", "relation: finetune")),
    "base_model_as_list": Case("SR503", _card("base_model: tiny/model", "base_model:\n- Tiny/Model"), passes=True),
    "datasets_missing": Case("SR504", _card("datasets:\n- tiny/text\n", "")),
    "datasets_of_another": Case("SR504", _card("- tiny/text", "- tiny/other")),
    "one_more_dataset": Case("SR504", _card("- tiny/text", "- tiny/evaluation\n- tiny/text"), passes=True),
    "no_counted_file": Case("SR505", _no_marker),
    "another_counted_file": Case("SR505", _other_marker, passes=True),
    "front_matter_not_closed": Case("SR512", _card("- saereg\n---\n", "- saereg\n")),
    "front_matter_key_twice": Case("SR512", _card("license: mit", "license: mit\nlicense: apache-2.0")),
    "front_matter_tab": Case("SR512", _card("- tiny/text", "\t- tiny/text")),
    "front_matter_colon": Case("SR512", _card("license: mit", "title: Crosscoders: a release\nlicense: mit")),
    "front_matter_after_a_byte_order_mark": Case("SR512", _card("---\nlibrary_name", "\ufeff---\nlibrary_name")),
    "front_matter_in_flow": Case(
        "SR512", _card("license: mit", 'license: mit\n"title": "Crosscoders: a release"'), passes=True
    ),
}

DRAWING = """
```
├── cfg.json
└── sae_weights.safetensors
```
"""
HONEST = """
Écoute : « fatigué »… São Paulo, “café”—naïve; MENÜ“, HYVÄ”.
Ελληνικά, Модель, 模型的每一层, λ = 0.3 ± 0.1 ≤ 1.
"""

TEXT: dict[str, Case] = {
    "lambda_in_gbk": Case("SR507", _added("The default 位=0.3 fails: a 位-transfer failure.\n")),
    "dash_in_cp1252": Case("SR507", _added("Layers \u00e2\u20ac\u201d both middle ones \u00e2\u20ac\u201d of it.\n")),
    "lost_character": Case("SR507", _added("Tra\ufffdned on text.\n")),
    "latin_1_bytes": Case("SR507", _bytes("Modèle.\n".encode("latin-1"))),
    "mojibake_beside_weights": Case("SR507", _beside("# TopK\n\nA caf\u00c3\u00a9 feature.\n")),
    "honest_words": Case("SR507", _added(HONEST + DRAWING), passes=True),
    "link_to_no_file": Case("SR510", _added("See [the configuration](layer_1/topk/config.json).\n")),
    "anchor_to_no_heading": Case("SR510", _added("See [below](#licence).\n")),
    "image_of_no_file": Case("SR510", _added("![Curves](figures/curves.png)\n")),
    "link_beside_weights": Case("SR510", _beside("# TopK\n\n[Weights](layer_1/topk/sae_weights.safetensors)\n")),
    "own_address_of_no_file": Case(
        "SR510", _added("[x](https://huggingface.co/someone/tiny-saes/blob/main/layer_9/cfg.json)\n")
    ),
    "links_that_lead_somewhere": Case(
        "SR510",
        _added(
            "[a](layer_1/topk/cfg.json), [b](layer_1/), [c](#use), [d](https://example.org/layer_9/cfg.json), "
            "[e](https://huggingface.co/someone/tiny-saes/blob/main/layer_1/topk/cfg.json), `[f](nowhere.json)`\n"
        ),
        passes=True,
    ),
    "braces_in_code": Case("SR511", _added("Headline: `W_U/d8192/seed{0..4}.safetensors`.\n")),
    "braces_in_a_table": Case(
        "SR511", _added("| What | Path |\n|---|---|\n| both | layer_1/{topk,jumprelu}/cfg.json |\n")
    ),
    "star_that_fits_nothing": Case("SR511", _added("All of them: `layer_2/*/cfg.json`.\n")),
    "patterns_that_are_none": Case(
        "SR511",
        _added(
            "Each is `layer_{layer}/{name}/cfg.json`; all are `*/cfg.json`; `{a, b}` and $\\{0..4\\}$ are sets.\n\n"
            "```bash\ncp layer_1/{topk,jumprelu}/cfg.json .\n```\n"
        ),
        passes=True,
    ),
}

HEAD = "| SAE | d_sae | L0 (`l0`) | EV (`explained_variance`) |\n|---|---|---|---|\n"

TABLES: dict[str, Case] = {
    "block_out_of_date": Case("SR508", _inventory(lambda card: card.replace("| k 3 |", "| k 4 |"))),
    "block_not_ended": Case("SR508", _added("<!-- saereg:begin inventory -->\n")),
    "block_unknown": Case("SR508", _added("<!-- saereg:begin plots -->\n<!-- saereg:end plots -->\n")),
    "table_with_another_width": Case("SR508", _added(f"{HEAD}| {TOPK} | 16k | 2.9 | -3.62 |\n")),
    "table_with_another_l0": Case("SR508", _added(f"{HEAD}| [`{TOPK}`]({TOPK}/cfg.json) | 10 | 3.9 | -3.62 |\n")),
    "cell_with_two_numbers": Case(
        "SR508",
        _added(
            "Measured as `explained_variance`.\n\n| Path | Quality |\n|---|---|\n"
            f"| {TOPK}/sae_weights.safetensors | EV -3.71 / L0 2.9 |\n"
        ),
    ),
    "blocks_up_to_date": Case("SR508", _inventory(), passes=True),
    "tables_that_agree": Case(
        "SR508",
        _added(
            f"{HEAD}| {TOPK} | 10 | 2.9 | **-3.62** |\n| `{JUMP}/` | 10 | 3.8 | -4.8 |\n| {TRANS} | – | n/a | |\n"
            f"| their/baseline | 16k | 41 | 0.9 |\n\n| Path | Quality |\n|---|---|\n| {CROSS} | EV -11.09 / L0 3.6 |\n"
        ),
        passes=True,
    ),
    "sorted_as_text": Case(
        "SR509",
        _added("| step | note |\n|---|---|\n| step1 | a |\n| step1000 | b |\n| step102000 | c |\n| step2000 | d |\n"),
    ),
    "sorted_by_another_column": Case(
        "SR509",
        _added(
            "| step | ms |\n|---|---|\n| step1 | 9.5 |\n| step1000 | 4.1 |\n| step102000 | 3.0 |\n| step2000 | 2.8 |\n"
        ),
        passes=True,
    ),
    "sorted_decimals": Case(
        "SR509", _added("| run | note |\n|---|---|\n| lam0.25 | a |\n| lam0.3 | b |\n| lam1.20 | c |\n"), passes=True
    ),
    "number_without_definition": Case("SR401", _added(f"| SAE | EV | L0 |\n|---|---|---|\n| {TOPK} | -3.62 | 2.9 |\n")),
    "number_with_definition": Case(
        "SR401",
        _added(
            f"| SAE | EV | L0 |\n|---|---|---|\n| {TOPK} | -3.62 | 2.9 |\n\nEV is `explained_variance`, L0 is `l0`.\n"
        ),
        passes=True,
    ),
}


def _artifact_card(change: Callable[[str], str] = lambda card: card) -> Callable[[Path], None]:
    """Return the card of an artifact as saereg writes it, changed by hand."""

    def plant(root: Path) -> None:
        write_cards(root)
        card = root / TOPK / "README.md"
        card.write_text(change(card.read_text()))
        reindex(root)

    return plant


ARTIFACT_CARDS: dict[str, Case] = {
    "artifact_card_out_of_date": Case("SR514", _artifact_card(lambda card: card.replace("| k 3 |", "| k 4 |"))),
    "artifact_card_not_ended": Case("SR514", _artifact_card(lambda card: card.replace("<!-- saereg:end", "<!-- end"))),
    "artifact_card_of_unknown_parts": Case(
        "SR514", _artifact_card(lambda card: card.replace(":begin artifact", ":begin x"))
    ),
    "artifact_card_with_words_of_its_author": Case(
        "SR514", _artifact_card(lambda card: f"# Ours\n\n{card}\nMore words.\n"), passes=True
    ),
    "artifact_card_of_a_template": Case(
        "SR514",
        _artifact_card(
            lambda card: card.replace("begin artifact -->", "begin artifact custom -->").replace("k 3", "k = 3")
        ),
        passes=True,
    ),
    "artifact_card_of_its_author": Case("SR514", _beside("# TopK\n\nAll of it by hand.\n"), passes=True),
}

CASES: dict[str, Case] = FRONT_MATTER | TEXT | TABLES | ARTIFACT_CARDS
"""Name of the folder → what is planted, and the one code that must be found."""

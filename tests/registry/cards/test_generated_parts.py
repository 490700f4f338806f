"""What each generated part says, of a tiny release and of what is changed in it; nothing in a text breaks a card."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.registry.cards.blocks import BLOCKS, parts_of, render, replaced, tidy
from saereg.registry.cards.card import MAX_CARD_BYTES, Card
from saereg.registry.cards.front_fence import BEGIN, END
from saereg.registry.cards.markdown import cells_of
from saereg.registry.cards.marking import code, fenced, prose, table, text
from saereg.registry.cards.parts.metrics import OTHERS, WITH_A_MODEL, anchor
from saereg.registry.cards.skeleton import first_card
from saereg.registry.cards.view import View
from saereg.registry.validators.checks.card_text import _without_code
from saereg.registry.validators.runner import validate
from saereg.schemas.floors import Estimate, FloorFit, FloorPrediction, Interval, LossFloors
from saereg.schemas.index import Figure, Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.metrics import MetricId
from tests.releases import tiny_release

ALL = "\n\n".join(f"<!-- saereg:begin {name} -->\n<!-- saereg:end {name} -->" for name in BLOCKS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def manifest(root) -> Manifest:
    return Manifest.read(root / "manifest.json")


@pytest.fixture(scope="module")
def index(root) -> Index:
    return Index.read(root / "index.json")


def part(name: str, manifest: Manifest, index: Index) -> str:
    return render(name, View(manifest, index))


def with_release(manifest: Manifest, **update) -> Manifest:
    return manifest.model_copy(update={"release": manifest.release.model_copy(update=update)})


def test_a_first_card_has_every_part_once_and_no_empty_heading(manifest, index):
    """Those with nothing to say are there as marks alone, so that they can fill later."""
    card = Card(first_card(manifest, index))

    names = [found.name for found in parts_of(card)[0]]
    assert sorted(names) == sorted(set(BLOCKS) - {"withdrawn"})
    headings = [heading.text for heading in card.headings]
    assert headings[0] == "Tiny dictionaries"
    assert "Figures" not in headings
    assert {"Use", "All dictionaries", "Metrics", "Evidence", "Licence"} <= set(headings)
    assert card.text.count("\n\n\n") == 0


def test_a_first_card_is_written_again_alike_and_filled_when_figures_come(manifest, index):
    """The same bytes; a figure that is drawn later appears by itself."""
    card = first_card(manifest, index)
    drawn = index.model_copy(update={"figures": (FIGURE,), "floors": FLOORS})

    later = replaced(card, manifest, drawn)

    assert replaced(card, manifest, index) == card
    assert "![A \\[bad\\] &#124; alt](figures/heatmap.png)" in later
    assert "## Loss floors" in later
    assert replaced(later, manifest, index) == card


FIGURE = Figure(
    name="heatmap", kind="heatmap", title="Heat <b>map</b>", caption="Of `l0`.", alt="A [bad] | alt",
    spec="figures/heatmap.vl.json", png="figures/heatmap.png", svg="figures/heatmap.svg",
)  # fmt: skip

PREDICTION = FloorPrediction(tokens=4.0, predicted=2.5, interval=Interval(low=2.3, high=2.6), measured=2.4)

FLOORS = LossFloors(
    metric="fvu", evaluation="held-out", basis="measured", level=0.9, resamples=200, seed=0,
    fits=(
        FloorFit(
            series="layer 1", tokens=(1.0, 2.0, 3.0, 4.0), values=(4.0, 3.0, 2.5, 2.4), fitted=3,
            floor=Estimate(value=2.0, interval=Interval(low=1.5, high=2.2)), scale=Estimate(value=2.0),
            exponent=Estimate(value=1.0), identified=False, reason="three points for three numbers",
            predictions=(PREDICTION,),
            relative_error=0.04,
        ),
    ),
)  # fmt: skip


def test_a_floor_that_is_not_identified_is_not_told_as_one(manifest, index):
    """With the reason, the interval, and what was predicted beside what was measured."""
    said = part("floors", manifest, index.model_copy(update={"floors": FLOORS}))

    assert "**No floor is identified.**" in said
    assert "three points for three numbers" in said
    assert "| layer 1 | 3 of 4 | 2 \\[1.5, 2.2\\] |" in said
    assert "| layer 1 | 4 | 2.5 \\[2.3, 2.6\\] | 2.4 | yes | 4 % |" in said


def test_the_summary_has_the_picks_or_says_by_what_it_chose(manifest, index):
    """Never one that failed; here all are declared failures, so there is nothing to recommend."""
    assert part("summary", manifest, index) == ""
    working = tuple(a.model_copy(update={"expected_failure": None}) for a in manifest.artifacts)
    picked = tuple(a.model_copy(update={"canonical": a.id == "layer_1/topk"}) for a in working)

    chosen = part("summary", manifest.model_copy(update={"artifacts": working}), index)
    flagged = part("summary", manifest.model_copy(update={"artifacts": picked}), index)

    assert "The author picked none" in chosen
    assert chosen.count("`layer_1/") == 2, "one of the two of a kind at one site, and the transcoder"
    assert "canonical picks" in flagged
    assert Card(flagged).tables[0].rows[0].cells[:2] == ("Layer 1, residual stream", "layer_1/topk")
    assert len(Card(flagged).tables[0].rows) == 1


def test_a_rule_is_said_in_words_with_the_number_that_decided(manifest, index):
    """And how many it was chosen from."""
    artifacts = tuple(
        a.model_copy(update={"expected_failure": None, "canonical": a.id == "layer_1/topk"}) for a in manifest.artifacts
    )
    rule = type(manifest).model_fields["canonical"].annotation.__args__[0](rule="l0 closest to 3 per kind")

    said = part("canonical", manifest.model_copy(update={"artifacts": artifacts, "canonical": rule}), index)

    assert "share their `kind` the one whose `l0` is closest to 3" in said
    assert "| sae | `layer_1/topk` | 2.917 | 2 |" in said


@pytest.mark.parametrize(
    ("layer", "norm", "after", "words"),
    [
        (3, True, False, "is behind that norm: another tensor"),
        (3, False, False, "no norm behind it"),
        (3, True, True, "on purpose"),
        (2, True, False, None),
    ],
)
def test_the_trap_of_the_last_layer_is_told_where_it_is_one(manifest, index, layer, norm, after, words):
    """Of four layers the last is number 3; `hidden_states[-1]` is another tensor only where a norm stands behind it."""
    model = manifest.base_models["tiny"].model_copy(update={"final_norm": norm})
    site = manifest.sites["block-1"].model_copy(
        update={"layer": layer, "post_final_norm": after, "hidden_states_index": None}
    )
    changed = manifest.model_copy(update={"base_models": {"tiny": model}, "sites": manifest.sites | {"block-1": site}})

    said = part("sites", changed, index)

    assert ("[!IMPORTANT]" in said) is (words is not None)
    assert words is None or words in said


def test_what_is_stated_and_not_verified_is_shown_with_why(manifest, index):
    """Also in the limitations and the evidence."""
    claims = {"claims": (manifest.artifacts[0].claims or manifest.artifacts[-1].claims)}
    entry = index.artifacts[-1]
    verdict = entry.verdicts[0].model_copy(update={"verdict": "not_verifiable", "why": "a mean of training | batches"})
    changed = index.model_copy(
        update={"artifacts": (*index.artifacts[:-1], entry.model_copy(update={"verdicts": (verdict,)}))}
    )
    assert claims["claims"]

    said = part("metrics", manifest, changed)

    assert "not verifiable | a mean of training &#124; batches |" in said
    assert "cannot be verified" in part("limitations", manifest, changed)
    assert "1 number: a mean of training &#124; batches." in part("evidence", manifest, changed)


def test_what_is_worse_than_the_mean_stands_in_the_limitations(manifest, index):
    """A negative explained variance is a number that few readers expect; a positive one is not mentioned."""
    evidence = index.artifacts[0]
    bad = tuple(
        m.model_copy(update={"value": -99.0 if m.metric == "explained_variance" else m.value}) for m in evidence.metrics
    )
    worse = index.model_copy(update={"artifacts": (evidence.model_copy(update={"metrics": bad}), *index.artifacts[1:])})
    assert "worse than their mean would; worst" in part("limitations", manifest, worse)
    assert f"`{evidence.id}`" in part("limitations", manifest, worse).partition("worse than")[2]


def test_what_is_in_the_release_is_counted_anew(manifest, index):
    """The count and the version stand between marks: a release that grows does not keep those of its first card."""
    fewer = manifest.model_copy(update={"artifacts": manifest.artifacts[:1]})
    assert part("inventory", manifest, index).splitlines()[2] != part("inventory", fewer, index).splitlines()[2]
    card = first_card(manifest, index)
    before = card.partition("<!-- saereg:begin summary")[0].partition("---\n\n")[2]
    assert manifest.release.version not in before


def test_failures_and_marks_stand_in_the_limitations(manifest, index):
    """With the words of the author."""
    assert "as the author says: its weights are random" in part("limitations", manifest, index)


def test_every_metric_has_the_section_that_it_links_to(request):
    """The page of definitions has each of them below the heading that the link names."""
    page = (request.config.rootpath / "docs/metrics.md").read_text()
    sections = {
        name.lower().replace(" ", "-"): body for name, body in re.findall(r"\n## (.+)\n([\s\S]*?)(?=\n## |\Z)", page)
    }

    for metric in MetricId.__args__:
        assert f"`{metric}`" in sections[anchor(metric)], metric
    assert set(WITH_A_MODEL).isdisjoint(OTHERS)


def test_the_chain_of_licences_says_where_another_one_may_bind(manifest, index):
    """And where none is said at all."""
    model = manifest.base_models["tiny"].model_copy(update={"license": "llama3.1"})
    bound = manifest.model_copy(update={"base_models": {"tiny": model}})

    assert "whose licence is llama3.1. It may bind" in part("licences", bound, index)
    assert "does not say under which licence `tiny/model` stands" in part("licences", manifest, index)


def test_a_citation_is_the_authors_or_made_of_what_they_say(manifest, index):
    """None where nobody is named; what stands in it closes no fence."""
    own = with_release(manifest, citation="@misc{x,\n```\n<!-- saereg:end citation -->\n}")

    assert part("citation", manifest, index) == ""
    assert "author = {A and B}" in part("citation", with_release(manifest, authors=("A", "B")), index)
    card = replaced(ALL, own, index)
    assert "\n````bibtex\n" in card
    assert parts_of(Card(card))[1] == []


def test_the_model_index_is_read_by_the_hubs_own_parser(manifest, index):
    """As evaluation results, with the medians of the release."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import model_index_to_eval_results

    artifacts = tuple(a.model_copy(update={"expected_failure": None}) for a in manifest.artifacts)
    card = first_card(manifest.model_copy(update={"artifacts": artifacts}), index)

    data = ModelCard(card).data
    raw = yaml.safe_load(card.split("---\n")[1])["model-index"]
    name, results = model_index_to_eval_results(raw)

    assert (name, data.model_name) == ("tiny-saes", "tiny-saes")
    assert (data.library_name, data.license, data.base_model_relation) == ("saereg", "mit", "adapter")
    found = {(r.task_name, r.metric_type) for r in results}
    assert ("Reconstruction by 2 sparse autoencoders", "explained_variance") in found
    assert len(data.eval_results) == len(results)
    assert all(isinstance(r.metric_value, float) for r in results)


HEAD = f"---\n{BEGIN}\nlicense: gone\n{END}\ntitle: mine # kept\n---\n"


def test_owned_keys_are_refreshed_between_their_comments_and_nowhere_else(manifest, index):
    """A key that the author takes out of them is the author's; it is never there twice."""
    fresh = replaced(f"{HEAD}# T\n", manifest, index)
    mine = replaced(fresh.replace("title: mine", "license: apache-2.0\ntags: [a]\ntitle: mine"), manifest, index)

    assert Card(fresh).front_matter.values["license"] == "mit"
    assert fresh.endswith(f"{END}\ntitle: mine # kept\n---\n# T\n")
    assert replaced(fresh, manifest, index) == fresh
    assert Card(mine).front_matter.problems == ()
    assert Card(mine).front_matter.values["license"] == "apache-2.0"
    assert Card(mine).front_matter.values["tags"] == ["a"]
    assert mine.count("license:") == mine.count("tags:") == 1


@pytest.mark.parametrize(
    "head",
    [
        f"{BEGIN}\nlicense: x\n",
        f"{END}\n{BEGIN}\n",
        f"{BEGIN}\n{BEGIN}\n{END}\n",
        f"a: b: c\n{BEGIN}\n{END}\n",
        f'x: "a\n{BEGIN}\n{END}\n',
    ],
)
def test_comments_that_are_not_a_pair_and_a_head_that_cannot_be_read_are_left_alone(manifest, index, head):
    """Not closed, the wrong way round, twice, no YAML."""
    card = f"---\n{head}---\n# T\n"

    assert replaced(card, manifest, index) == card


def test_owned_keys_out_of_date_are_a_finding_that_is_fixed(root, tmp_path):
    """SR508 names the line; the fix writes them, and what the author wrote beside them stays."""
    import shutil

    from saereg.registry.build import build

    copy = tmp_path / "release"
    shutil.copytree(root, copy)
    (copy / "README.md").unlink()
    build(copy)
    card = (copy / "README.md").read_text()
    assert validate(copy).findings == ()
    (copy / "README.md").write_text(
        card.replace("license: mit\n", "license: apache-2.0\n").replace(f"{END}\n", f"{END}\nmine: 1\n")
    )

    found = [finding for finding in validate(copy).findings if finding.code == "SR508"]

    assert [(finding.line, finding.fixable) for finding in found] == [(2, "safe")]
    build(copy)
    assert (copy / "README.md").read_text() == card.replace(f"{END}\n", f"{END}\nmine: 1\n")


NASTY = st.text(
    alphabet=st.sampled_from("ab |`<>!-[](){}*_\\$&#~\n\r\t\u202e\u200f\u2028:/.\"'é漢"), min_size=1, max_size=60
) | st.sampled_from(
    [
        "<!-- saereg:end inventory -->", "x\n<!-- saereg:end inventory -->\ny", "```", "~~~\nx", "|a|b|\n|---|---|",
        "--- \n", "# h\n===\n", "![x](javascript:alert(1))", "<script>alert(1)</script>", "$$x$$", "\u202eevil",
        "<details>", "</details>",
    ]
)  # fmt: skip


def named(manifest: Manifest, index: Index, one: str, other: str) -> tuple[Manifest, Index]:
    """Return documents in which every text that an author is free in is one of two."""
    artifacts = tuple(a.model_copy(update={"variant": one, "expected_failure": other}) for a in manifest.artifacts)
    data = {"text": manifest.datasets["text"].model_copy(update={"id": one, "config": other, "license": one})}
    model = {"tiny": manifest.base_models["tiny"].model_copy(update={"id": other})}
    sites = {key: s.model_copy(update={"reason": one, "module": other}) for key, s in manifest.sites.items()}
    release = {"title": one, "description": other, "authors": (one, other), "license": one, "sister_releases": (one,)}
    figure = FIGURE.model_copy(update={"title": one, "caption": other, "alt": one})
    parts = {"artifacts": artifacts, "datasets": data, "base_models": model, "sites": sites}
    return with_release(manifest, **release).model_copy(update=parts), index.model_copy(update={"figures": (figure,)})


def breaks_nothing(manifest: Manifest, index: Index, one: str, other: str) -> None:
    """Marks, tables and headings stand as with harmless texts, nothing turns its direction, and twice is the same."""
    plain = Card(first_card(*named(manifest, index, "a", "b")))

    documents = named(manifest, index, one, other)
    card = Card(first_card(*documents))

    assert parts_of(card)[1] == []
    assert [p.name for p in parts_of(card)[0]] == [p.name for p in parts_of(plain)[0]]
    headings, expected = ([(h.level, h.text) for h in found.headings] for found in (card, plain))
    assert headings[1:] == expected[1:]
    assert [f.language for f in card.fences] == [f.language for f in plain.fences]
    assert len(card.tables) == len(plain.tables)
    assert all(len(cells_of(card.lines[row.line - 1])) == len(t.header) for t in card.tables for row in t.rows)
    turned = {c for c in "\u202e\u200f\u2028" if c in card.text}
    scripts = [line for line in _without_code(card)[card.front_matter.end :] if "<script" in line]
    again = replaced(card.text, *documents) == card.text
    assert (turned, scripts, again) == (set(), [], True)


@settings(max_examples=8, deadline=None)
@given(NASTY, NASTY)
def test_no_text_of_a_manifest_breaks_a_card(manifest, index, one, other):
    """Marks, tables, fences, comments, HTML, characters that cannot be seen."""
    breaks_nothing(manifest, index, one, other)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(NASTY, NASTY)
def test_none_of_many_texts_breaks_a_card(manifest, index, one, other):
    """The same, for longer."""
    breaks_nothing(manifest, index, one, other)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["files", "citation", "licences", "canonical", "inventory"]), max_size=4, unique=True),
    st.lists(st.text(alphabet=st.sampled_from("ab|<>!- #\u00e9"), max_size=20), min_size=5, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_stands_around_the_marks_is_never_touched(manifest, index, names, around, newline):
    """With any line ends; a second time nothing happens."""
    pieces = [around[0]]
    for name, between in zip(names, around[1:], strict=False):
        pieces += [f"<!-- saereg:begin {name} -->", "old", f"<!-- saereg:end {name} -->", between]
    before = newline.join(pieces)

    after = replaced(before, manifest, index)

    assert replaced(after, manifest, index) == after
    assert newline == "\n" or "\n" not in after.replace("\r\n", "")
    assert _emptied(after) == _emptied(before)


def _emptied(card: str) -> list[str]:
    """Return the lines of a card, those between its marks left out."""
    lines = re.split(r"\r?\n", card)
    for found in reversed(parts_of(Card(card))[0]):
        del lines[found.line : found.end - 1]
    return lines


def test_a_thousand_artifacts_are_folded_by_site_and_ten_thousand_fit_into_a_card(manifest, index):
    """What a card may hold is never passed, however long the ids are; what is left out is said."""
    one, entry = manifest.artifacts[0], index.artifacts[0]

    def grown(count: int, width: int) -> str:
        names = [f"layer_1/{'x' * width}{n}" for n in range(count)]
        artifacts = tuple(one.model_copy(update={"id": name, "path": name}) for name in names)
        entries = tuple(entry.model_copy(update={"id": name}) for name in names)
        return part(
            "inventory",
            manifest.model_copy(update={"artifacts": artifacts}),
            index.model_copy(update={"artifacts": entries}),
        )

    folded, long = grown(300, 1), grown(7_000, 280)

    assert folded.partition("\n\n")[2].startswith(
        "<details>\n<summary>Sparse autoencoders at block-1 (300 artifacts)</summary>"
    )
    assert len(Card(folded).tables[0].rows) == 300
    assert len(long.encode()) < MAX_CARD_BYTES / 1.5
    assert "of 7,000 artifacts are left out here" in long


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (code("a`b"), "<code>a&#96;b</code>"), (code("a|b"), "<code>a&#124;b</code>"), (code("a_b"), "`a_b`"),
        (text("a|b*c*<i>"), "a&#124;b\\*c\\*&lt;i\\>"), (text("snake_case _x_"), "snake_case \\_x\\_"),
        (prose("# h\n\n```\nx"), "\\# h\n\n\\```\nx"), (fenced("a\n```\nb", "x"), "````x\na\n```\nb\n````"),
        (table(["a"], [["1"]]), "| a |\n| --- |\n| 1 |"), (code(""), "–"),
        (tidy("\n\na\n\n\n\nb\n```\n\n\n\n```\n"), "a\n\nb\n```\n\n\n\n```"),
    ],
)  # fmt: skip
def test_texts_are_shown_as_they_are(shown, wanted):
    """In a line, in code, in a paragraph, in a block."""
    assert shown == wanted

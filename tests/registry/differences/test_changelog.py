"""The section of a changelog, and its place in a file that people write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import UsageError
from saereg.registry.cards.card import Card
from saereg.registry.differences.changelog import code, section
from saereg.registry.differences.compare import compared
from saereg.registry.differences.inserting import inserted, write_section
from tests.registry.differences import documents as d

OURS = "# Changelog\n\nAll of it.\n\n## [Unreleased]\n\n- soon\n\n## [1.0.0] - 2026-01-01\n\n- first\n\n[1.0.0]: https://x\n"


def test_a_section_has_the_parts_of_keep_a_changelog_and_links_artifacts():
    """Removed ones are named without a link; evidence that only repeats itself is not told."""
    found = d.after(
        d.version("2.0.0"), d.removed(2), d.renamed(1, "layer_1/z"), d.bytes_of(0, 0, "1"),
        lambda m, i: m["artifacts"].append(dict(m["artifacts"][0], id="new", path="new", seed=77)),
        lambda m, i: i["generated_by"].update(saereg="2"),
    )  # fmt: skip
    assert section(found, "2026-02-01").splitlines() == [
        "## [2.0.0] - 2026-02-01",
        "",
        "### Added",
        "",
        "- [`new`](<new/>)",
        "",
        "### Changed",
        "",
        "- Weights changed, `sae_weights.safetensors`: [`layer_1/a`](<layer_1/a/>)",
        "- Renamed: `layer_1/b` is now [`layer_1/z`](<layer_1/b/>) (weights and identity equal)",
        "",
        "### Removed",
        "",
        "- `layer_2/c`",
    ]


def test_what_many_artifacts_share_is_one_line():
    """Equal values are shown; of many different ones it is said that each has its own."""
    text = section(d.after(lambda m, i: m["sites"]["one"].update(layer=3)))
    assert "- Site changed, `site.layer` from `1` to `3`: [`layer_1/a`]" in text
    assert text.count("Site changed") == 1


def test_values_that_are_each_artifacts_own_are_not_told_one_by_one():
    """Four different values at one place are one line; three are three."""
    three = (d.measured(n, 0, value=50.0 + n) for n in range(3))
    assert section(d.after(*three)).count("Metric drifted, `l0 on held-out` from") == 3
    more = [lambda m, i: (m["artifacts"].append(dict(m["artifacts"][0], id="e", path="e", seed=9)),
                          i["artifacts"].append(dict(i["artifacts"][0], id="e", files=[])))]  # fmt: skip
    old = d.documents(*more)
    new = d.documents(
        lambda m, i: i["artifacts"][0].update(metrics=[dict(i["artifacts"][0]["metrics"][0])]),
        *more,
        *(d.evidence(n, metrics=[d.base()[1]["artifacts"][0]["metrics"][0] | {"value": 9.0 + n}]) for n in range(3)),
        lambda m, i: i["artifacts"][3].update(metrics=[dict(i["artifacts"][0]["metrics"][0], value=77.0)]),
    )
    assert "- Metric drifted, `l0 on held-out` (each its own): " in section(compared(old, new))


def test_metrics_on_other_rows_are_one_line_per_evaluation():
    """The evaluation has other rows: that is one change, not one for each metric."""
    found = d.after(d.measured(0, 0, data_sha256="d" * 64), d.measured(0, 1, data_sha256="d" * 64))
    assert section(found).count("measured on other rows") == 1
    assert "`2 metrics on held-out` (12 rows of" in section(found)


def test_nothing_is_said_to_be_nothing():
    """A heading alone would look like a mistake."""
    assert section(d.after(d.version("1.0.1"))) == "## [1.0.1]\n\nNothing that a reader of the release would see."


@given(st.text(max_size=30))
def test_no_text_of_others_leaves_its_code(text):
    """Not by marks, lines or markup: the paragraph around it ends as it began."""
    shown = f"before {code(text)} after <b>"
    assert "\n" not in shown
    assert [block.kind for block in Card(f"{shown}\n").blocks] == ["paragraph"]
    assert not Card(f"{shown}\n").markers


PLACES = [
    ("2.0.0", "## [1.0.0]"),
    ("1.0.1-rc.1", "## [1.0.0]"),
    ("0.9.0", "[1.0.0]: https://x"),
]


@pytest.mark.parametrize(("version", "follows"), PLACES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_section_stands_before_earlier_versions_and_leaves_all_else(version, follows, newline):
    """Above 1.0.0, or below it and before the addresses of links; taken out again, the file is as it was."""
    text = OURS.replace("\n", newline)
    made = inserted(text, version, f"## [{version}]\n\n- x")
    begin, end = f"<!-- saereg:begin changelog-{version} -->", f"<!-- saereg:end changelog-{version} -->"
    before, _, rest = made.partition(begin)
    _, _, behind = rest.partition(end)
    assert behind.strip().startswith(follows)
    assert before + behind.removeprefix(newline * 2) == text
    assert inserted(made, version, f"## [{version}]\n\n- x") == made
    assert ("\r\n" in made) == (newline == "\r\n")


def test_a_section_is_replaced_by_its_next_form():
    """What people wrote around it stays."""
    made = inserted(OURS, "2.0.0", "## [2.0.0]\n\n- one")
    again = inserted(made, "2.0.0", "## [2.0.0]\n\n- two\n- three")
    assert again == made.replace("- one", "- two\n- three")
    third = inserted(again, "2.1.0", "## [2.1.0]\n\n- later")
    assert third.index("2.1.0 -->") < third.index("changelog-2.0.0")


def test_versions_in_code_are_no_sections():
    """An example in a changelog does not decide where a section stands."""
    text = "# Log\n\n```\n## [1.0.0]\n```\n\n## 1.5.0\n"
    made = inserted(text, "2.0.0", "## [2.0.0]")
    assert made.index("```\n\n<!-- saereg:begin") < made.index("## 1.5.0")


def test_a_section_of_somebodys_own_is_not_touched():
    """Nor is a file with a mark that has no end."""
    with pytest.raises(UsageError, match=r"CHANGELOG.md:9: there is a section on 1.0.0 that saereg did not write"):
        inserted(OURS, "1.0.0", "## [1.0.0]")
    with pytest.raises(UsageError, match="no other end"):
        inserted("<!-- saereg:begin changelog-2.0.0 -->\n## [2.0.0]\n", "2.0.0", "## [2.0.0]")


def test_a_file_is_made_kept_and_never_half_written(tmp_path):
    """A second run changes nothing; bytes that are no text are refused and stay."""
    path = tmp_path / "CHANGELOG.md"
    assert write_section(path, "1.0.0", "## [1.0.0]\n\n- x")
    made = path.read_bytes()
    assert made.startswith(b"# Changelog\n\n<!-- saereg:begin changelog-1.0.0 -->\n## [1.0.0]")
    assert not write_section(path, "1.0.0", "## [1.0.0]\n\n- x")
    assert path.read_bytes() == made
    path.write_bytes(b"\xff# Log\n")
    with pytest.raises(UsageError, match="byte 0 is not UTF-8"):
        write_section(path, "1.0.0", "## [1.0.0]")
    assert path.read_bytes() == b"\xff# Log\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["CHANGELOG.md"]


def test_a_link_to_a_changelog_stays_a_link(tmp_path):
    """What it leads to is written."""
    real = tmp_path / "real.md"
    real.write_text("# Log\n")
    (tmp_path / "CHANGELOG.md").symlink_to(real)
    assert write_section(tmp_path / "CHANGELOG.md", "1.0.0", "## [1.0.0]")
    assert (tmp_path / "CHANGELOG.md").is_symlink()
    assert "## [1.0.0]" in real.read_text()


PIECES = st.lists(
    st.sampled_from(
        [
            "# Log\n", "\n", "## [Unreleased]\n", "## 1.0.0\n", "## [3.0.0] - 2026-01-01\n", "- text\n", "```\n",
            "~~~\n", "[1.0.0]: https://x\n", "<!-- note -->\n", "<!-- open\n", "    ## 0.1.0\n", "> ## 0.2.0\n",
            "---\n", "1.0.0\n", "\r\n", "no end", "## v0.5.0+build\n",
            "<!-- saereg:begin files -->\n", "<!-- saereg:end files -->\n",
        ]
    ),
    max_size=9,
).map("".join)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(text=PIECES, version=st.sampled_from(["0.3.0", "2.0.0", "4.0.0-rc.1"]))
def test_whatever_stands_in_a_changelog_stays_and_twice_is_once(text, version):
    """A file that cannot take a section is refused; of every other the lines of its owner are all there, in order."""
    try:
        made = inserted(text, version, f"## [{version}]\n\n- x")
    except UsageError:
        return
    assert inserted(made, version, f"## [{version}]\n\n- x") == made
    begin, end = made.index(f"<!-- saereg:begin changelog-{version}"), made.index(f"saereg:end changelog-{version} -->")
    left = made[:begin] + made[end + len(f"saereg:end changelog-{version} -->") :]
    assert "".join(left.split()) == "".join(text.split())

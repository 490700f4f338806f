"""Marks of withdrawal: what may be marked, what readers must know, and three documents that fit each other again."""

import json
import os
import shutil
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.cli import run
from saereg.errors import SaeregError, UnknownNameError, UsageError, WithdrawnWarning
from saereg.registry.build import build
from saereg.registry.cards.blocks import parts_of, replaced
from saereg.registry.cards.card import Card
from saereg.registry.release import open_release
from saereg.registry.validators.runner import validate
from saereg.registry.withdrawal import (
    lost_marks,
    only_marks_differ,
    require_published,
    restore,
    standing,
    told,
    withdraw,
)
from saereg.registry.withdrawn_documents import (
    DOCUMENTS,
    documents_with,
    mark_folder,
    read_documents,
    today,
    write_documents,
)
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal
from tests.releases import tiny_release

TOPK, JUMP = "layer_1/topk", "layer_1/jumprelu"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def manifest(built) -> Manifest:
    return Manifest.read(built / "manifest.json")


@pytest.fixture(scope="module")
def index(built) -> Index:
    return Index.read(built / "index.json")


@pytest.fixture
def release(built, tmp_path):
    return shutil.copytree(built.parent, tmp_path / "copy") / "release"


def mark(version: str = "1.0.0", artifact: str | None = None, **facts: str) -> Withdrawal:
    return Withdrawal.made(
        **{"version": version, "artifact": artifact, "kind": "yanked", "reason": "b_dec is 0", "date": "2026-11-21"}
        | facts
    )


def test_the_same_mark_again_changes_nothing_and_other_facts_take_its_place(manifest):
    """Not even the date moves; there is one mark per version and artifact, in the order of versions."""
    once = withdraw(manifest, mark())

    assert withdraw(once, mark(date="2027-01-01")) is once
    again = withdraw(once, mark(reason="W_dec too", date="2027-01-01"))
    assert [(one.reason, one.date) for one in again.withdrawn] == [("W_dec too", "2027-01-01")]
    several = withdraw(withdraw(withdraw(again, mark("0.10.0")), mark("0.9.0")), mark(artifact=TOPK))
    assert [(one.version, one.artifact) for one in several.withdrawn] == [
        ("0.9.0", None), ("0.10.0", None), ("1.0.0", None), ("1.0.0", TOPK),
    ]  # fmt: skip


def test_a_mark_gets_graver_by_itself_and_lesser_only_when_asked(manifest):
    """Who deprecates what is yanked may not know that it is wrong."""
    yanked = withdraw(withdraw(manifest, mark(kind="deprecated")), mark())

    with pytest.raises(UsageError) as refused:
        withdraw(yanked, mark(kind="deprecated"))
    assert str(refused.value) == (
        "1.0.0 is yanked since 2026-11-21; --replace makes it deprecated, which says that it is not wrong after all"
    )
    assert withdraw(yanked, mark(kind="deprecated"), replace=True).withdrawn[0].kind == "deprecated"


def test_a_mark_is_taken_back_by_its_own_verb(manifest):
    """What is left are the other marks."""
    both = withdraw(withdraw(manifest, mark()), mark(artifact=TOPK, kind="deprecated"))

    assert restore(both, "1.0.0").withdrawn == (both.withdrawn[1],)
    assert restore(withdraw(manifest, mark()), "1.0.0") == manifest
    with pytest.raises(UsageError, match="is deprecated, not yanked; saereg deprecate --undo takes that back"):
        restore(both, "1.0.0", TOPK)
    with pytest.raises(UsageError, match=r"^0\.9\.0 is not withdrawn; marked are 1\.0\.0, layer_1/topk of 1\.0\.0$"):
        restore(both, "0.9.0")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"artifact": "layer_1/topq"}, "unknown artifact 'layer_1/topq'; did you mean 'layer_1/topk'?"),
        ({"successor": "layer_1/jumprelo"}, "--successor layer_1/jumprelo is neither an artifact of this release"),
        ({"artifact": TOPK, "successor": TOPK}, "--successor layer_1/topk is the withdrawn artifact itself"),
        ({"successor": "0.9.0"}, "--successor 0.9.0 cannot be used instead: 0.9.0 is yanked (2026-11-21): b_dec is 0"),
        ({"successor": JUMP}, "--successor layer_1/jumprelu cannot be used instead: layer_1/jumprelu of 1.0.0 is"),
        ({"successor": "v1.0.0"}, "`successor` is the withdrawn version itself"),
        ({"version": "1.0"}, "version: String should match"),
        ({"date": "today"}, "date: String should match"),
    ],
)
def test_what_readers_could_not_follow_is_refused(manifest, wanted, sentence):
    """An artifact or a successor that is not there, or that is wrong itself."""
    before = withdraw(withdraw(manifest, mark("0.9.0")), mark(artifact=JUMP))

    with pytest.raises(SaeregError) as refused:
        withdraw(before, mark(**wanted))
    assert str(refused.value).startswith(sentence)


def test_artifacts_of_other_versions_are_not_those_of_the_manifest(manifest):
    """What an older version held, this manifest cannot know."""
    assert withdraw(manifest, mark("0.9.0", "gone", successor="gone-too")).withdrawn[0].artifact == "gone"
    with pytest.raises(UnknownNameError):
        withdraw(manifest, mark("1.0.0", "gone"))


def test_an_artifact_stands_as_its_version_does_or_worse(manifest):
    """The graver mark counts, and its own where they are equal; versions are named as tags too."""
    marks = withdraw(withdraw(manifest, mark(kind="deprecated")), mark(artifact=TOPK))

    assert standing(marks, "1.0.0").kind == "deprecated"
    assert standing(marks, "v1.0.0", TOPK).artifact == TOPK
    assert standing(marks, "1.0.0", JUMP).artifact is None
    assert standing(withdraw(marks, mark()), "1.0.0", TOPK).artifact == TOPK
    assert standing(marks, "1.0.1", TOPK) is None
    assert standing(manifest, "1.0.0") is None
    assert standing(withdraw(manifest, mark(artifact=TOPK)), "1.0.0") is None


def test_a_version_that_was_never_published_is_refused():
    """By the tags, and the manifest's own; other tags are no versions."""
    require_published("1.0.0", "1.1.0", ["v1.0.0", "latest"])
    require_published("1.1.0", "1.1.0", [])
    with pytest.raises(
        UsageError, match=r"version 1\.0\.2 was never published \(there is no tag v1\.0\.2\); did you me"
    ):
        require_published("1.0.2", "1.1.0", ["v1.0.0"])
    with pytest.raises(UsageError, match=r"published: 9\.0\.0, 10\.0\.0$"):
        require_published("23.456.7", "10.0.0", ["v9.0.0", "latest", "vfinal"])


def test_a_publish_knows_which_marks_it_would_lose(manifest):
    """Marks are lost that the local manifest lacks, or has as lesser ones; nothing else is looked at."""
    published = withdraw(withdraw(manifest, mark("0.9.0")), mark(artifact=TOPK))

    assert lost_marks(published, manifest) == published.withdrawn
    assert lost_marks(published, withdraw(published, mark(reason="another"))) == ()
    lesser = withdraw(published, mark("0.9.0", kind="deprecated"), replace=True)
    assert [told(one) for one in lost_marks(published, lesser)] == ["0.9.0 is yanked (2026-11-21): b_dec is 0"]
    assert lost_marks(manifest, published) == ()

    assert only_marks_differ(published, manifest)
    assert only_marks_differ(manifest, Manifest.from_text(published.text()))
    newer = manifest.release.model_copy(update={"version": "1.1.0"})
    assert not only_marks_differ(published, manifest.model_copy(update={"release": newer}))


def test_a_card_with_all_parts_is_up_to_date_after_a_mark(release):
    """Its evidence names the digest of the manifest, which a mark changes."""
    (release / "README.md").unlink()
    build(release)
    mark_folder(release, lambda m: withdraw(m, mark()))
    marked = read_documents(release)
    assert [finding.code for finding in validate(release, "header").findings] == []
    build(release)
    assert read_documents(release) == marked


def test_a_build_afterwards_changes_nothing_and_taking_it_back_leaves_no_trace(built, release):
    """The documents are those that saereg build writes, byte for byte, and are valid."""
    before = read_documents(release)
    done = mark_folder(release, lambda m: withdraw(withdraw(m, mark("0.9.0")), mark(successor="hf://org/other@v2.0.0")))
    marked = read_documents(release)

    assert set(done.documents) == set(DOCUMENTS)
    build(release)
    assert read_documents(release) == marked
    assert [finding.code for finding in validate(release, "header").findings] == []
    assert "new_version: org/other\n---\n\n<!-- saereg:begin withdrawn -->" in marked["README.md"].decode()
    assert mark_folder(release, lambda m: withdraw(m, mark("0.9.0"))).documents == {}

    mark_folder(release, lambda m: restore(restore(m, "1.0.0"), "0.9.0"))
    assert read_documents(release) == before == read_documents(built)


@pytest.mark.parametrize("written", [("README.md",), ("README.md", "index.json")])
def test_what_a_kill_left_between_the_documents_is_finished_by_the_same_command_or_undone_by_a_build(release, written):
    """The manifest is written last: until then nothing is withdrawn."""
    before = read_documents(release)
    there = [before[name] for name in ("manifest.json", "index.json", "README.md")]
    after = documents_with(*there, withdraw(Manifest.from_text(there[0].decode()), mark()))
    assert tuple(after) == DOCUMENTS
    write_documents(release, {name: after[name] for name in written})
    assert open_release(release).manifest.withdrawn == ()

    again = shutil.copytree(release, release.with_name("again"))  # the checkpoints are beside both
    mark_folder(again, lambda m: withdraw(m, mark()))
    assert read_documents(again) == after
    build(release)
    assert read_documents(release) == before


def test_nothing_is_written_when_one_document_cannot_be(release, monkeypatch):
    """All are there under temporary names before the first is renamed."""
    before, there = read_documents(release), {path.name for path in release.iterdir()}
    (release / f".manifest.json.{os.getpid()}.tmp").mkdir()

    with pytest.raises(OSError, match="manifest"):
        mark_folder(release, lambda m: withdraw(m, mark()))
    assert read_documents(release) == before
    assert {path.name for path in release.iterdir() if path.is_file()} == {n for n in there if (release / n).is_file()}


def test_an_index_of_another_manifest_is_not_made_to_fit(release):
    """It would vouch for claims that nobody has looked at."""
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["release"]["title"] = "another"
    (release / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(UsageError) as refused:
        mark_folder(release, lambda m: withdraw(m, mark()))
    assert str(refused.value) == (
        f"{release}: index.json was built of another manifest.json; run saereg build first, then this again"
    )


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (b"\xff\n", "README.md: byte 0 is not UTF-8; save it as UTF-8 first"),
        (b"---\nlicense: mit\n# T\n", "README.md: its front matter is not closed by a line `---`; close it first"),
    ],
)
def test_a_card_that_cannot_be_written_into_is_refused(release, card, sentence):
    """A mark that no reader sees is none."""
    (release / "README.md").write_bytes(card)

    with pytest.raises(UsageError, match=sentence):
        mark_folder(release, lambda m: withdraw(m, mark()))


def test_a_manifest_written_by_hand_keeps_its_words_and_a_release_without_a_card_gets_one(release, manifest):
    """Keys that the author left out are not added; the index lists the new card."""
    raw = {
        key: value for key, value in json.loads((release / "manifest.json").read_text()).items() if key != "withdrawn"
    }
    (release / "manifest.json").write_text(json.dumps(raw, indent=4))
    (release / "README.md").unlink()
    build(release)
    (release / "README.md").unlink()

    done = mark_folder(release, lambda m: withdraw(m, mark()))
    changed = json.loads(done.documents["manifest.json"])
    assert {key: changed[key] for key in raw} == raw
    assert list(changed) == sorted({*raw, "withdrawn"})
    card = (release / "README.md").read_bytes()
    (entry,) = [file for file in open_release(release).index.files if file.path == "README.md"]
    assert (entry.size, entry.sha256, entry.role) == (len(card), sha256(card).hexdigest(), "card")
    assert "**Version 1.0.0 was yanked on 2026-11-21.** b_dec is 0." in card.decode()


def test_many_marks_with_one_reason_are_one_paragraph(manifest, index):
    """Of the own version first; what a reason brings along starts no markup of its own."""
    marks = [mark("0.9.0", f"layer_{n}/topk", reason="dead\n<!-- saereg:end withdrawn -->") for n in range(30)]
    marks += [mark("2.0.0", successor="https://example.org/x"), mark(artifact=TOPK, successor="v1.0.1", reason="Why?")]
    several = manifest.model_copy(update={"withdrawn": tuple(marks)})
    (part,) = parts_of(Card(replaced("# T\n", several, index)))[0]
    lines = part.text.split("\n")

    assert lines[:2] == [
        "> [!WARNING]",
        "> **`layer_1/topk` of version 1.0.0 was yanked on 2026-11-21.** Why? Use version 1.0.1 instead.",
    ]
    assert lines[3].endswith("b_dec is 0. Use <https://example.org/x> instead.")
    assert lines[5].startswith("> **`layer_0/topk`, `layer_1/topk`, `layer_2/topk`, ")
    assert "`layer_19/topk` and 10 more of version 0.9.0 were yanked on 2026-11-21.**" in lines[5]
    assert lines[5].endswith("** dead &lt;!-- saereg:end withdrawn -->.")


def test_what_an_author_wrote_about_a_new_version_stays(manifest, index):
    """Only a name that came from a mark is changed or goes."""
    ours, other = (withdraw(manifest, mark(successor=f"hf://org/{name}")) for name in ("a", "b"))
    card = replaced("---\nlicense: mit\n---\n# T\n", ours, index)

    assert Card(card).front_matter.values["new_version"] == "org/a"
    assert Card(replaced(card, other, index, ours)).front_matter.values["new_version"] == "org/b"
    assert "new_version" not in replaced(card, manifest, index, ours)
    assert "new_version: my/own" in replaced("---\nnew_version: my/own\n---\n# T\n", ours, index, other)
    newer = ours.model_copy(update={"release": ours.release.model_copy(update={"version": "1.1.0"})})
    assert "new_version" not in replaced(card, newer, index)  # it is a version of this repository again
    artifact = withdraw(manifest, mark(artifact=TOPK, successor="hf://org/a"))
    assert "new_version" not in replaced("# T\n", artifact, index)


LINES = [
    "---",
    "a: b",
    "# T",
    "",
    "```",
    "<!-- saereg:begin withdrawn -->",
    "<!-- saereg:end withdrawn -->",
    "new_version: a",
]


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("ab: -\n\r#`>|\u00e9\ufeff"), max_size=60)
    | st.lists(st.sampled_from(LINES), max_size=8).map("\n".join)
)
def test_a_mark_on_any_card_comes_and_goes(manifest, index, text):
    """What stood there still stands there, once; a second time nothing happens."""
    marked = withdraw(manifest, mark())
    after = replaced(text, marked, index)

    assert replaced(after, marked, index) == after
    assert "---" in text or "[!WARNING]" in after
    back = replaced(after, manifest, index)
    assert "saereg" in text or back.replace("\n", "").replace("\r", "") == text.replace("\n", "").replace("\r", "")


def test_a_card_that_says_nothing_of_it_is_a_finding(release):
    """The manifest may come from another branch, or the author may have removed the warning."""
    card = release / "README.md"
    before = card.read_text()
    mark_folder(release, lambda m: withdraw(m, mark()))
    marked = card.read_text()
    card.write_text(before)

    (found,) = [one for one in validate(release, "layout").findings if one.code == "SR508"]
    assert found.message == "the card does not say that 1.0.0 is yanked (2026-11-21): b_dec is 0"
    assert run(["validate", str(release), "--level", "layout", "--fix"]) == 0
    assert card.read_text() == marked


def test_readers_see_it(release):
    """As a field of queries, and when a yanked one is loaded; a deprecated one loads in silence."""
    mark_folder(release, lambda m: withdraw(withdraw(m, mark(artifact=TOPK)), mark(artifact=JUMP, kind="deprecated")))
    opened = open_release(release)

    assert [artifact.id for artifact in opened.find(withdrawn="yanked")] == [TOPK]
    assert len(opened.find(withdrawn=None)) == 2
    with pytest.warns(WithdrawnWarning, match=r"^layer_1/topk of 1\.0\.0 is yanked \(2026-11-21\): b_dec is 0$"):
        opened[TOPK].load()
    opened[JUMP].load()


def test_a_day_is_that_in_utc():
    """Also of a given time, so that what is made twice is the same."""
    assert today("1795305599") == "2026-11-21"
    assert today("1795305600") == "2026-11-22"
    for wrong in ("soon", "1e9", "9" * 30):
        with pytest.raises(UsageError, match=f"SOURCE_DATE_EPOCH={wrong}: expected seconds since 1970"):
            today(wrong)

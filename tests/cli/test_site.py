"""`saereg site`: where the page goes, what is said of it, what is refused, a release on the Hub by documents alone."""

import pytest

from tests.browser.releases import adorned
from tests.reading_hub import REPO, SHA, Client, hub


def test_a_page_is_made_and_the_next_command_opens_it(saereg, place):
    """By default it goes to a folder with the name of the release; the second time it is replaced."""
    first = saereg("site", "release")
    assert (first.code, saereg("site", "release").code) == (0, 0)
    (folder,) = place.glob("*-site")
    assert {path.name for path in folder.iterdir()} == {"index.html", "README.md"}
    assert first.out.startswith(f"{folder.name}/index.html: 4 artifacts, ")
    assert first.next == f"python -m webbrowser {(folder / 'index.html').as_uri()}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["release", "-o", "release/page"], "release/page is in the release"),
        (["release", "-o", "full"], "full holds thesis.tex, which is no page of saereg"),
        (["release:layer_1/topk"], "the page is of a whole release; leave out :layer_1/topk"),
        (["nowhere"], "nowhere"),
    ],
)
def test_what_it_cannot_do_it_says_in_a_line(saereg, place, words, said):
    """And writes nothing."""
    (place / "full").mkdir()
    (place / "full/thesis.tex").write_text("mine")
    before = sorted(place.rglob("*"))
    answer = saereg("site", *words)
    assert answer.code != 0
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.slow
def test_a_release_on_the_hub_is_shown_by_documents_alone(tmp_path):
    """Its feature views and figures are documents, and are there; its weights are not asked for."""
    release = adorned(tmp_path / "made")
    with hub(release) as server:
        done = Client(tmp_path).saereg(server.url, "site", f"hf://{REPO}@{SHA}", "-o", str(tmp_path / "page"))
        asked = server.fetched()
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert 'id="part-features-3"' in text
    assert 'id="part-figure-0"' in text
    assert f"hf://{REPO}@{SHA}" in text
    assert not [path for path in asked if path.endswith(".safetensors")]

"""The page of a release: what is in it, that a stranger's words stay words, that the same release gives the same."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import UsageError
from saereg.publishers.site import Wanted, make_site
from saereg.publishers.site import make as making
from saereg.publishers.site.embed import code_in_script, json_in_script, packed, policy, source_hash
from saereg.publishers.site.files import feature_view
from saereg.publishers.site.libraries import ASSETS, MODULES, NO_PLOTS, Libraries, as_global, own_code
from saereg.registry.release import open_release
from tests.browser.releases import ATTACK, adorned, hostile
from tests.releases import tiny_release

NASTY = st.text(alphabet="</script>!-&\u2028\u2029\ud800é\"'\\abc \n")


class Page(HTMLParser):
    """The scripts, elements and first policy of a page, as a browser's parser sees them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.scripts, self.tags, self.policy, self.open = {}, [], None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        if tag == "script":
            self.open = found.get("id") or f"code {len(self.scripts)}"
            self.scripts[self.open] = ""

    def handle_endtag(self, tag):
        self.open = None if tag == "script" else self.open

    def handle_data(self, data):
        if self.open is not None:
            self.scripts[self.open] += data

    def head(self):
        """Return the head of the page as data."""
        return json.loads(self.scripts["head"])

    def part(self, name):
        """Return a part of the page as data."""
        return json.loads(zlib.decompress(base64.b64decode(self.scripts[f"part-{name}"])))


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def site(release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "page"
    made = make_site(open_release(release), folder, level="layout")
    return made, Page((folder / "index.html").read_text(encoding="utf-8"))


@given(st.recursive(NASTY | st.integers() | st.none(), lambda s: st.lists(s) | st.dictionaries(NASTY, s), max_leaves=8))
@settings(max_examples=60)
def test_json_in_a_script_is_the_same_json_and_means_nothing_to_html(value):
    """No letter is left that could end a script, open a comment or end a line; read back it is what went in."""
    text = json_in_script(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


@given(NASTY)
@settings(max_examples=60)
def test_packed_texts_are_letters_of_base64(text):
    """Whatever goes in, nothing comes out that an HTML parser looks at; what UTF-8 can hold comes back."""
    found = packed(text)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", found)
    assert zlib.decompress(base64.b64decode(found)).decode() == text.encode("utf-8", "replace").decode()


def test_numbers_that_json_has_not_are_refused():
    """NaN in a page would stop the whole page."""
    with pytest.raises(ValueError, match="JSON"):
        json_in_script({"value": float("nan")})


def test_code_in_a_script_cannot_end_it():
    """In strings of JavaScript a backslash before the slash changes nothing."""
    assert code_in_script('a = "</script><!--"') == 'a = "<\\/script><\\!--"'


def test_the_policy_lets_only_these_scripts_run_and_asks_no_network():
    """Its hashes are those of the texts, and no source of a network is in it."""
    rules = policy(["a", "b"])
    assert rules.startswith(f"default-src 'none'; script-src {source_hash('a')} {source_hash('b')};")
    assert "http" not in rules
    assert "unsafe-eval" not in rules
    assert "'unsafe-inline'" not in rules.split("script-src")[1].split(";")[0]


def test_every_script_of_the_page_is_in_its_policy(site):
    """What a browser would run it may run; what it may not run is data."""
    _, page = site
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        assert not {"src", "action"} & set(attrs), tag
    running = [text for name, text in page.scripts.items() if name.startswith("code")]
    assert len(running) == 3
    for text in running:
        assert source_hash(text) in page.policy
    assert source_hash(zlib.decompress(base64.b64decode(page.scripts["part-plots"])).decode()) in page.policy


def test_the_page_holds_every_artifact_with_its_evidence(site, release):
    """The table has a row of each, the details their claims, files and code."""
    made, page = site
    table = page.part("table")
    assert table["rows"] == 4
    assert page.head()["proof"]["golden"] == {"replays": 4, "differs": 0, "not replayed": 0, "none": 0}
    details = page.part("details-0")
    assert [one["id"] for one in details] == [artifact.id for artifact in open_release(release)]
    assert all({"recipes", "semantics", "files", "golden", "sites"} <= one.keys() for one in details)
    assert made.size < 1_500_000


def test_nothing_of_this_machine_is_in_the_page(site, release):
    """Neither the folder of the release nor a reference through it."""
    _, page = site
    texts = [page.scripts["head"], json.dumps(page.part("table")), json.dumps(page.part("details-0"))]
    assert not [text for text in texts if str(release) in text or str(release.parent) in text]


def test_the_same_release_gives_the_same_bytes(site, release, tmp_path):
    """From another folder too: no date, no path, no order of a set is in the page."""
    again = tmp_path / "elsewhere"
    make_site(open_release(release), again, level="layout")
    for name in ("index.html", "README.md"):
        assert (again / name).read_bytes() == (site[0].folder / name).read_bytes()


def test_an_attack_is_data_in_the_page(tmp_path):
    """A release whose every word tries to break out gives a page with the same elements, and the words are there."""
    made = make_site(open_release(hostile(tmp_path)), tmp_path / "page", level="layout")
    page = Page((made.folder / "index.html").read_text(encoding="utf-8"))
    assert page.head()["release"]["title"] == ATTACK
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "link", "title", "script", "style", "body"),
        *("a", "header", "main", "div", "h1", "noscript", "p", "footer"),
    }
    assert "usermeta" not in page.part("figure-0")
    card = (made.folder / "README.md").read_text()
    assert "sdk: static\n" in card
    import yaml

    assert yaml.safe_load(card.split("---\n")[1])["title"] == ATTACK


def test_a_folder_that_holds_something_else_is_not_taken(release, tmp_path):
    """A stranger's index.html, any other file, a file where the folder would be, the release; a page is replaced."""
    opened = open_release(release)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"index\.html, which is no page of saereg"):
        make_site(opened, tmp_path, level="layout")
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        make_site(opened, tmp_path, level="layout")
    with pytest.raises(UsageError, match="is a file"):
        make_site(opened, tmp_path / "thesis.tex", level="layout")
    with pytest.raises(UsageError, match="is in the release"):
        make_site(opened, release / "page", level="layout")
    assert (tmp_path / "index.html").read_text() == "mine"
    make_site(opened, tmp_path, level="layout", force=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    (tmp_path / "thesis.tex").unlink()
    (tmp_path / "README.md").write_text("my own words\n")
    make_site(opened, tmp_path, level="layout", wanted=Wanted(place="hf://org/name"))
    assert (tmp_path / "README.md").read_text() == "my own words\n"
    assert "hf://org/name" in json.dumps(Page((tmp_path / "index.html").read_text()).part("details-0"))


def test_without_the_extra_the_page_says_so(release, tmp_path, monkeypatch):
    """No table and no plots of others: our own table stands in, and one line names the extra."""
    monkeypatch.setattr(making, "libraries", lambda: Libraries(None, "", None, {}))
    made = make_site(open_release(release), tmp_path / "page", level="layout")
    assert made.left_out == (NO_PLOTS,)
    assert made.size < 200_000


def test_a_link_out_of_a_release_is_not_followed(release, tmp_path):
    """What a release names as its feature view may be a link to a file of the reader: nothing of it is on the page."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    secret = tmp_path / "secret.log"
    secret.write_text('{"step": 1, "loss": 31337}\n{"step": 2, "loss": 31337}\n')
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["artifacts"][0]["training"] = {"log": "layer_1/topk/training.log"}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "layer_1/topk/training.log").symlink_to(secret)
    make_site(open_release(copy), tmp_path / "page", level="layout")
    page = Page((tmp_path / "page/index.html").read_text())
    assert "31337" not in json.dumps(page.part("details-0"))
    (copy / "layer_1/topk/training.log").unlink()
    (copy / "layer_1/topk/training.log").write_text(secret.read_text())
    make_site(open_release(copy), tmp_path / "page", level="layout")
    assert "31337" in json.dumps(Page((tmp_path / "page/index.html").read_text()).part("details-0"))


def test_our_modules_are_one_without_imports_and_each_is_short():
    """Every module is in the list, its imports come before it, and what it exports is declared once."""
    code = own_code()
    assert "import {" not in code
    assert not re.search(r"^export ", code, re.MULTILINE)
    assert {path.stem for path in ASSETS.glob("*.js")} == {*MODULES, "first"}
    declared = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", code, re.MULTILINE)
    assert sorted(set(declared)) == sorted(declared)
    for position, name in enumerate(MODULES):
        text = (ASSETS / f"{name}.js").read_text(encoding="utf-8")
        assert len(text.splitlines()) < 400
        assert "innerHTML" not in text
        for imported in re.findall(r'from "\./(\w+)\.js"', text):
            assert MODULES.index(imported) < position


def test_a_module_with_one_default_becomes_a_global():
    """The bundle of another make, with none or two, is refused and not guessed at."""
    assert as_global("var a=1;export{a as default,b as other};", "T") == "var a=1;globalThis.T=a;"
    with pytest.raises(ValueError, match="0 defaults"):
        as_global("var a=1;", "T")


def test_a_feature_view_of_other_weights_is_not_on_the_page(tmp_path):
    """What latents did before the weights changed is no evidence of them."""
    made = adorned(tmp_path / "made")
    view = made / "layer_1/topk/features.json"
    text = view.read_text()
    opened = open_release(made)
    assert feature_view(opened["layer_1/topk"]) is not None
    view.write_text(text.replace(json.loads(text)["weights_sha256"], "0" * 64))
    assert feature_view(opened["layer_1/topk"]) is None

"""Every page of the guide that shows a way is gone, block by block, on miniature data."""

from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from huggingface_hub.utils import disable_progress_bars

from saereg.publishers.hub import asking, committing
from saereg.publishers.local_hub import local_hub
from tests.docs.material import MATERIAL
from tests.docs.tutorial import run_page

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = sorted(path for path in (DOCS / "tutorials").glob("*.md") if path.stem != "index")
PAGES = [*TUTORIALS, DOCS / "first-release.md"]


@pytest.fixture
def server(tmp_path):
    """An empty hub on this machine, in the place of the other."""
    with local_hub(tmp_path / "hub", xet=False) as found:
        yield found


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The hub that this process asks, a token, and an empty cache; none of them is the reader's own."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for module in (asking, committing):
        monkeypatch.setattr(module, "PAUSE", 0.001)
    disable_progress_bars()
    yield server
    close_session()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_shows(page, hub, tmp_path, monkeypatch):
    """From its first block to its last, in one folder."""
    folder = tmp_path / page.stem
    folder.mkdir()
    monkeypatch.setenv("SAEREG_CATALOG", str(tmp_path / "catalog.sqlite"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    MATERIAL[page.stem](folder)
    run_page(page, folder)


def test_every_page_has_its_material():
    """And there is no material that no page uses."""
    assert sorted(MATERIAL) == sorted(page.stem for page in PAGES)
